"""A model and a dataset small enough to train in a second, and stock Ultralytics in processes of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml

ROOT = Path(__file__).parents[2]

TINY = """
nc: 2
scales: # [depth, width, max_channels]
  n: [1.0, 0.5, 64]
  s: [1.0, 1.0, 64]
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, HaloAttention, [2, 1, 8, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 2, C2PSAMLLA, [32]]
head:
  - [-1, 1, Conv, [32, 3, 2]]
  - [-1, 1, MLLAttention, []]
  - [[4, 6], 1, Detect, [nc]]
"""


def description(**changes: Any) -> dict[str, Any]:
    """The tiny model as Ultralytics reads it, at scale n."""
    return {**yaml.safe_load(TINY), "scale": "n", "yaml_file": "tiny.yaml", **changes}


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


def write_dataset(root: Path) -> Path:
    """Bright squares and dark bars on noise, 64 x 64 or 64 x 48 pixels."""
    rng = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 3)):
        images, labels = root / "images" / split, root / "labels" / split
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for i in range(count):
            h = 48 if i % 3 == 2 else 64
            picture = rng.integers(64, 192, (h, 64, 3), dtype=np.uint8)
            picture[8:24, 8:24], picture[28:44, 24:32] = 255, 0
            cv2.imwrite(str(images / f"{i}.png"), picture)
            (labels / f"{i}.txt").write_text(f"0 0.25 {16 / h} 0.25 {16 / h}\n1 0.4375 {36 / h} 0.125 {16 / h}\n")
    file = root / "data.yaml"
    file.write_text(f"path: {root}\ntrain: images/train\nval: images/val\nnames: {{0: square, 1: bar}}\n")
    return file


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


@pytest.fixture
def python(tmp_path: Path) -> Callable[..., str]:
    """Run code in a fresh process in an empty folder; returns what it wrote, fails with it if it failed."""

    def run(code: str, *args: str, **env: str) -> str:
        path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
        done = subprocess.run(
            [sys.executable, "-c", code, *args],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **env},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    return run
