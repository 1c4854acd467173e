"""A model dictionary as the text of a model YAML: the author's own where there is one, else a row per line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from yolomix import files
from yolomix.surgery.graph import Graph, Layer
from yolomix.surgery.yamltext import PARTS, SET_BY_ULTRALYTICS, flow, pair, remark, rewritten

CHANGED = ", changed by yolomix: "
KEPT = "# Comments below were written for it; an index that begins the remark of a row is of this model."
# The lines that a file has from here already, when it is changed again.
BEFORE = re.compile(rf"^({re.escape(files.SIGNED)}.*\n|# .*{CHANGED}.*\n({re.escape(KEPT)}\n)?\n?)", re.MULTILINE)


def text(graph: Graph, layers: Sequence[Layer], base: str, edit: str, source: str = "") -> str:
    """The file's text.

    A file name says the scale that Ultralytics takes. Where it says none, Ultralytics takes the first of ``scales``, so
    the one in use is written first.

    >>> conv = Layer(0, (-1,), 1, "Conv", channels=16, stride=2, parameters=432, tensors=6, backbone=True)
    >>> head = Layer(1, (0,), 1, "Detect", channels=None, stride=None, parameters=99, tensors=9, backbone=False)
    >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    >>> print(text(Graph.of(model), [conv, head], "mine.yaml", "edited"))
    # mine.yaml, changed by yolomix: edited
    <BLANKLINE>
    nc: 2
    <BLANKLINE>
    backbone:
      # [from, repeats, module, args]
      - [-1, 1, Conv, [16, 3, 2]] # 0-P1/2, 16 channels
    <BLANKLINE>
    head:
      # [from, repeats, module, args]
      - [[0], 1, Detect, [nc]] # 1
    <BLANKLINE>

    Args:
        graph: the rows.
        layers: what is known of them.
        base: the model that was changed.
        edit: what was done to it.
        source: the text of the base, if it is a model YAML.
    """
    head = "".join(f"# {line}".rstrip() + "\n" for line in f"{base}{CHANGED}{edit}".splitlines())
    if source:
        kept = rewritten(BEFORE.sub("", source), graph.model, graph.origin, layers)
        if kept is not None:
            return f"{head}{KEPT}\n\n{kept}"
    return f"{head}\n{_plain(graph.model, layers)}"


def _plain(model: dict[str, Any], layers: Sequence[Layer]) -> str:
    """The text of a model that no author wrote."""
    model = dict(model)
    if scales := model.get("scales"):
        used = model.get("scale") or next(iter(scales))
        model["scales"] = {used: scales[used], **scales}
    lines = []
    for key, value in model.items():
        if key not in (*PARTS, *SET_BY_ULTRALYTICS):
            lines += pair(key, value)
    remaining = iter(layers)
    for part in PARTS:
        lines += ["", f"{part}:", "  # [from, repeats, module, args]"]
        for row in model[part]:
            lines.append(f"  - {flow(row)} # {remark(next(remaining))}")
    return "\n".join(lines) + "\n"
