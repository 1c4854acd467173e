"""Fresh Python processes, each a fork of one that has imported what is slow to import and has done nothing else.

PyTorch and what Ultralytics brings take five seconds to import; a fork starts where they are done. Neither yolomix nor
Ultralytics nor Numba is imported before. A test of what an import costs or loads needs ``sys.executable``
instead, and so does one that leaves no room for files: output goes to files.
"""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.tiny import ROOT

SERVER = Path(__file__).with_name("fresh_server.py")
FORKS = sys.platform == "linux"  # libraries of macOS may not be used in a fork, and Windows has none

STRICT = "import warnings; warnings.simplefilter('error', RuntimeWarning)\n"
"""In front of code that is to fail of such a warning: a fork has read ``PYTHONWARNINGS`` already."""

Done = subprocess.CompletedProcess[str]


def run(code: str, *words: str, cwd: Path | None = None, **variables: str) -> Done:
    """``python -c CODE WORDS`` on one thread, with the variables beside those of this process; output as text."""
    return run_together([code], *words, cwd=cwd, **variables)[0]


def run_together(codes: list[str], *words: str, cwd: Path | None = None, **variables: str) -> list[Done]:
    """A process for each code, all at the same time."""
    env = _environment() | variables
    with tempfile.TemporaryDirectory() as folder:
        outputs = [(f"{folder}/{i}.out", f"{folder}/{i}.err") for i in range(len(codes))]
        jobs = [
            {"code": code, "words": words, "cwd": str(cwd or Path.cwd()), "env": env, "out": out, "err": err}
            for code, (out, err) in zip(codes, outputs, strict=True)
        ]
        exits = _forked(jobs) if FORKS else _started(jobs)
        return [
            Done(words, code, Path(out).read_text("utf-8"), Path(err).read_text("utf-8"))
            for code, (out, err) in zip(exits, outputs, strict=True)
        ]


def _forked(jobs: list[dict]) -> list[int]:
    server = _server()
    print(json.dumps(jobs), file=server.stdin, flush=True)
    return json.loads(server.stdout.readline())


def _started(jobs: list[dict]) -> list[int]:
    running = []
    for job in jobs:
        command = [sys.executable, "-c", job["code"], *job["words"]]
        with open(job["out"], "w") as out, open(job["err"], "w") as err:
            running.append(subprocess.Popen(command, cwd=job["cwd"], env=job["env"], stdout=out, stderr=err))
    return [process.wait() for process in running]


def _environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}


@functools.cache
def _server() -> subprocess.Popen[str]:
    """The process to fork, one for each process of tests; it ends with it, when nothing more can be asked."""
    # -P: not the folder of tests first, whose packages have names of modules of Python (statistics).
    return subprocess.Popen([sys.executable, "-P", SERVER], env=_environment(), stdin=-1, stdout=-1, text=True)
