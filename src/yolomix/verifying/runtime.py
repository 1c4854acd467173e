"""An exported file in the process of its own: opened, asked, and ended when it hangs."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from yolomix import files
from yolomix.host.predicting import Detections

Arrays = list[npt.NDArray[Any]]
PATIENCE = 300.0  # seconds for one answer
TOLD = 6  # lines of an error


class RefusedError(RuntimeError):
    """The runtime refuses the file or an input, or hangs; the text says what it said."""


class MissingError(RuntimeError):
    """A package that opens the file is not installed; ``name`` is its module."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


class Pass(NamedTuple):
    """One pass through the file."""

    outputs: Arrays
    seconds: float
    cpu: float  # seconds of the processor


class Runtime:
    """An exported file, open in its own runtime in a process of its own until the block ends.

    Args:
        file: the file, or the folder.
        threads: as many as PyTorch has.
        device: where it computes.

    Raises:
        MissingError: a package is not installed.
        RefusedError: the file does not open.
    """

    def __init__(self, file: str | Path, threads: int, device: str = "cpu") -> None:
        self.file, self.device = Path(file), device
        self._folder = tempfile.TemporaryDirectory(prefix="yolomix-verify-", ignore_cleanup_errors=True)
        self._start()
        try:
            self.opened = self._ask({"file": str(file), "device": device, "threads": threads})
        except BaseException:
            self.close()
            raise
        self.memory = 0.0  # megabytes that opening and running have added to the process, at most

    def _start(self) -> None:
        self._said = tempfile.TemporaryFile()  # noqa: SIM115, until the process has ended
        self._process = subprocess.Popen(
            [sys.executable, "-m", "yolomix.verifying.child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            encoding="utf-8",
        )

    def run(self, images: npt.NDArray[np.floating]) -> Pass:
        """One pass.

        Args:
            images: (B, C, H, W), float32.

        Raises:
            RefusedError: the runtime refuses them, or does not answer in time.
        """
        answer, outputs = self._do("run", images)
        self.memory = max(self.memory, answer["memory"] - self.opened["memory"])
        return Pass(outputs, answer["seconds"], answer["cpu"])

    def evaluate(self, *given: Any) -> Any:
        """What ``evaluate`` of ``child.py`` finds; it may take as long as it takes.

        Raises:
            RefusedError: it fails.
        """
        return self._do("evaluate", given, limited=False)[1]

    def predict(self, *given: Any) -> list[Detections]:
        """What ``predict`` of ``child.py`` finds; it may take as long as it takes.

        Raises:
            RefusedError: it fails.
        """
        found: list[Detections] = self._do("predict", given, limited=False)[1]
        return found

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._said.close()
        self._folder.cleanup()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _do(self, what: str, given: Any, limited: bool = True) -> tuple[dict[str, Any], Any]:
        given_file, out = (Path(self._folder.name, name) for name in ("given.pickle", "out.pickle"))
        files.write(given_file, pickle.dumps(given), flush=False)
        answer = self._ask({"do": what, "given": str(given_file), "out": str(out)}, limited)
        return answer, pickle.loads(out.read_bytes())

    def _ask(self, request: dict[str, Any], limited: bool = True) -> dict[str, Any]:
        process = self._process
        assert process.stdin is not None
        assert process.stdout is not None
        hangs = threading.Event()

        def _end() -> None:
            hangs.set()
            process.kill()

        timer = threading.Timer(PATIENCE, _end)
        try:
            if limited:
                timer.start()
            try:
                process.stdin.write(json.dumps(request) + "\n")
                process.stdin.flush()
            except BrokenPipeError:  # it has ended; why is read below
                pass
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if hangs.is_set():
            raise RefusedError(f"it did not answer within {PATIENCE:.0f} s and was ended")
        if not line:
            raise RefusedError(f"its process ended with {process.wait()}: {self._last_words()}")
        return self._told(json.loads(line))

    @staticmethod
    def _told(answer: dict[str, Any]) -> dict[str, Any]:
        """The answer, unless it says that something went wrong."""
        if "missing" in answer:
            raise MissingError(answer["missing"])
        if "error" in answer:
            raise RefusedError(_shortened(answer["error"].splitlines()))
        return answer

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", "replace").splitlines()
        return _shortened([line for line in lines if line.strip()][-TOLD:]) or "it said nothing"


def _shortened(lines: Sequence[str]) -> str:
    return " ".join(line.strip() for line in lines[:TOLD])[:600]
