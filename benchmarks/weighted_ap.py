"""AP under weightings of images, on a CPU: ``python -m benchmarks.weighted_ap [--out FILE.csv] [--quick]``.

2,000 weightings of a run of the size of COCO's val, beside one call of Ultralytics' ``ap_per_class``, which takes none.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from ultralytics.utils.metrics import ap_per_class, compute_ap

from benchmarks.cpu_timing import QUICK, Effort, interleaved
from benchmarks.table import Table, file_for
from yolomix.statistics import Matches, average_precision, has_ramp, weightings

CAREFUL = Effort(5, 60.0)
EXACT = 1e-12


class Size(NamedTuple):
    """Of a run."""

    images: int
    classes: int
    per_image: int
    labels: int
    weightings: int

    def __str__(self) -> str:
        return (
            f"{self.images} images x {self.per_image} detections, {self.classes} classes, {self.weightings} weightings"
        )


COCO, TINY = Size(5000, 80, 300, 36_000, 2000), Size(20, 3, 10, 60, 40)


def drawn(size: Size, rng: np.random.Generator) -> Matches:
    """Detections of which most are false and of low confidence; classes are as unequal as those of COCO."""
    share = rng.dirichlet(np.full(size.classes, 0.3))
    target, target_image = rng.choice(size.classes, size.labels, p=share), rng.integers(0, size.images, size.labels)
    found = rng.random(size.labels) < 0.85
    true, count = int(found.sum()), size.images * size.per_image
    tp = np.zeros((count, 10), dtype=bool)
    tp[:true] = np.arange(10) < rng.integers(1, 11, (true, 1))
    false = count - true
    return Matches(
        tp=tp,
        confidence=np.concatenate([rng.beta(4, 3, true), rng.beta(0.5, 6, false)]).astype(np.float32),
        predicted=np.concatenate([target[found], rng.choice(size.classes, false, p=share)]),
        image=np.concatenate([target_image[found], rng.integers(0, size.images, false)]),
        target=target,
        target_image=target_image,
    )


def check(found: Matches, size: Size) -> None:
    """Raise unless weights of one give the AP of Ultralytics; also compiles."""
    ours = average_precision(found, np.ones((1, size.images)), size.classes, ramp=has_ramp(compute_ap))[0]
    given = ap_per_class(found.tp, found.confidence, found.predicted, found.target)
    worst = np.abs(ours[given[6]] - given[5]).max()
    if not worst < EXACT:
        raise RuntimeError(f"refusing to time a wrong answer: AP differs by {worst:.1e} from that of Ultralytics")


def main(argv: list[str] | None = None) -> int:
    """Measure and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.weighted_ap", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV file; default: that of this machine in benchmarks/results")
    parser.add_argument("--quick", action="store_true", help="a tiny run, two rounds: does it run at all?")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    size, effort = (TINY, QUICK) if options.quick else (COCO, CAREFUL)
    found = drawn(size, np.random.default_rng(0))
    weights = weightings(size.images, size.weightings).weights
    check(found, size)
    contestants = {
        "numba": lambda: average_precision(found, weights, size.classes),
        "ultralytics, once": lambda: ap_per_class(found.tp, found.confidence, found.predicted, found.target),
    }
    table = Table(options.out or file_for("weighted-ap"))
    for backend, timing in interleaved(contestants, effort).items():
        row = {"what": "weighted AP", "shape": str(size), "dtype": "float64", "threads": 1, "backend": backend}
        table.add(row, timing)
    return 0


if __name__ == "__main__":
    sys.exit(main())
