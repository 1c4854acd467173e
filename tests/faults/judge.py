"""Whether an exception is one that a user may meet, and whether anything was started or asked for."""

from __future__ import annotations

import dis
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

_SPEC = importlib.util.find_spec("yolomix")  # found, not imported: some kinds begin before that
assert _SPEC is not None
SOURCE = str(Path(str(_SPEC.origin)).parent)
# What a file of a stranger must never bring about. Python tells an audit hook of each before it happens.
STARTS = ("os.system", "os.exec", "os.posix_spawn", "os.spawn", "subprocess.Popen", "pty.spawn")
# PyTorch, Python, matplotlib and, in Ultralytics 8.3.0 until it keeps the answer, py-cpuinfo ask what the machine has.
ASKS = ("xpu-smi", "nvidia-smi", "file", "fc-list", "uname", "cpuinfo.py")
CONNECTS = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "urllib.Request")


def is_ours(error: BaseException) -> bool:
    """Whether yolomix raised the error itself, with words, and not an operation that failed inside it."""
    return raised_in(error, "yolomix")


def raised_in(error: BaseException, package: str) -> bool:
    """Whether a statement of a package raised the error, with words."""
    last = _last(error.__traceback__)
    if last is None or not str(error).strip():
        return False
    code = last.tb_frame.f_code
    raised = {"RAISE_VARARGS", "RERAISE"}
    here = [i.opname for i in dis.get_instructions(code) if i.offset == last.tb_lasti]
    source = SOURCE if package == "yolomix" else f"{os.sep}{package}{os.sep}"
    return source in code.co_filename and bool(raised & set(here))


def described(error: BaseException) -> str:
    """The error's words, the causes that it names, and the last places that it came through."""
    places = [f"{Path(f.filename).name}:{f.lineno} {f.name}" for f in traceback.extract_tb(error.__traceback__)]
    words = "".join(traceback.format_exception_only(error)).strip()
    return f"{words[:700]}\n  from {' > '.join(places[-6:])}"


def watch() -> list[str]:
    """A list that grows by a line for every program started and every connection opened, from now on."""
    seen: list[str] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and _program(*args[:2]) in ASKS:
            return
        if event in STARTS or event in CONNECTS:
            seen.append(f"{event} {args!r}"[:300])

    sys.addaudithook(hook)
    return seen


def _program(executable: Any, words: Any) -> str:
    """The name of what is started: of the script, where that is Python."""
    if executable == sys.executable and len(words) > 1:
        return Path(str(words[1])).name
    return str(executable)


def threads() -> int:
    """How many threads this process has, or 0 where that cannot be asked."""
    tasks = Path("/proc/self/task")
    return len(os.listdir(tasks)) if tasks.is_dir() else 0


def _last(tb: TracebackType | None) -> TracebackType | None:
    while tb is not None and tb.tb_next is not None:
        tb = tb.tb_next
    return tb
