"""Models of every token mixer, so small that a figure of one takes a moment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch

from yolomix.figures.opening import Image, Subject, opened
from yolomix.host import weights

ROWS = {
    "ss2d": ["VSSBlock", [16]],
    "vim": ["MambaLayer", [None, 4]],
    "assg": ["ASSG", [4, 2, 4, 2, 8, 5]],
    "halo": ["HaloAttention", [2, 1, 8, 2]],
    "linear": ["MLLAttention", [2]],
}


def description(*mixers: str) -> dict[str, Any]:
    """Strides 4 and 8, with these mixers at 8."""
    rows = [[-1, 1, "Conv", [16, 3, 4]], [-1, 1, "Conv", [16, 3, 2]]]
    rows += [[-1, 1, *ROWS[mixer]] for mixer in mixers]
    head = [[[0, len(rows) - 1], 1, "Detect", ["nc"]]]
    return {"nc": 2, "backbone": rows, "head": head, "yaml_file": "small.yaml"}


def subject(*mixers: str, seed: int = 0) -> Subject:
    """A model with these mixers, whose weights are far from an init that leaves them without effect."""
    torch.manual_seed(seed)
    module = weights.from_rows(description(*mixers))
    for name, parameter in module.named_parameters():
        if "scale" in name or "route" in name or "embedding" in name:
            parameter.data.normal_()
    module.task, module.names = "detect", {0: "cat", 1: "dog"}
    return opened(SimpleNamespace(model=module, model_name="small.yaml"))[0]


def image(height: int = 40, width: int = 56, seed: int = 0) -> Image:
    """Noise, of a size that gives maps of odd sides."""
    return Image("noise.png", torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed)))
