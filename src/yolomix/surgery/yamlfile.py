"""A model dictionary as the text of a model YAML: a row per line, with its layer index, stride and channels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import yaml

from yolomix.surgery.graph import Layer

NOT_WRITTEN = ("backbone", "head", "scale", "yaml_file")  # rows have a form of their own, Ultralytics sets the others


def text(model: dict[str, Any], layers: Sequence[Layer], remark: str) -> str:
    """The file's text.

    A file name says the scale that Ultralytics takes. Where it says none, Ultralytics takes the first of ``scales``, so
    the one in use is written first.

    >>> conv = Layer(0, (-1,), 1, "Conv", channels=16, stride=2, parameters=432, tensors=6, backbone=True)
    >>> head = Layer(1, (0,), 1, "Detect", channels=None, stride=None, parameters=99, tensors=9, backbone=False)
    >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    >>> print(text(model, [conv, head], "mine"))
    # mine
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
    """
    model = dict(model)
    if scales := model.get("scales"):
        used = model.get("scale") or next(iter(scales))
        model["scales"] = {used: scales[used], **scales}
    lines = [f"# {line}".rstrip() for line in remark.splitlines()]
    lines.append("")
    for key, value in model.items():
        if key not in NOT_WRITTEN:
            lines += _pair(key, value)
    remaining = iter(layers)
    for part in ("backbone", "head"):
        lines += ["", f"{part}:", "  # [from, repeats, module, args]"]
        for row in model[part]:
            lines.append(f"  - {_flow(row)} # {_remark(next(remaining))}")
    return "\n".join(lines) + "\n"


def _pair(key: str, value: Any) -> list[str]:
    if isinstance(value, dict):
        return [f"{key}:", *(f"  {k}: {_flow(v)}" for k, v in value.items())]
    return [f"{key}: {_flow(value)}"]


def _flow(value: Any) -> str:
    """One line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip().removesuffix("...").strip()


def _remark(layer: Layer) -> str:
    """``16-P3/8, 64 channels``, in the manner of Ultralytics' own files."""
    if layer.stride is None:
        return str(layer.index)
    level = ""
    if layer.stride & (layer.stride - 1) == 0:
        level = f"-P{layer.stride.bit_length() - 1}/{layer.stride}"
    return f"{layer.index}{level}, {layer.channels} channels"
