"""Class activation maps from their formulas in float64, and small models of every kind of head."""

from __future__ import annotations

import copy
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tests.figures.models import description
from yolomix.host import weights

HEADS: dict[str, list[Any]] = {
    "Detect": ["nc"],
    "v10Detect": ["nc"],
    "Segment": ["nc", 4, 8],
    "Pose": ["nc", [3, 3]],
    "OBB": ["nc", 1],
    "RTDETRDecoder": ["nc", 32, 12, 4, 2, 2],
    "Classify": ["nc"],
}
TASKS = {"Segment": "segment", "Pose": "pose", "OBB": "obb", "Classify": "classify"}


def model(head: str = "Detect", *mixers: str, seed: int = 0) -> Any:
    """A model with this head, whose classes and boxes differ from place to place."""
    rows = description(*mixers)
    reads = -1 if head == "Classify" else rows["head"][0][0]
    rows |= {"head": [[reads, 1, head, HEADS[head]]], "kpt_shape": [3, 3]}
    made = built(rows, seed)
    made.task = TASKS.get(head, "detect")
    if head == "v10Detect":
        made.model[-1].end2end = True  # the one-to-one branch, which newer Ultralytics leaves to be asked for
    return made


def built(rows: dict[str, Any], seed: int = 0) -> Any:
    """A detector of these rows."""
    torch.manual_seed(seed)
    made = weights.from_rows(rows)
    for name, parameter in made.named_parameters():
        if not parameter.requires_grad:
            continue  # a table of distances
        if parameter.dim() > 1:
            nn.init.normal_(parameter, std=2 * parameter[0].numel() ** -0.5)
        elif "bias" in name:
            nn.init.normal_(parameter, std=0.2)
    made.names, made.task = {0: "cat", 1: "dog"}, "detect"
    return made


def layercam(made: Any, x: Tensor, chosen: list[tuple[int, int]], at: list[int] | None = None) -> Tensor:
    """LayerCAM (H, W): of every prediction and layer relu(sum of relu(gradient) * map), from 0 to 1; the largest.

    Of layers that are named it counts from the smallest value of each map, as pytorch-grad-cam does.
    """
    made = copy.deepcopy(made).double()
    made.model[-1].shape = None
    layers = at if at is not None else reads(made)
    kept: dict[int, Tensor] = {}
    for i, layer in enumerate(made.model):
        layer.register_forward_hook(lambda _, inputs, y, i=i: kept.update({i: y}))
    x = x.double().requires_grad_()
    made(x)
    logits = class_logits(made.model[-1], [kept[i] for i in reads(made)], kept[len(made.model) - 1])
    found = []
    for label, number in chosen:
        gradients = torch.autograd.grad(logits[label, number], [kept[i] for i in layers], retain_graph=True)
        for gradient, i in zip(gradients, layers, strict=True):
            level = (gradient.clamp(min=0) * kept[i]).sum(1, keepdim=True).clamp(min=0)
            if at is not None:
                level = level - level.min()
            level = F.interpolate(level, x.shape[2:], mode="bilinear", align_corners=False)[0, 0]
            found.append(level / level.max().clamp(min=1e-300))
    return torch.stack(found).amax(0).detach()


def reads(made: Any) -> list[int]:
    """The layers that the head reads."""
    given = made.model[-1].f
    return [len(made.model) - 2 if i == -1 else i for i in ([given] if isinstance(given, int) else given)]


def class_logits(head: Any, inputs: list[Tensor], output: Any) -> Tensor:
    """The logits (classes, N) from the inputs of a head, by its own layers; of queries as it gives them."""
    kind = type(head).__name__
    if kind == "RTDETRDecoder":
        return output[1][1][-1][0].T
    if kind == "Classify":
        return head.linear(head.conv(inputs[0]).mean((2, 3)))[0, :, None]
    branches = head.one2one_cv3 if head.end2end else head.cv3
    return torch.cat([branch(y).flatten(2) for branch, y in zip(branches, inputs, strict=True)], 2)[0]
