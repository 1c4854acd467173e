"""Precisions of exported files: which formats have them, and how the installed Ultralytics is asked for one."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from ultralytics import __version__
from ultralytics.engine import exporter as exporters

NAMES = {32: "FP32", 16: "FP16", 8: "INT8"}
SWITCHES = {"FP16": "half", "INT8": "int8"}  # of Ultralytics before quantize=
CALIBRATED = ("openvino", "engine", "saved_model", "edgetpu", "tflite")  # by images, where Ultralytics has no list
# Of Ultralytics 8.3.0, which has no table of them.
OLDEST = {
    "FP16": ("onnx", "openvino", "engine", "coreml", "ncnn", "tflite"),
    "INT8": ("openvino", "engine", "coreml", "saved_model", "edgetpu", "tflite"),
}


def is_by_bits() -> bool:
    """Whether Ultralytics is asked for a precision by ``quantize=``, and lists the formats of each."""
    return hasattr(exporters, "FP16_FORMATS")


def arguments(bits: int) -> dict[str, Any]:
    """What ``export`` takes for a precision.

    >>> arguments(32)
    {}
    >>> arguments(8) in ({"quantize": 8}, {"int8": True})
    True

    Args:
        bits: 32, 16 or 8.
    """
    if bits == 32:  # what is written where nothing is asked for
        return {}
    return {"quantize": bits} if is_by_bits() else {SWITCHES[NAMES[bits]]: True}


def formats(precision: str) -> Collection[str]:
    """The formats that have a precision, by ``format=``.

    >>> "onnx" in formats("FP32"), "openvino" in formats("INT8"), "torchscript" in formats("INT8")
    (True, True, False)

    Args:
        precision: ``FP32``, ``FP16`` or ``INT8``.
    """
    table = exporters.export_formats()
    if precision == "FP32":
        lacking = getattr(exporters, "FP32_UNSUPPORTED_FORMATS", ())
        return [form for form in table["Argument"] if form not in lacking]
    if is_by_bits():
        listed: Collection[str] = getattr(exporters, f"{precision}_FORMATS")
        return listed
    if "Arguments" not in table:
        return OLDEST[precision]
    rows = zip(table["Argument"], table["Arguments"], strict=True)
    return [form for form, taken in rows if SWITCHES[precision] in taken]


def takes_images(form: str) -> bool:
    """Whether INT8 in a format is calibrated with images. Ultralytics downloads some where none are given.

    >>> takes_images("openvino"), takes_images("torchscript")
    (True, False)
    """
    table = exporters.export_formats()
    taken = dict(zip(table["Argument"], table.get("Arguments", ()), strict=False))
    return form in CALIBRATED or "data" in taken.get(form, ())


def refusal(form: str, bits: int, data: str | None) -> str:
    """Why a format cannot be written in a precision, whatever is installed; empty where nothing is known.

    >>> refusal("onnx", 32, None), refusal("onyx", 32, None).endswith("has no format=onyx")
    ('', True)

    Args:
        form: what ``format=`` says.
        bits: 32, 16 or 8.
        data: the images with which INT8 is calibrated; None without any.
    """
    if form not in exporters.export_formats()["Argument"]:
        return f"Ultralytics {__version__} has no format={form}"
    if form not in formats(NAMES[bits]):
        return f"Ultralytics {__version__} has no {NAMES[bits]} in format={form}"
    if bits == 8 and data is None and takes_images(form):
        return "INT8 is calibrated with images: data=your.yaml"
    return ""
