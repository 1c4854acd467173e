"""Precisions of exported files: which a format has, and how the installed Ultralytics is asked for one."""

from __future__ import annotations

from typing import Any

from ultralytics import __version__
from ultralytics.engine import exporter as exporters

NAMES = {32: "FP32", 16: "FP16", 8: "INT8"}
SWITCHES = {16: "half", 8: "int8"}  # of Ultralytics before quantize=


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
    return {"quantize": bits} if hasattr(exporters, "FP16_FORMATS") else {SWITCHES[bits]: True}


def refusal(form: str, bits: int, data: str | None) -> str:
    """Why a format cannot be written in a precision, whatever is installed; empty where nothing is known.

    >>> refusal("onnx", 32, None), refusal("onyx", 32, None).endswith("has no format=onyx")
    ('', True)

    Args:
        form: what ``format=`` says.
        bits: 32, 16 or 8.
        data: the images with which INT8 is calibrated; None without any.
    """
    table = exporters.export_formats()
    if form not in table["Argument"]:
        return f"Ultralytics {__version__} has no format={form}"
    taken: dict[str, list[str]] = dict(zip(table["Argument"], table.get("Arguments", ()), strict=False))
    if not _has(form, bits, taken):
        return f"Ultralytics {__version__} has no {NAMES[bits]} in format={form}"
    # Ultralytics would calibrate with a dataset that it downloads.
    if bits == 8 and data is None and "data" in taken.get(form, ("data",)):
        return "INT8 is calibrated with images: data=your.yaml"
    return ""


def _has(form: str, bits: int, taken: dict[str, list[str]]) -> bool:
    if hasattr(exporters, "FP16_FORMATS"):
        if bits == 32:
            return form not in exporters.FP32_UNSUPPORTED_FORMATS
        return form in (exporters.FP16_FORMATS if bits == 16 else exporters.INT8_FORMATS)
    # Before 8.3.26 or so the table has no arguments: what a format lacks is then left out without a word.
    return bits == 32 or form not in taken or SWITCHES[bits] in taken[form]
