"""One case in one forked child, in an empty folder, under limits.

Importing takes seconds, so the parent has imported everything; and it has run nothing, because threads do not survive a
fork: a parent whose OpenMP or Numba threads have started must not be one.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tests.faults import judge
from tests.faults.kind import Bad, Case, Kind, Limits

ENDED = "end"  # what a walk answers when nothing failed any more


@dataclass(frozen=True)
class Outcome:
    """What became of one case.

    Attributes:
        word: ``built``, ``refused``, ... or what is wrong in a word.
        text: what is wrong, and what the case wrote; empty where nothing is.
        seconds: CPU time.
        memory: GiB at the peak.
    """

    word: str
    text: str = ""
    seconds: float = 0.0
    memory: float = 0.0

    @property
    def bad(self) -> bool:
        """Whether this is a failure."""
        return bool(self.text)


def attempt(kind: Kind, case: Case) -> Outcome:
    """Do one case of a kind in a child."""
    if judge.threads() > 1:
        raise RuntimeError(f"this process runs {judge.threads()} threads, and one with threads must not fork")
    # resolved, since some systems reach their temporary folder through a link
    folder = Path(tempfile.mkdtemp(prefix="yolomix-fault-")).resolve()
    read, write = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 on forks with threads; there are none
        pid = os.fork()
    if pid == 0:
        os.close(read)
        _child(kind, case, folder, write)
    os.close(write)
    try:
        answer, usage, status = _wait(pid, read, kind.limits.wall)
        log = _tail(folder / ".log")
    finally:
        os.close(read)
        _remove(folder)
    return _outcome(kind.limits, answer, usage, status, log)


def _child(kind: Kind, case: Case, folder: Path, pipe: int) -> None:
    """Run the case and end this process; never returns."""
    code = 1
    try:
        os.setsid()  # a group of its own: whatever it starts is killed with it
        work = folder / "work"
        work.mkdir()
        os.chdir(work)
        log = os.open(folder / ".log", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.environ.update(HOME=str(folder), TMPDIR=str(folder), YOLO_CONFIG_DIR=str(folder / "config"))
        tempfile.tempdir = None
        _write_here(work)
        _limit(kind.limits)
        result = _judged(kind, case)
        os.write(pipe, json.dumps(result)[:60_000].encode())
        code = 0
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _write_here(work: Path) -> None:
    """Let what Ultralytics read from its settings when it was imported mean this folder."""
    folders = {"RUNS_DIR": work / "runs", "DATASETS_DIR": work / "datasets", "WEIGHTS_DIR": work / "weights"}
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] == "ultralytics":
            vars(module).update({key: folder for key, folder in folders.items() if key in vars(module)})
    if utils := sys.modules.get("ultralytics.utils"):
        for key, folder in folders.items():
            dict.__setitem__(utils.SETTINGS, key.lower(), str(folder))


def _judged(kind: Kind, case: Case) -> dict[str, Any]:
    """The outcome of a case, as far as the child itself can tell."""
    seen = judge.watch()
    try:
        outcome = Outcome(kind.check(case))
    except Bad as error:
        outcome = Outcome("bad", str(error) or "bad")
    except BaseException as error:  # noqa: BLE001  what may come out is the question
        outcome = Outcome("refused")
        if not judge.is_ours(error) and kind.theirs(error):
            outcome = Outcome("refused by Ultralytics")
        elif not judge.is_ours(error):
            outcome = Outcome(type(error).__name__, judge.described(error))
    if kind.runs_nothing and seen and not outcome.bad:
        outcome = Outcome("started", "\n".join(seen[:10]))
    return {"word": outcome.word, "text": outcome.text}


def _limit(limits: Limits) -> None:
    mapped = 0
    for line in Path("/proc/self/status").read_text().splitlines() if os.path.exists("/proc/self/status") else ():
        if line.startswith("VmSize:"):
            mapped = int(line.split()[1]) * 1024
    if mapped:
        resource.setrlimit(resource.RLIMIT_AS, (mapped + int(limits.memory * 2**30),) * 2)
    size = int(limits.file * 2**20)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    seconds = int(limits.wall)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))  # where nobody is left to end it
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def _wait(pid: int, pipe: int, wall: float) -> tuple[bytes, Any, int | None]:
    """What the child said, what it used and how it ended; None if it had to be killed."""
    answer, deadline, hangs = b"", time.monotonic() + wall, False
    os.set_blocking(pipe, False)
    while True:
        select.select([pipe], [], [], 0.02)  # not until its end: what the child forked holds the pipe open too
        ended, status, usage = os.wait4(pid, os.WNOHANG)
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(pipe, 65536):
                answer += piece
        if ended:
            break
        if time.monotonic() > deadline:
            hangs = True
            _end_group(pid)
            _, status, usage = os.wait4(pid, 0)
            break
    _end_group(pid)  # what it left running
    return answer, usage, None if hangs else status


def _end_group(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def _outcome(limits: Limits, answer: bytes, usage: Any, status: int | None, log: str) -> Outcome:
    used = usage.ru_utime + usage.ru_stime
    # kibibytes on Linux, bytes on macOS
    peak = usage.ru_maxrss / (2**30 if sys.platform == "darwin" else 2**20)
    if status is None:
        return Outcome("hangs", f"still running after {limits.wall:.0f} s\n{log}", used, peak)
    try:
        said = json.loads(answer)
    except ValueError:
        how = f"signal {os.WTERMSIG(status)}" if os.WIFSIGNALED(status) else f"exit code {os.WEXITSTATUS(status)}"
        return Outcome("died", f"the process ended by {how}\n{log}", used, peak)
    outcome = Outcome(said["word"], said["text"] and f"{said['text']}\n{log}", used, peak)
    if not outcome.bad and used > limits.seconds:
        return Outcome("slow", f"{used:.1f} s of CPU time, {limits.seconds} allowed", used, peak)
    if not outcome.bad and peak > limits.memory:
        return Outcome("large", f"{peak:.2f} GiB at the peak, {limits.memory} allowed", used, peak)
    return outcome


def kept(kind: Kind, case: Case, outcome: Outcome, folder: Path) -> Path:
    """Keep a failing case as a file that ``python -m tests.faults --case`` runs again."""
    import hashlib

    key = hashlib.sha256(json.dumps([kind.name, case], sort_keys=True).encode()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{kind.name}-{key}.json"
    file.write_text(json.dumps({"kind": kind.name, "case": case, "outcome": asdict(outcome)}, indent=1))
    return file


def _tail(log: Path) -> str:
    return log.read_text("utf-8", "replace")[-1500:] if log.is_file() else ""


def _remove(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_dir() and not path.is_symlink():
            with contextlib.suppress(OSError):
                path.chmod(0o700)  # a case may have made it read-only
    shutil.rmtree(folder, ignore_errors=True)
