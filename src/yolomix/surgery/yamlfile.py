"""A model dictionary as the text of a model YAML: one row per line, with its number, stride and channels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from yolomix.surgery.layers import Layer

CHANGED = "changed by yolomix"  # in the first line of every file written here
NOT_WRITTEN = ("backbone", "head", "scale", "yaml_file")  # rows have a form of their own, the host sets the others


def text(model: dict[str, Any], layers: Sequence[Layer], remark: str) -> str:
    """The file's text.

    A file name says the scale that Ultralytics takes; where it says none, Ultralytics takes the first of ``scales``,
    so the one in use is written first.
    """
    model = dict(model)
    if scales := model.get("scales"):
        used = model.get("scale") or next(iter(scales))
        model["scales"] = {used: scales[used], **scales}
    parts = [f"# {line}".rstrip() for line in remark.splitlines()] + [""]
    parts += [_pair(key, value) for key, value in model.items() if key not in NOT_WRITTEN]
    backbone = len(model["backbone"])
    for part, first in (("backbone", 0), ("head", backbone)):
        parts += ["", f"{part}:", "  # [from, repeats, module, args]"]
        lines = [f"  - {_flow(row)}" for row in model[part]]
        parts += [f"{line} # {_remark(layer)}" for line, layer in zip(lines, layers[first:], strict=False)]
    return "\n".join(parts) + "\n"


def is_written(file: Path) -> bool:
    """Whether a file is one that was written here, and may be written anew."""
    return CHANGED in file.read_text("utf-8").partition("\n")[0]


def _pair(key: str, value: Any) -> str:
    if isinstance(value, dict):
        return f"{key}:\n" + "\n".join(f"  {k}: {_flow(v)}" for k, v in value.items())
    return f"{key}: {_flow(value)}"


def _flow(value: Any) -> str:
    """One line of YAML."""
    return yaml.safe_dump(value, default_flow_style=True, width=10**6).strip().removesuffix("...").strip()


def _remark(layer: Layer) -> str:
    """``16-P3/8, 64 channels``, in the manner of Ultralytics' own files."""
    if layer.stride is None:
        return str(layer.index)
    level = f"-P{layer.stride.bit_length() - 1}/{layer.stride}" if layer.stride & (layer.stride - 1) == 0 else ""
    return f"{layer.index}{level}, {layer.channels} channels"
