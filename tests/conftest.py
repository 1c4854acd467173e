"""What every test has at hand: stored numbers, tolerances, and what did not run, said in the summary."""

from __future__ import annotations

import atexit
import os
import shutil
import tempfile
from typing import Any

# Before Ultralytics is imported anywhere: no calls home, no installs, no spinning threads on shared machines.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Settings of their own, so that no test reads or changes those of the user.
if "YOLO_CONFIG_DIR" not in os.environ:
    os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="yolomix-tests-")
    atexit.register(shutil.rmtree, os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)

import torch

torch.set_num_threads(1)


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many checks need a GPU that is not here."""
    skipped = terminalreporter.stats.get("skipped", [])
    count = sum("GPU check did not run" in str(report.longrepr) for report in skipped)
    if count:
        terminalreporter.write_line(f"{count} GPU checks did not run")
