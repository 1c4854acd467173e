"""Class scores of every prediction of a model, before any is dropped, whatever its head.

A head keeps them beside what it gives, in a layout of its own and of its version of Ultralytics; all of that is known
here alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from ultralytics.nn.modules import Classify, Detect, RTDETRDecoder
from ultralytics.utils import ops

from yolomix.host.weights import Model

TASKS = ("detect", "segment", "pose", "obb", "classify", "semantic")  # those with classes


class Predictions(NamedTuple):
    """What a model predicts for one image: N predictions in the order of its head, one of a classifier."""

    logits: Tensor  # (classes, N)
    scores: Tensor  # (classes, N), 0 to 1, as predict shows them
    boxes: Tensor | None  # (N, 4), corners in pixels, of a rotated box before it is turned; None without boxes


def predictions(model: Model, x: Tensor) -> Predictions:
    """The predictions for one image, with the graph that leads to their logits where gradients are recorded.

    >>> from yolomix.host import weights
    >>> predictions(weights.from_yaml("yolo11n.yaml").eval(), torch.zeros(1, 3, 64, 64)).logits.shape
    torch.Size([80, 84])

    Args:
        model: of Ultralytics, in eval mode.
        x: (1, C, H, W).

    Raises:
        ValueError: a model of its task has no classes.
    """
    if model.task not in TASKS:
        raise ValueError(f"a model for {model.task} has no class scores; those for {', '.join(TASKS)} have")
    head = model.model[-1]
    forget_anchors(head)
    found = dict[str, Any]()

    def _enter(module: nn.Module, inputs: tuple[Any, ...]) -> None:
        found["inputs"] = list(inputs[0])  # heads put other tensors into their own list

    def _leave(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        found["output"] = output

    # Ultralytics 8.3 gives the probabilities of a classifier without its logits.
    last = head.linear if isinstance(head, Classify) else head
    handles = [head.register_forward_pre_hook(_enter), last.register_forward_hook(_leave)]
    try:
        model(x)
    finally:
        for handle in handles:
            handle.remove()
    given = logits(head, found["output"])
    if torch.is_grad_enabled() and not given.requires_grad:
        given = _attached(head, found["inputs"], given)
    shown = given[0].detach()
    shown = shown.softmax(0) if model.task in ("classify", "semantic") else shown.sigmoid()
    return Predictions(given[0], shown, _boxes(head, found["output"], x))


def logits(head: nn.Module, output: Any) -> Tensor:
    """The class logits in what a head gives in eval mode: (B, classes, N).

    >>> logits(nn.Identity(), torch.zeros(2, 5)).shape
    torch.Size([2, 5, 1])
    """
    raw = output[1] if isinstance(output, tuple) else output
    if isinstance(head, RTDETRDecoder):
        return raw[1][-1].transpose(1, 2)
    if not isinstance(head, Detect):
        return raw.flatten(2) if raw.dim() > 2 else raw[..., None]
    branch = _branch(head, raw)
    if isinstance(branch, dict):
        return branch["scores"]
    maps = torch.cat([level.flatten(2) for level in branch], 2)  # Ultralytics 8.3: boxes and scores of every level
    return maps[:, -head.nc :]


def forget_anchors(head: nn.Module) -> None:
    """Let a head make its anchors anew: those of a prediction in inference mode cannot be in a graph."""
    if isinstance(head, Detect):
        head.shape = None


@contextmanager
def frozen(model: Model) -> Iterator[None]:
    """Inside the block no parameter gets a gradient, so that only those of feature maps and images are computed."""
    wanted = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in wanted:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in wanted:
            parameter.requires_grad_(True)


def _branch(head: Any, raw: Any) -> Any:
    """The output of the branch that predicts: a dict, or in Ultralytics 8.3 a map (B, no, H, W) for every level.

    A head with masks, keypoints or angles gives it first.
    """
    if isinstance(raw, tuple):
        raw = raw[0]
    return raw.get("one2one" if head.end2end else "one2many", raw) if isinstance(raw, dict) else raw


def _attached(head: Any, inputs: Sequence[Tensor], given: Tensor) -> Tensor:
    """The logits of a one-to-one branch that its head cuts off from the feature maps, as older Ultralytics does."""
    branches = getattr(head, "one2one_cv3", None)
    if branches is None:
        return given
    return torch.cat([branch(x).flatten(2) for branch, x in zip(branches, inputs, strict=False)], 2)


def _boxes(head: Any, output: Any, x: Tensor) -> Tensor | None:
    """The boxes of all predictions for one image."""
    H, W = x.shape[2:]
    if isinstance(head, RTDETRDecoder):
        boxes = output[1][0][-1][0] * torch.tensor([W, H, W, H], device=x.device)
        return ops.xywh2xyxy(boxes.detach())
    if not isinstance(head, Detect):
        return None
    boxes = head._inference(_branch(head, output[1]))[0, :4].T.detach()
    is_turned = hasattr(head, "ne")  # a rotated box is always given by its centre
    has_corners = (head.end2end or getattr(head, "xyxy", False)) and not is_turned
    return boxes if has_corners else ops.xywh2xyxy(boxes)
