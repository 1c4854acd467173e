"""What a model YAML inside a stranger's checkpoint may say: layers by name, plain arguments, everything bounded.

The list says what is allowed. A name that is not on it may be a whole model, which takes a model dictionary of its own
and evaluates parts of it, or a module that downloads weights.
"""

from __future__ import annotations

import reprlib
from typing import Any

# Layers of Ultralytics 8.2, on which the fork is built, that take numbers alone.
LAYERS = frozenset(
    {
        "Conv", "ConvTranspose", "DWConv", "DWConvTranspose2d", "GhostConv", "Focus", "RepConv",
        "Bottleneck", "GhostBottleneck", "BottleneckCSP", "C1", "C2", "C2f", "C2fCIB", "C3", "C3TR", "C3Ghost", "C3x",
        "RepC3", "SPP", "SPPF", "SPPELAN", "RepNCSPELAN4", "ELAN1", "ADown", "AConv", "SCDown", "PSA", "AIFI",
        "HGStem", "HGBlock", "ResNetLayer", "CBLinear", "CBFuse", "Concat",
        "nn.Upsample", "nn.MaxPool2d", "nn.Identity", "nn.BatchNorm2d", "nn.ConvTranspose2d", "nn.Conv2d",
        "Detect", "Segment", "Pose", "OBB", "Classify",
        "SimpleStem", "VisionClueMerge", "VSSBlock", "XSSBlock", "ODSSBlock",
    }
)  # fmt: skip
WORDS = frozenset({"nc", "kpt_shape", "None", "nearest", "bilinear", "True", "False", "directions"})
ROWS, REPEATS, ARGUMENTS, LARGEST = 100, 300, 12, 8192  # a model of the fork has 30, 40 in all, 5 and 1024


# A list that holds itself twice, thirty times over, takes a line to write and all memory to print.
_SHORT = reprlib.Repr()
_SHORT.maxlevel, _SHORT.maxlist, _SHORT.maxtuple, _SHORT.maxdict = 4, 8, 8, 8
_SHORT.maxstring, _SHORT.maxlong, _SHORT.maxother = 120, 40, 120


def shown(value: object) -> str:
    """A value of a stranger's file in an error: never long, and never long in the making.

    >>> shown([1, "a", [[[[[]]]]]])
    "[1, 'a', [[[...]]]]"
    """
    return _SHORT.repr(value)[:200]


def fault(model: dict[str, Any]) -> str | None:
    """Why a model dictionary is refused, or None.

    >>> fault({"backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]})
    >>> fault({"backbone": [[-1, 1, "DetectionModel", [{}]]], "head": []})
    "row 0 [-1, 1, 'DetectionModel', [{}]] names 'DetectionModel', which is no layer of the fork"
    """
    for key in ("nc", "ch"):
        if key in model and not _is_count(model[key]):
            return f"{key} is {shown(model[key])}, and has to be a whole number from 1 to {LARGEST}"
    if not isinstance(model["backbone"], list) or not isinstance(model["head"], list):
        return "backbone and head have to be lists of rows"
    rows = model["backbone"] + model["head"]
    if len(rows) > ROWS:
        return f"it has {len(rows)} rows, more than {ROWS}"
    for i, row in enumerate(rows):
        wrong = _row_fault(row)
        if wrong:
            return f"row {i} {shown(row)} {wrong}"
    return _scale_fault(model) or _repeats_fault(model, rows)


def _row_fault(row: object) -> str | None:
    if not isinstance(row, list) or len(row) != 4:
        return "is not [from, repeats, module, args]"
    source, repeats, name, args = row
    if not isinstance(name, str) or name not in LAYERS:
        return f"names {shown(name)}, which is no layer of the fork"
    if not _is_count(repeats):
        return f"has repeats of {shown(repeats)}, and they have to be a whole number from 1 on"
    if not isinstance(args, list) or len(args) > ARGUMENTS or not all(map(_is_argument, args)):
        return f"has arguments that are not at most {ARGUMENTS} numbers up to {LARGEST}, or words such as 'nc'"
    reads = source if isinstance(source, list) else [source]
    if not reads or len(reads) > ROWS or not all(type(layer) is int for layer in reads):
        return f"reads {shown(source)}, and has to read layers by index"
    return None


def _scale_fault(model: dict[str, Any]) -> str | None:
    scales = model.get("scales") or {}
    if not isinstance(scales, dict):
        return f"scales is {shown(scales)}, and has to map letters to [depth, width, max_channels]"
    for letter, scale in scales.items():
        if not isinstance(scale, list) or len(scale) not in (3, 4) or not all(map(_is_number, scale)):
            return f"scale {shown(letter)} is {shown(scale)}, and has to be [depth, width, max_channels]"
    if scales and model.get("scale") and model["scale"] not in scales:
        return f"its scale is {shown(model['scale'])}, and its scales are {shown([*scales])}"
    for key in ("depth_multiple", "width_multiple"):
        if not _is_number(model.get(key, 1.0)):
            return f"{key} is {shown(model[key])}, and has to be a number up to {LARGEST}"
    shape = model.get("kpt_shape", [17, 3])
    if not isinstance(shape, (list, tuple)) or len(shape) != 2 or not all(map(_is_count, shape)):
        return f"kpt_shape is {shown(shape)}, and has to be two whole numbers"
    return None


def _repeats_fault(model: dict[str, Any], rows: list[Any]) -> str | None:
    """More layers than a model has, after depth scaling: each takes time to build before any weight is compared."""
    depths = [model.get("depth_multiple", 1.0), *(scale[0] for scale in (model.get("scales") or {}).values())]
    total = sum(row[1] for row in rows) * max(depths)
    return f"its rows repeat {total:.0f} layers, more than {REPEATS}" if total > REPEATS else None


def _is_argument(value: object) -> bool:
    """A number, a word of ``WORDS``, None, or a short list of numbers."""
    if isinstance(value, (list, tuple)):
        return len(value) <= ARGUMENTS and all(map(_is_number, value))
    if isinstance(value, str):
        return value in WORDS
    return value is None or _is_number(value)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and abs(value) <= LARGEST


def _is_count(value: object) -> bool:
    return type(value) is int and 1 <= value <= LARGEST
