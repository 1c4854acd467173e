"""Ultralytics' own class activation map as numbers, which it computes to draw them over a file.

It explains what a head predicts best. Which predictions these are is decided here, by showing it no others: hooks of a
module run in the order in which they were registered, and each is given what the one before it returned.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from ultralytics.utils import plotting

from yolomix.host import scores
from yolomix.host.weights import Model

# Ultralytics divides each map by its largest value, or by 1e-7 where that is more; untrained models have less. A power
# of two, so that no digit changes.
LOUDER = 2.0**40


def is_there() -> bool:
    """Whether this version of Ultralytics has it: 8.4 since July 2026."""
    return hasattr(plotting, "class_activation_map")


def layercam(model: Model, x: Tensor, chosen: Sequence[tuple[int, int]]) -> Tensor:
    """LayerCAM (Jiang et al., IEEE TIP 2021) of the head's inputs for predictions: (H, W), from 0 to 1.

    There is a map for every prediction and head input, divided by its largest value; of all these the largest is taken.

    Args:
        model: of Ultralytics, in eval mode.
        x: an image (1, C, H, W).
        chosen: class and index of every prediction, in the order of :func:`yolomix.host.scores.predictions`.

    Raises:
        RuntimeError: this version of Ultralytics computes it in another way.
    """
    classes, indices = zip(*chosen, strict=True)

    def _show(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> tuple[None, Tensor]:
        logits = scores.logits(module, output)
        explained = logits[0, classes, indices]
        shown = torch.full_like(logits, torch.finfo(logits.dtype).min)
        shown[0, classes, indices] = 1 + LOUDER * (explained - explained.detach())  # 1, with that gradient
        return None, shown  # read as those of a head that gives logits alone

    handle = model.model[-1].register_forward_hook(_show)
    try:
        with scores.frozen(model), _Rounded() as rounded:
            # Without a path nothing is drawn, and no folder is made where there is one.
            plotting.class_activation_map(_Opened(model), x, [], Path(), conf=0.5, topk=len(chosen))
    finally:
        handle.remove()
    shapes = [tuple(found.shape) for found in rounded.maps]
    wanted = (1, *x.shape[2:])
    if shapes != [wanted]:
        raise RuntimeError(f"class_activation_map of Ultralytics was to make one map {wanted}, and made {shapes}")
    return rounded.maps[0][0] / 255


class _Opened(NamedTuple):
    """A model as Ultralytics' function takes it: inside of what opened its file."""

    model: Model

    def __call__(self, x: Tensor) -> Any:
        return self.model(x)


class _Rounded(TorchFunctionMode):
    """Keeps maps (B, H, W) that are rounded to 8 bits, as they were before."""

    def __init__(self) -> None:
        super().__init__()
        self.maps: list[Tensor] = []

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is Tensor.byte and args[0].dim() == 3:
            self.maps.append(args[0].detach())
        return func(*args, **(kwargs or {}))
