"""The precision that an export is asked for: what it is, and why it cannot be had, before anything is traced."""

from __future__ import annotations

from typing import Any

import ultralytics
from ultralytics.engine import exporter as exporters

from yolomix.host import datasets, precisions
from yolomix.host.exported import PRECISIONS
from yolomix.nn.layers import is_stock

LEAST = 16  # images to calibrate on: docs/export.md


def precision(args: Any) -> str | None:
    """What was asked for, ``FP16`` or ``INT8``; None for neither.

    >>> from types import SimpleNamespace
    >>> precision(SimpleNamespace(quantize=16)), precision(SimpleNamespace(half=False, int8=False))
    ('FP16', None)

    Args:
        args: of an exporter, of any version.
    """
    if getattr(args, "int8", None):
        return "INT8"
    if getattr(args, "half", None):
        return "FP16"
    return PRECISIONS.get(getattr(args, "quantize", None))


def check(exporter: Any, form: str, model: Any) -> None:
    """Refuse a precision that the format lacks, and INT8 without enough to calibrate on.

    A model without our blocks Ultralytics calibrates on whatever it likes.

    Args:
        exporter: of Ultralytics.
        form: what ``format=`` says.
        model: what is exported.

    Raises:
        ValueError: one of these.
    """
    asked = precision(exporter.args)
    if asked is None or getattr(exporter.args, "quantize", None) in ("w8a16", "w8a32"):
        return
    have = precisions.formats(asked)
    if form not in have and form in exporters.export_formats()["Argument"]:  # and is no alias
        raise ValueError(f"format={form} has no {asked}; formats that have it: {', '.join(sorted(have))}")
    if asked == "FP16" and form == "onnx" and not precisions.is_by_bits() and _is_cpu(exporter.args.device):
        raise ValueError(
            f"Ultralytics {ultralytics.__version__} writes FP16 into ONNX files on a GPU alone, device=0; newer ones "
            "write it on a CPU, too: pip install -U ultralytics"
        )
    is_calibrated = getattr(exporters, "is_qat", lambda model: False)(model)
    if asked == "INT8" and precisions.takes_images(form) and not (is_calibrated or is_stock(model)):
        _check_images(exporter.args, form, model.task)


def _check_images(args: Any, form: str, task: str) -> None:
    split = args.split or "val"
    if not args.data:
        raise ValueError(
            f"INT8 for format={form} is calibrated on at least {LEAST} images, and there is no data=: give the dataset "
            f"of the model, data=your.yaml, of which the split {split} is taken"
        )
    place = datasets.described(args.data, task).get(split)
    count = _count(args.fraction, split, len(datasets.images(place)) if place else 0)
    if count < LEAST:
        raise ValueError(
            f"INT8 for format={form} is calibrated on at least {LEAST} images, and the split {split} of {args.data} "
            f"gives {count}: take another split, say split=train, more of it by fraction=, or more images"
        )


def _count(fraction: Any, split: str, found: int) -> int:
    """How many of the images of a split Ultralytics takes.

    >>> _count(0.5, "val", 90), _count([1.0, 20], "val", 90), _count([0.5], "val", 90)
    (45, 20, 90)
    """
    if isinstance(fraction, list):  # of train, val and test
        given = dict(zip(("train", "val", "test"), fraction, strict=False))
        fraction = given.get(split, 1.0)
    return min(int(fraction), found) if fraction > 1 else round(found * fraction)


def _is_cpu(device: Any) -> bool:
    return str(device or "cpu") == "cpu"
