"""What every test has at hand: stored numbers, tolerances, and what did not run, said in the summary."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Before Ultralytics is imported anywhere: no calls home, no installs, no spinning threads on shared machines.
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# Settings of their own, so that no test reads or changes those of the user.
if "YOLO_CONFIG_DIR" not in os.environ:
    os.environ["YOLO_CONFIG_DIR"] = tempfile.mkdtemp(prefix="yolomix-tests-")
    atexit.register(shutil.rmtree, os.environ["YOLO_CONFIG_DIR"], ignore_errors=True)

import pytest
import torch

from tests import fresh
from tests.tiny import TINY, write_dataset

torch.set_num_threads(1)
gc.set_threshold(20_000, 20, 50)  # half a million objects live as long as the process: looking through them takes time


NOT_RUN = {
    "GPU check did not run": "GPU checks",
    "browser check did not run": "browser checks",
    "pytorch-grad-cam check did not run": "checks with pytorch-grad-cam",
    "heavy: runs with YOLOMIX_TEST_FULL=1": "heavy checks",
}
"""What the reason of a skipped check begins with, and what the summary calls those that did not run."""


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Say how many checks are too heavy, or need a GPU or a browser that is not here."""
    skipped = terminalreporter.stats.get("skipped", [])
    for reason, what in NOT_RUN.items():
        count = sum(reason in str(report.longrepr) for report in skipped)
        if count:
            terminalreporter.write_line(f"{count} {what} did not run")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what is slow, so that no worker is alone with it at the end."""
    items.sort(key=lambda item: "slow" not in item.keywords)


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model's YAML, named so that the scale letter can be given: ``yolo0n-tiny.yaml``."""
    file = tmp_path_factory.mktemp("model") / "yolo0-tiny.yaml"
    file.write_text(TINY)
    return file.with_name("yolo0n-tiny.yaml")


@pytest.fixture(scope="session")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data.yaml of six pictures for training and three for validation, not all square."""
    return write_dataset(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session")
def settings(dataset: Path) -> dict[str, Any]:
    """What every training here has in common."""
    return {
        "data": str(dataset),
        "imgsz": 64,
        "batch": 3,
        "workers": 0,
        "plots": False,
        "verbose": False,
        "device": "cpu",
        "exist_ok": True,
    }


@pytest.fixture(scope="session")
def trained(tiny: Path, settings: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """best.pt of one epoch."""
    import yolomix

    model = yolomix.YOLO(tiny)
    model.train(**settings, epochs=1, project=str(tmp_path_factory.mktemp("runs")), name="trained")
    return Path(model.trainer.best)


@pytest.fixture(scope="module")
def few_repetitions() -> Iterator[None]:
    """A profile times two or three calls: what is tested is not how long they take."""
    from yolomix.profiling import latency, measuring

    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"LEAST": 2, "MOST": 3, "WARM": 1, "WARM_SECONDS": 0.1}.items():
            patch.setattr(latency, name, value)
        patch.setattr(measuring, "PASSES", 2)
        yield


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Run code in a fresh process in an empty folder; returns what it wrote, fails with it if it failed."""

    def run(code: str, *args: str, **env: str) -> str:
        done = fresh.run(code, *args, cwd=tmp_path, **env)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    return run
