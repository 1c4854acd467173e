"""Which layer of one model corresponds to which of another: by what fits, in order, not by number."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from yolomix.nn.gate import Chain

Shapes = set[tuple[str, tuple[int, ...]]]
Order = list[int | None]  # per target layer the source layer, or None

SAME_TYPE = 10  # against 1 for a layer that fits whole: a stage of a narrow model fits a wrong stage of a wide one
HEAD = 1e6


def align(source: Sequence[nn.Module], target: Sequence[nn.Module]) -> Order:
    """For each target layer the source layer to copy from, order preserved: as many of the same type as can be, then
    as wholly fitting as can be.

    A tensor fits where its name inside the layer and its shape agree; a layer fits by the share of its numbers that do
    (norms alone fit in many wrong places). The last layers, the heads, always correspond. The best alignment is found
    as that of two texts (Needleman and Wunsch 1970); of equal ones, the one that copies into the earlier target layer.
    """
    names = [[shapes(layer) for layer in model] for model in (source, target)]
    if names[0] == names[1]:
        return list(range(len(target)))
    fit = [
        [_share(a, b) + SAME_TYPE * (kind(source[i]) is kind(target[j])) for j, b in enumerate(names[1])]
        for i, a in enumerate(names[0])
    ]
    fit[-1][-1] += HEAD
    return _best(fit)


def shapes(layer: nn.Module) -> Shapes:
    """Names and shapes of a layer's tensors; of a :class:`Chain` those of its first row as if it stood alone."""
    return {(plain(layer, name), tuple(tensor.shape)) for name, tensor in layer.state_dict().items()}


def plain(layer: nn.Module, name: str) -> str:
    """A tensor's name inside the layer that a chain was made around; other names are set apart by a tilde."""
    if not isinstance(layer, Chain):
        return name
    return name.removeprefix("0.") if name.startswith("0.") else f"~{name}"


def kind(layer: nn.Module) -> type[nn.Module]:
    """The type of a layer, of a chain that of its first row."""
    return type(layer[0]) if isinstance(layer, Chain) else type(layer)


def seated(source: Sequence[nn.Module], target: Sequence[nn.Module], order: Order) -> nn.Sequential:
    """The source's layers under the numbers, and inside the chains, of the target; holes are empty."""
    layers: list[nn.Module] = []
    for k, layer in zip(order, target, strict=True):
        if k is None:
            layers.append(nn.Identity())
        elif isinstance(layer, Chain) == isinstance(source[k], Chain):
            layers.append(source[k])
        else:
            inner = source[k]
            layers.append(inner[0] if isinstance(inner, Chain) else nn.Sequential(inner))
    return nn.Sequential(*layers)


def _share(source: Shapes, target: Shapes) -> float:
    """How much of a layer, in numbers, fits another."""
    numbers = sum(math.prod(shape) for _, shape in source)
    return sum(math.prod(shape) for _, shape in source & target) / numbers if numbers else 0.0


def _best(fit: list[list[float]]) -> Order:
    """The order-preserving pairs with the largest sum of fits."""
    rows, columns = len(fit), len(fit[0])
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    for i in range(rows - 1, -1, -1):
        for j in range(columns - 1, -1, -1):
            best[i][j] = max(best[i + 1][j], best[i][j + 1], best[i + 1][j + 1] + fit[i][j])
    order: Order = [None] * columns
    i = j = 0
    while i < rows and j < columns:
        if fit[i][j] > 0 and best[i][j] == best[i + 1][j + 1] + fit[i][j]:
            order[j] = i
            i, j = i + 1, j + 1
        elif best[i][j] == best[i][j + 1]:
            j += 1
        else:
            i += 1
    return order
