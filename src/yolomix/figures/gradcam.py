"""Class activation maps of pytorch-grad-cam: of any layers, and by methods that Ultralytics has not."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yolomix.figures import opening
from yolomix.figures.opening import Subject
from yolomix.figures.values import Array
from yolomix.host import scores

LAYERCAM = "layercam"
CLASS_BLIND = "eigencam"
METHODS = {
    LAYERCAM: "LayerCAM",
    "gradcam": "GradCAM",
    "gradcam++": "GradCAMPlusPlus",
    "hirescam": "HiResCAM",
    "xgradcam": "XGradCAM",
    "eigengradcam": "EigenGradCAM",
    CLASS_BLIND: "EigenCAM",
}


def of(subject: Subject, x: Tensor, chosen: Sequence[tuple[int, int]], layers: Sequence[int], method: str) -> Array:
    """The map of predictions, (H, W), from 0 to 1: of every prediction and layer one map, of all these the largest.

    Args:
        subject: the model.
        x: an image (1, C, H, W).
        chosen: class and index of every prediction.
        layers: whose maps are weighted.
        method: one of ``METHODS``.

    Raises:
        ModuleNotFoundError: the package is not installed.
        ValueError: a layer has no part in a prediction.
    """
    package = opened(method)
    with scores.frozen(subject.module), torch.enable_grad():
        x = x.clone().requires_grad_()
        if method != CLASS_BLIND:
            _check_gradients(subject, x, chosen, layers)
        modules = [subject.module.model[index] for index in layers]
        explain = getattr(package, METHODS[method])(_Logits(subject.module), modules)
        try:
            # As Ultralytics does it; pytorch-grad-cam takes the mean, in which what one layer alone shows is faint.
            explain.aggregate_multi_layers = _largest
            found = [explain(x, [_Logit(*one)])[0] for one in chosen[: 1 if method == CLASS_BLIND else None]]
        finally:
            explain.activations_and_grads.release()
    return np.stack(found).max(0)


def opened(method: str) -> Any:
    """The package.

    Raises:
        ModuleNotFoundError: it is not installed, or something that it needs is not; the message says what to type.
    """
    try:
        return importlib.import_module("pytorch_grad_cam")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{method} of these layers is made by pytorch-grad-cam, and {error.name} is not installed: "
            "pip install 'yolomix[cam]'. Ultralytics 8.4 alone has layercam of the head's inputs"
        ) from error


def version() -> str:
    """The package and its version, for the record."""
    from importlib import metadata

    return f"pytorch-grad-cam {metadata.version('grad-cam')}"


class _Logits(nn.Module):
    """A model as pytorch-grad-cam takes it: one tensor (1, classes, N) for an image."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        return scores.predictions(self.model, x).logits[None]

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Gradients of the parameters belong to somebody else's training."""


class _Logit:
    """The number that is explained."""

    def __init__(self, number: int, index: int) -> None:
        self.number, self.index = number, index

    def __call__(self, output: Tensor) -> Tensor:
        return output[self.number, self.index]


def _check_gradients(subject: Subject, x: Tensor, chosen: Sequence[tuple[int, int]], layers: Sequence[int]) -> None:
    """Raise unless a gradient reaches every layer: pytorch-grad-cam would take that of another in its place."""
    with opening.keeping(subject, layers) as maps:
        logits = scores.predictions(subject.module, x).logits
    explained = torch.stack([logits[one] for one in chosen]).sum()
    gradients = torch.autograd.grad(explained, [*maps.values()], allow_unused=True)
    without = [index for index, gradient in zip(maps, gradients, strict=True) if gradient is None]
    if without:
        those = ", ".join(str(subject.layers[index]) for index in without)
        raise ValueError(
            f"no class score of {subject.name} depends on {those}, so there is no map of it; at=head-inputs always has "
            "one"
        )


def _largest(maps: Sequence[Array]) -> Array:
    """The largest of the maps of all layers, (1, H, W), each relative to its own largest value.

    They come divided by it plus 1e-7, which is far more where a model is not trained.
    """
    stacked = np.concatenate(maps, axis=1)  # (1, layers, H, W)
    highest = stacked.max(axis=(2, 3), keepdims=True)
    return (stacked / np.where(highest > 0, highest, 1)).max(axis=1)
