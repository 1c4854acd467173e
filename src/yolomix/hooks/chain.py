"""Rows of rows: ``Chain`` in a model YAML, built as the rows that it holds and then put under one number."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from torch import nn

from yolomix.hooks import build, rows
from yolomix.nn.gate import Chain
from yolomix.surgery.graph import CHAIN, sources

Spans = list[tuple[int, int]]  # per row of the description its first row, and the one after its last, when unrolled


def parse_model(native: Callable[..., build.Layers], d: dict[str, Any], ch: int, verbose: bool = True) -> build.Layers:
    """As :func:`yolomix.host.build.parse_model`, and every ``Chain`` becomes one layer."""
    described = d.get("backbone", []) + d.get("head", [])
    if not any(isinstance(row, list) and row[2:3] == [CHAIN] for row in described):
        return build.parse_model(native, d, ch, verbose)
    unrolled, spans = _unrolled(d)
    layers, _ = build.parse_model(native, unrolled, ch, verbose)
    rolled = nn.Sequential(*(_layer(layers, i, span, described[i]) for i, span in enumerate(spans)))
    read = [s for i, row in enumerate(described) for x, s in _pairs(row[0], i) if x != -1]
    return rolled, sorted(read)


def _unrolled(d: dict[str, Any]) -> tuple[dict[str, Any], Spans]:
    """The description with a row for every row inside a chain."""
    parts: dict[str, list[Any]] = {"backbone": [], "head": []}
    spans: Spans = []
    at = 0
    for part, out in parts.items():
        for row in d[part]:
            i = len(spans)
            inside = _inside(row, i, d) if row[2] == CHAIN else [row[1:]]
            ends = [end - 1 for _, end in spans]
            moved = [x if x == -1 else ends[s] if x >= 0 else ends[s] - at for x, s in _pairs(row[0], i)]
            out.append([moved if isinstance(row[0], list) else moved[0], *deepcopy(inside[0])])
            out.extend([-1, *deepcopy(more)] for more in inside[1:])
            spans.append((at, at + len(inside)))
            at += len(inside)
    return {**d, **parts}, spans


def _pairs(source: int | list[int], i: int) -> list[tuple[int, int]]:
    """Each number of a ``from`` column beside the row that it means."""
    return list(zip(source if isinstance(source, list) else [source], sources(source, i), strict=True))


def _inside(row: list[Any], i: int, d: dict[str, Any]) -> list[list[Any]]:
    """The rows of a chain, each [repeats, module, args].

    Raises:
        RowError: it holds something else.
    """
    inside: list[list[Any]] = row[3]
    if row[1] != 1 or not inside or not all(isinstance(one, list) and len(one) == 3 for one in inside):
        file = d.get("yaml_file", "model description")
        raise rows.RowError(f"{file}, row {i} {row}: a Chain is [from, 1, Chain, [[repeats, module, args], ...]]")
    return inside


def _layer(layers: nn.Sequential, i: int, span: tuple[int, int], row: list[Any]) -> nn.Module:
    """One layer of the description, with the attributes that Ultralytics keeps on it."""
    made: list[Any] = list(layers)[slice(*span)]
    layer: Any = made[0] if row[2] != CHAIN else Chain(*made)
    layer.i, layer.f = i, row[0]
    if row[2] == CHAIN:
        layer.type = "+".join(m.type for m in made)
        layer.np = sum(p.numel() for p in layer.parameters())
    built: nn.Module = layer
    return built
