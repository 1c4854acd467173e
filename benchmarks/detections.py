"""Simulated detections, whose quality differs by seed, by image and by both, for ``benchmarks.coverage``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from yolomix.statistics import Matches, average_precision, mean_over_classes

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

CLASSES = 3
THRESHOLDS = np.linspace(0.5, 0.95, 10)
FALSE = 3  # false positives per image, on average
STRENGTH = 0.08  # of an effect of 1, in logits of the overlap


@dataclass(frozen=True)
class Split:
    """Labels of a test split, and how hard they are for everybody."""

    images: int
    target: Integers
    target_image: Integers
    ease: Floats
    """(labels,), in logits of the overlap."""

    @classmethod
    def drawn(cls, rng: np.random.Generator, images: int) -> Split:
        """Images with one label or more, of three classes."""
        target_image = np.repeat(np.arange(images), 1 + rng.poisson(2, images))
        count = len(target_image)
        target = rng.choice(CLASSES, count, p=[0.6, 0.3, 0.1])
        ease = 1.0 + 0.8 * rng.normal(size=images)[target_image] + 0.8 * rng.normal(size=count)
        return cls(images, target, target_image, ease)


class Arm:
    """Runs of one arm under all seeds."""

    def __init__(self, split: Split, effects: Floats, rng: np.random.Generator):
        self.runs = [self._run(split, effect, rng) for effect in effects]

    def _run(self, split: Split, effect: Floats, rng: np.random.Generator) -> Matches:
        """One detection for most labels, and false ones; ``effect``: (images,)."""
        quality = split.ease + STRENGTH * effect[split.target_image] + 0.3 * rng.normal(size=len(split.ease))
        overlap = 1 / (1 + np.exp(-quality))
        seen = overlap > 0.3
        stray = np.repeat(np.arange(split.images), rng.poisson(FALSE, split.images))
        parts: dict[str, list[Any]] = {
            "tp": [overlap[seen, None] >= THRESHOLDS, np.zeros((len(stray), len(THRESHOLDS)), dtype=bool)],
            "confidence": [quality[seen] + 0.7 * rng.normal(size=seen.sum()), rng.normal(-0.5, 1.0, len(stray))],
            "predicted": [split.target[seen], rng.integers(0, CLASSES, len(stray))],
            "image": [split.target_image[seen], stray],
        }
        found = {name: np.concatenate(arrays) for name, arrays in parts.items()}
        return Matches(**found, target=split.target, target_image=split.target_image)

    def mean_ap(self, weights: Floats) -> Floats:
        """mAP50-95 of every run, (B, S)."""
        return np.stack([mean_over_classes(average_precision(run, weights, CLASSES)) for run in self.runs], axis=1)
