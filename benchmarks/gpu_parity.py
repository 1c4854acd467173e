"""Parity on a GPU: every test that needs one, each with a row; of what fails, traceback and inputs are kept."""

from __future__ import annotations

from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
import torch

from benchmarks.gpu_record import BROKEN, FAILED, Key, Record, answers, key

ROOT = Path(__file__).parents[1]
FILES = ("tests/ops/test_triton_gpu.py", "tests/ops/test_ss2d.py", "tests/ops/test_selective_scan.py",
         "tests/profiling/test_gpu.py")  # fmt: skip
INPUTS = ("scan_leaves", "map_leaves")  # functions of tests.ops.triton_cases that make the inputs of a test
FEW = ""  # what a rehearsal selects, as pytest's -k


class Rows:
    """A pytest plugin: it leaves the tests that are still to run, and writes a row for each."""

    def __init__(self, record: Record):
        self.record = record
        self.inputs: list[object] = []
        self.failed: dict[str, list[object]] = {}
        self.broken = False

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave those that need a GPU and have no row."""
        keys = {item.nodeid: name(item.nodeid) for item in items if needs_gpu(item)}
        todo = set(self.record.todo(keys.values()))
        items[:] = [item for item in items if keys.get(item.nodeid) in todo]

    def remember(self, make: Callable[..., list[object]]) -> Callable[..., list[object]]:
        """The same function; what it returned last is kept if the test fails."""

        def made(*args: Any) -> list[object]:
            found = make(*args)
            self.inputs = [x.detach().cpu() if isinstance(x, torch.Tensor) else x for x in found]
            return found

        return made

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, Any, Any]:
        """Forget the inputs of the test before."""
        self.inputs = []
        return (yield)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Write what came out of a test, or of its fixtures if they failed."""
        if report.when == "call" and report.passed:
            self.record.add(name(report.nodeid), {"note": f"passed in {report.duration:.2f} s"})
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else report.longreprtext
            self.record.add(name(report.nodeid), {"note": str(reason).partition("\n")[0]})
        elif report.failed:
            self.failed[report.nodeid] = self.inputs
            torch.save(self.failed, self.record.path.with_name("failures.pt"))
            text = report.longreprtext
            self.record.add(name(report.nodeid), {"note": f"failed in {report.when}", FAILED: text[-6000:]})
            if not answers():
                self.broken = True
                pytest.exit("the GPU answers nothing any more")


def name(nodeid: str) -> Key:
    """The key of a test."""
    return key(nodeid, mode="parity")


def needs_gpu(item: pytest.Item) -> bool:
    """Whether a test is of a file about GPUs, or of a backend that serves them."""
    row = getattr(item, "callspec", None) and item.callspec.params.get("row")  # type: ignore[attr-defined]
    return item.path.stem.endswith("_gpu") or getattr(row, "device", None) == "cuda"


def run(record: Record) -> None:
    """Run what is left of the tests.

    Raises:
        RuntimeError: pytest could not collect or run them.
        SystemExit: after a failure the GPU answers nothing in this process any more.
    """
    from tests.ops import triton_cases

    rows = Rows(record)
    words = [
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "-k",
        FEW,
        f"--rootdir={ROOT}",
        *(str(ROOT / f) for f in FILES),
    ]
    remembered: dict[str, Any] = {which: rows.remember(getattr(triton_cases, which)) for which in INPUTS}
    with patch.multiple(triton_cases, **remembered):
        code = pytest.main(words, plugins=[rows])
    if rows.broken:
        raise SystemExit(BROKEN)
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED, pytest.ExitCode.NO_TESTS_COLLECTED):
        raise RuntimeError(f"pytest ended with {code!r}; lease.log has what it said")
