"""``python -m yolomix.studying.child FOLDER``: the process of one run of a study.

It reads ``spec.json`` in the folder and leaves ``record.npz`` there. Killed at any moment and started again, it goes on
after the last finished epoch. On stdout is a line of JSON for every epoch; what Ultralytics prints is in ``log.txt``.

With ``--probe`` it trains nothing and prints what the training would begin with (:func:`yolomix.host.training.probe`).

Exit codes: 0 finished, 1 failed or diverged (the record says why), 2 no usable spec, 128 + n ended by signal n.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

LOG = "log.txt"
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")


def main(words: Sequence[str]) -> int:
    """Do what the module says; returns the exit code."""
    probing = "--probe" in words
    folders = [word for word in words if word != "--probe"]
    if len(folders) != 1:
        sys.stderr.write(f"a run needs one folder with spec.json in it, got {folders}\n")
        return 2
    folder = Path(folders[0]).resolve()
    try:
        threads = _pin_threads(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        sys.stderr.write(f"{folder} has to hold spec.json with facts.threads: {error}; start the study again\n")
        return 2
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _leave)
    with _output_to(folder / LOG) as stdout:
        try:
            return (_probe if probing else _run)(folder, threads, stdout)
        except Exception:
            traceback.print_exc()  # into the log, where the queue looks for the reason
            raise


def _pin_threads(folder: Path) -> int:
    """Set the number of threads before anything reads it; returns it."""
    threads = int(json.loads((folder / "spec.json").read_text("utf-8"))["facts"]["threads"])
    if threads < 1:
        raise ValueError(f"threads must be at least 1, got {threads}")
    os.environ.update(dict.fromkeys(THREADS, str(threads)))
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads sleep: other runs need the cores
    return threads


def _run(folder: Path, threads: int, stdout: TextIO) -> int:
    from yolomix.host import offline

    offline.prepare()
    from yolomix.host import training
    from yolomix.studying import running
    from yolomix.studying.record import RECORD, SPEC, Record, RunSpec

    training.pin_threads(threads)
    if (folder / RECORD).exists() and Record.load(folder / RECORD).status == "finished":
        return 0

    def _say(line: dict[str, Any]) -> None:
        text = json.dumps(line) + "\n"
        sys.stdout.write(text)  # into the log
        sys.stdout.flush()
        try:
            stdout.write(text)
            stdout.flush()
        except OSError:  # the queue is gone, which is no fault of the run: its state stays
            os.dup2(os.open(os.devnull, os.O_WRONLY), stdout.fileno())
            sys.exit(1)

    record = running.run(RunSpec.read(folder / SPEC), folder, _say)
    return 0 if record.status == "finished" else 1


def _probe(folder: Path, threads: int, stdout: TextIO) -> int:
    from yolomix.host import offline

    offline.prepare()
    from yolomix.host import training
    from yolomix.studying import running
    from yolomix.studying.record import SPEC, RunSpec

    training.pin_threads(threads)
    spec = RunSpec.read(folder / SPEC)
    with tempfile.TemporaryDirectory() as aside:
        found = training.probe(spec.model, running.training_arguments(spec, Path(aside) / "probe"))
    stdout.write(json.dumps(found) + "\n")
    return 0


def _leave(number: int, frame: FrameType | None) -> None:
    """End quietly: the state of the last finished epoch stays."""
    sys.exit(128 + number)


@contextmanager
def _output_to(file: Path) -> Iterator[TextIO]:
    """Append what this process and its children print to a file; yields what stdout was."""
    sys.stdout.flush()
    stderr = os.dup(2)
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stdout, file.open("ab") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
        try:
            yield stdout
        finally:
            sys.stdout.flush()
            os.dup2(stdout.fileno(), 1)
            os.dup2(stderr, 2)
            os.close(stderr)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
