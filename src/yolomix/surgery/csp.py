"""A block inside a CSP module, in place of its bottlenecks: ``C3k2(MLLABlock)`` in a row and in a graft.

The arguments of such a row are those of the CSP module; a mapping at their end are the block's, by name::

    [-1, 2, C3k2(MLLABlock), [256, False, 0.25, {num_heads: 2}]]
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from yolomix.surgery import insertion
from yolomix.surgery.graph import Graph, Layer, Row

FORM = re.compile(r"([A-Za-z_]\w*)\(([A-Za-z_][\w.]*)\)")


def split(name: str) -> tuple[str, str] | None:
    """The CSP module and the block that go into each other; None for any other name.

    >>> split("C3k2(MLLABlock)"), split("C3k2")
    (('C3k2', 'MLLABlock'), None)
    """
    found = FORM.fullmatch(name)
    return (found[1], found[2]) if found else None


def not_behind(name: str) -> ValueError:
    """The error that there are no bottlenecks behind a layer, in whose place a block could go.

    >>> print(not_behind("C3k2(MLLABlock)"))
    C3k2(MLLABlock) goes in the place of a C3k2, so it needs mode='replace', in a name ':replace'. To put ...
    """
    host, block = split(name) or (name, name)
    return ValueError(
        f"{name} goes in the place of a {host}, so it needs mode='replace', in a name ':replace'. To put a block "
        f"behind a layer name the block alone: {block}"
    )


def replaced(graph: Graph, name: str, layers: Sequence[Layer], args: Sequence[Any], n: int = 1) -> Graph:
    """The rows with a block inside the CSP modules that these layers are, or that take their places.

    A row of the same CSP module keeps its arguments and repeats, unless others are given.

    >>> conv = Layer(0, (-1,), 2, "C3k2", channels=256, stride=8, parameters=6_640, tensors=24, backbone=True)
    >>> graph = Graph.of({"backbone": [[-1, 2, "C3k2", [256, False]]], "head": [[-1, 1, "Detect", ["nc"]]]})
    >>> replaced(graph, "C3k2(MLLABlock)", [conv], [{"num_heads": 2}]).rows[0]
    [-1, 2, 'C3k2(MLLABlock)', [256, False, {'num_heads': 2}]]

    Args:
        graph: the rows.
        name: of the CSP module and the block.
        layers: layers of the original.
        args: what follows the width among the arguments of the CSP module; a mapping at their end is the block's.
        n: repeats; 1 keeps those that are there.

    Raises:
        ValueError: a layer reads several others, or its row does not say its channels before width scaling.
    """
    for layer in layers:
        index = graph.position(layer.index)
        graph = graph.replace(index, _row(name, graph.rows[index], layer, args, n, graph.model))
    return graph


def _row(name: str, old: Row, layer: Layer, args: Sequence[Any], n: int, model: dict[str, Any]) -> Row:
    source, repeats, module, old_args = old
    if isinstance(source, list):
        raise ValueError(f"{name} reads one layer, {layer} reads {source}")
    own, named = without_mapping(args)
    width = insertion.width_in(old, layer, model, name)
    if not own and _host(module) == _host(name):
        own = without_mapping(old_args)[0][1:]
    given = [width, *own]
    if named:
        given.append(named)
    return [source, n if n > 1 else repeats, name, given]


def _host(name: str) -> str:
    """The CSP module of a row, with or without a block inside."""
    parts = split(name)
    return name if parts is None else parts[0]


def without_mapping(args: Sequence[Any]) -> tuple[list[Any], dict[str, Any]]:
    """Arguments, and the mapping at their end.

    >>> without_mapping([256, {"num_heads": 2}])
    ([256], {'num_heads': 2})
    """
    if args and isinstance(args[-1], dict):
        return list(args[:-1]), args[-1]
    return list(args), {}
