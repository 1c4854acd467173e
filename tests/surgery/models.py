"""Small model dictionaries and what a survey would say of them, without Ultralytics."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from yolomix.surgery.graph import Layer, sources

MODEL: dict[str, Any] = {
    "nc": 3,
    "scales": {"n": [0.5, 0.25, 1024], "s": [0.5, 0.5, 512]},
    "scale": "n",
    "backbone": [
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 1, "Conv", [128, 3, 2]],
        [-1, 2, "C3k2", [256, False, 0.25]],
        [-1, 1, "Conv", [256, 3, 2]],
        [-1, 2, "C3k2", [512, False]],
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 2], 1, "Concat", [1]],
        [-1, 2, "C3k2", [256, False]],
        [-1, 1, "Conv", [256, 3, 2]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 2, "C3k2", [512, False]],
        [[7, 10], 1, "Detect", ["nc"]],
    ],
}
MAPS = [(16, 2), (32, 4), (64, 4), (64, 8), (128, 8), (128, 4), (192, 4), (64, 4), (64, 8), (192, 8), (128, 8), None]


def model() -> dict[str, Any]:
    """A copy to change."""
    return deepcopy(MODEL)


def layers(described: dict[str, Any] = MODEL) -> list[Layer]:
    """Its layers; parameters and tensors are made up."""
    rows = described["backbone"] + described["head"]
    return [
        Layer(
            i, tuple(sources(f, i)), n, module, *(MAPS[i] or (None, None)), 100 + i, 6, i < len(described["backbone"])
        )
        for i, (f, n, module, _) in enumerate(rows)
    ]
