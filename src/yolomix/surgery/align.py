"""Which layer of one model corresponds to which of another: by what fits, in order, not by layer index."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

from yolomix.nn.gate import Chain

Shapes = set[tuple[str, tuple[int, ...]]]
Order = list[int | None]  # per target layer the source layer, or None

SAME_TYPE = 10  # against 1 for a layer that fits whole: a stage of a narrow model fits a wrong stage of a wide one
HEAD = 1e6  # more than any sum of the others: the heads always correspond


def align(source: Sequence[nn.Module], target: Sequence[nn.Module]) -> Order:
    """For each target layer the source layer to copy from, or None; the order of layers is preserved.

    As many layers of the same type as can be correspond, and of those alignments the one that fits most wholly. A
    tensor fits where its name inside the layer and its shape agree. A layer fits by the share of its elements that
    do, because norms alone fit in many wrong layers. The last layers, the heads, always correspond.

    The best alignment is found as that of two texts (Needleman and Wunsch 1970). Of equal ones it is the one that
    copies into the earlier target layer.

    >>> conv, block, head = nn.Conv2d(3, 8, 3), nn.LayerNorm(8), nn.Linear(8, 2)
    >>> align([conv, head], [conv, block, head])
    [0, None, 1]
    """
    of_source = [shapes(layer) for layer in source]
    of_target = [shapes(layer) for layer in target]
    if of_source == of_target:
        return list(range(len(target)))
    fit: list[list[float]] = []
    for a, layer in zip(of_source, source, strict=True):
        row = []
        for b, other in zip(of_target, target, strict=True):
            row.append(_share(a, b) + SAME_TYPE * (kind(layer) is kind(other)))
        fit.append(row)
    fit[-1][-1] += HEAD
    return _best(fit)


def shapes(layer: nn.Module) -> Shapes:
    """Names and shapes of a layer's tensors; of a :class:`Chain` those of its first row as if it stood alone.

    >>> sorted(shapes(Chain(nn.Linear(2, 1), nn.PReLU())))
    [('bias', (1,)), ('weight', (1, 2)), ('~1.weight', (1,))]
    """
    return {(plain(layer, name), tuple(tensor.shape)) for name, tensor in layer.state_dict().items()}


def plain(layer: nn.Module, name: str) -> str:
    """A tensor's name inside the layer that a chain was made around; other names are set apart by a tilde.

    >>> plain(Chain(nn.Linear(2, 1)), "0.weight"), plain(nn.Sequential(nn.Linear(2, 1)), "0.weight")
    ('weight', '0.weight')
    """
    if not isinstance(layer, Chain):
        return name
    if name.startswith("0."):
        return name.removeprefix("0.")
    return f"~{name}"


def kind(layer: nn.Module) -> type[nn.Module]:
    """The type of a layer, of a chain that of its first row."""
    if isinstance(layer, Chain):
        return type(layer[0])
    return type(layer)


def seated(source: Sequence[nn.Module], target: Sequence[nn.Module], order: Order) -> nn.Sequential:
    """The source's layers under the indices, and inside the chains, of the target; holes are empty.

    >>> [type(layer).__name__ for layer in seated([nn.ReLU()], [nn.GELU(), nn.ReLU()], [None, 0])]
    ['Identity', 'ReLU']
    """
    layers: list[nn.Module] = []
    for k, layer in zip(order, target, strict=True):
        if k is None:
            layers.append(nn.Identity())
            continue
        given = source[k]
        if isinstance(layer, Chain) == isinstance(given, Chain):
            layers.append(given)
        elif isinstance(given, Chain):
            layers.append(given[0])
        else:
            # Names in a chain's first row begin with "0.", as do those in a Sequential of one.
            layers.append(nn.Sequential(given))
    return nn.Sequential(*layers)


def _share(source: Shapes, target: Shapes) -> float:
    """Which share of a layer's elements fits another."""
    elements = sum(math.prod(shape) for _, shape in source)
    if not elements:
        return 0.0
    return sum(math.prod(shape) for _, shape in source & target) / elements


def _best(fit: list[list[float]]) -> Order:
    """The order-preserving pairs with the largest sum of fits."""
    rows, columns = len(fit), len(fit[0])
    # best[i][j]: the largest sum for the source's layers from i on and the target's from j on.
    best = [[0.0] * (columns + 1) for _ in range(rows + 1)]
    for i in reversed(range(rows)):
        for j in reversed(range(columns)):
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
