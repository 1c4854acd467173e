"""ONNX files that Ultralytics exports: our operators are marked while it traces, and then take the form of the target.

The last target decides. Formats that pass through ONNX on their way to another runtime keep plain operators.
"""

from __future__ import annotations

import inspect
import io
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from yolomix import files
from yolomix.ops.marking import DOMAIN, marking

FORMS = {"onnx": "scan"}  # for a value of format=; plain operators for every other
OLDEST_OPSET = 13  # whose Split and Unsqueeze the forms have

_LOCK = threading.RLock()  # of the one torch.onnx.export that there is


def export_onnx(native: Callable[..., Any], exporter: Any, *args: Any, **kwargs: Any) -> Any:
    """``Exporter.export_onnx``, with scans in the form that the target holds.

    Raises:
        LoweringError: an operator cannot take that form; nothing is written then.
    """
    form = FORMS.get(exporter.args.format)
    if form is None or not _has_ours(exporter.model):
        return native(exporter, *args, **kwargs)
    with _lowered(form):
        return native(exporter, *args, **kwargs)


def _has_ours(model: nn.Module) -> bool:
    return any(type(module).__module__.startswith("yolomix.") for module in model.modules())


@contextmanager
def _lowered(form: str) -> Iterator[None]:
    """Let ``torch.onnx.export``, which Ultralytics calls from another place in every version, write lowered files."""
    with _LOCK:
        native = torch.onnx.export

        def _export(*args: Any, **kwargs: Any) -> Any:
            return _write_lowered(native, form, *args, **kwargs)

        torch.onnx.export = _export
        try:
            yield
        finally:
            torch.onnx.export = native


def _write_lowered(native: Callable[..., Any], form: str, *args: Any, **kwargs: Any) -> Any:
    """Trace with marks, lower, and only then write the file."""
    from yolomix.ops._onnx.lower import lower  # needs onnx, which Ultralytics has imported by now

    given = inspect.signature(native).bind(*args, **kwargs).arguments
    opset = given.get("opset_version")
    if opset is not None and opset < OLDEST_OPSET:
        return native(*args, **kwargs)
    content = io.BytesIO()
    # The tracer of TorchScript, as Ultralytics asks for since 8.3.x: it alone takes marks.
    more = {"dynamo": False, "custom_opsets": {DOMAIN: 1, **(given.get("custom_opsets") or {})}}
    with marking():
        result = native(**{**given, "f": content, **more})
    import onnx

    model = onnx.load_model_from_string(content.getvalue())
    lower(model, form)
    files.write(given["f"], model.SerializeToString())
    return result
