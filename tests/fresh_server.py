"""The process that ``tests.fresh`` forks: it imports what is slow and waits for requests, a line of JSON each.

A fork leaves the loop and runs the code that it was asked to.
"""

from __future__ import annotations

import atexit
import json
import os
import sys
import threading
import traceback
from typing import Any

import cv2  # noqa: F401
import matplotlib.pyplot  # noqa: F401
import requests  # noqa: F401
import torchvision  # noqa: F401, and with it NumPy, Pillow, PyTorch and its compiler


def asked() -> dict[str, Any]:
    """In a fork: what it is to run. The server itself answers each list of these with their exit codes."""
    for line in sys.stdin:
        children = []
        for job in json.loads(line):
            children.append(os.fork())
            if children[-1] == 0:
                return job
        print(json.dumps([os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]), flush=True)
    sys.exit()


def become(job: dict[str, Any]) -> str:
    """Take over the arguments, variables, folder and files of a job; returns its code."""
    new = os.O_WRONLY | os.O_CREAT | os.O_APPEND
    for number, name, flags in ((0, os.devnull, os.O_RDONLY), (1, job["out"], new), (2, job["err"], new)):
        os.dup2(os.open(name, flags), number)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    sys.argv[:] = ["-c", *job["words"]]
    sys.path.insert(0, "")
    return job["code"]


def exit_code(code: str) -> int:
    """Run the code as a program."""
    try:
        exec(compile(code, "<string>", "exec"), {"__name__": "__main__"})
    except SystemExit as end:
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001, whatever ends a program
        traceback.print_exc()
        return 1
    return 0


if __name__ == "__main__":
    ended = exit_code(become(asked()))
    # What a process does at its end, up to taking all modules apart: that takes three seconds here.
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(ended)
