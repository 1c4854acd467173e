"""Rows of rows: ``Chain`` in a model YAML, built as the rows that it holds and then put under one layer index."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

from torch import nn

from yolomix.hooks import build, rows
from yolomix.nn.gate import Chain
from yolomix.surgery.graph import CHAIN, sources

Spans = list[tuple[int, int]]  # per row of the model YAML its first row, and the one after its last, when unrolled


def parse_model(native: Callable[..., build.Layers], d: dict[str, Any], ch: int, verbose: bool = True) -> build.Layers:
    """As :func:`yolomix.hooks.build.parse_model`, and every ``Chain`` becomes one layer."""
    described = d.get("backbone", []) + d.get("head", [])
    if not any(isinstance(row, list) and row[2:3] == [CHAIN] for row in described):
        return build.parse_model(native, d, ch, verbose)
    unrolled, spans = _unrolled(d)
    places = []  # of an unrolled row in the table of layers: the first reads what its chain reads
    for i, (start, end) in enumerate(spans):
        places += [(i, described[i][0]), *[(i, -1)] * (end - start - 1)]
    layers, _ = build.parse_model(native, unrolled, ch, verbose, places)
    rolled = nn.Sequential(*(_layer(layers, i, span, described[i]) for i, span in enumerate(spans)))
    saved = []  # what another layer than the next one reads
    for i, row in enumerate(described):
        saved += [source for given, source in _pairs(row[0], i) if given != -1]
    return rolled, sorted(saved)


def _unrolled(d: dict[str, Any]) -> tuple[dict[str, Any], Spans]:
    """The model dictionary with a row for every row inside a chain."""
    parts: dict[str, list[Any]] = {"backbone": [], "head": []}
    texts = rows.texts(d)
    spans: Spans = []
    said: list[str] = []
    for part, out in parts.items():
        for row in d[part]:
            at = spans[-1][1] if spans else 0
            inside = _inside(row, len(spans), d) if row[2] == CHAIN else [row[1:]]
            out.append([_moved(row[0], spans, at), *deepcopy(inside[0])])
            out.extend([-1, *deepcopy(more)] for more in inside[1:])
            said += [texts[len(spans)]] * len(inside)
            spans.append((at, at + len(inside)))
    return {**d, **parts, rows.SAID: said}, spans


def _moved(source: int | list[int], spans: Spans, at: int) -> int | list[int]:
    """A ``from`` column for the unrolled row ``at``, in the form that it had: -1, relative or absolute."""
    moved = []
    for given, read in _pairs(source, len(spans)):
        if given == -1:
            moved.append(-1)
            continue
        end = spans[read][1] - 1  # who reads a chain reads its last row
        moved.append(end if given >= 0 else end - at)
    return moved if isinstance(source, list) else moved[0]


def _pairs(source: int | list[int], i: int) -> list[tuple[int, int]]:
    """Each entry of a ``from`` column beside the layer index that it means."""
    return list(zip(source if isinstance(source, list) else [source], sources(source, i), strict=True))


def _inside(row: list[Any], i: int, d: dict[str, Any]) -> list[list[Any]]:
    """The rows of a chain, each [repeats, module, args].

    Raises:
        RowError: it holds something else.
    """
    inside: list[list[Any]] = row[3]
    if row[1] != 1 or not inside or not all(isinstance(one, list) and len(one) == 3 for one in inside):
        file = d.get("yaml_file", "model YAML")
        raise rows.RowError(f"{file}, row {i} {row}: a Chain is [from, 1, Chain, [[repeats, module, args], ...]]")
    return inside


def _layer(layers: nn.Sequential, i: int, span: tuple[int, int], row: list[Any]) -> nn.Module:
    """One layer of the model YAML, with the attributes that Ultralytics keeps on it."""
    made: list[Any] = list(layers)[slice(*span)]
    layer: Any = made[0] if row[2] != CHAIN else Chain(*made)
    layer.i, layer.f = i, row[0]
    if row[2] == CHAIN:
        layer.type = "+".join(m.type for m in made)
        layer.np = sum(p.numel() for p in layer.parameters())
    return layer
