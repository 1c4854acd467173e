"""Files that Ultralytics exports from models with scans: which form a target takes, and what it cannot take.

An operator with a mark becomes one node while Ultralytics traces an ONNX graph, and then takes the form of the target:
the last one, where a format passes through ONNX on its way to another runtime. Plain operations are every other
target's form. They unroll a scan, so they hold one length of sequence: a file of them has no open sizes.
"""

from __future__ import annotations

import copy
import functools
import inspect
import io
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import nn
from ultralytics.utils import LOGGER

from yolomix import files
from yolomix.hooks import precision, wanted
from yolomix.hooks.precision import Table
from yolomix.hooks.replacing import replaced
from yolomix.nn.layers import is_stock
from yolomix.nn.running import running
from yolomix.ops.marking import DOMAIN, Choice, marking, rehearsing

FORMS = {"onnx": "scan", "openvino": "scan"}  # for a value of format=; plain operations for every other
OLDEST_OPSET = 13  # whose Split and Unsqueeze the forms have
OPSET = 18  # where nobody asks for one
ROUNDS = "3"  # of onnxslim, a second each for Mamba-YOLO


def export_onnx(native: Callable[..., Any], exporter: Any, *args: Any, **kwargs: Any) -> Any:
    """``Exporter.export_onnx``, also on the way to other formats: scans and precision as the target holds them.

    Raises:
        ValueError: what is asked for has no form; layer, operator and remedy are named, and nothing was written.
        LoweringError: an operator cannot take its form; nothing is written then.
    """
    plan = _plan(exporter)
    if not (plan.has_form or plan.table):
        return native(exporter, *args, **kwargs)
    with ExitStack() as stack:
        # Ultralytics calls it from another place in every version.
        simplify = stack.enter_context(_taken_over()) if exporter.args.simplify else None
        stack.enter_context(replaced(torch.onnx, "export", functools.partial(_write, plan, simplify)))
        if plan.table and plan.target == "onnx":
            stack.enter_context(precision.for_onnxruntime(plan.table, plan.precision))
        return native(exporter, *args, **kwargs)


def export_openvino(native: Callable[..., Any], exporter: Any, *args: Any, **kwargs: Any) -> Any:
    """``Exporter.export_openvino``, from an ONNX graph with scans instead of one in which they are unrolled.

    Raises:
        ValueError, LoweringError: as in :func:`export_onnx`.
    """
    plan = _plan(exporter)
    with ExitStack() as stack:
        if plan.has_form:
            import openvino

            # Newer versions of Ultralytics trace before they convert; the graph is traced here.
            stack.enter_context(replaced(torch.jit, "trace", lambda _, model, *__, **___: model))
            convert = functools.partial(_convert, plan, exporter)
            stack.enter_context(replaced(openvino, "convert_model", convert))
        if plan.table:
            stack.enter_context(precision.for_openvino(plan.table, plan.precision))
        return native(exporter, *args, **kwargs)


def export_engine(native: Callable[..., Any], exporter: Any, *args: Any, **kwargs: Any) -> Any:
    """``Exporter.export_engine``, which builds from the precision that the ONNX graph has already.

    Raises:
        ValueError, LoweringError: as in :func:`export_onnx`.
    """
    plan = _plan(exporter)
    with precision.for_tensorrt(plan.table) if plan.table else nullcontext():
        return native(exporter, *args, **kwargs)


def export_plain(native: Callable[..., Any], exporter: Any, *args: Any, **kwargs: Any) -> Any:
    """``Exporter.export_torchscript`` and others that can be asked for open sizes.

    Raises:
        ValueError: as in :func:`export_onnx`.
    """
    _plan(exporter)
    return native(exporter, *args, **kwargs)


class _Layer(NamedTuple):
    """A layer, as ``model.4.m.0``, and how its call of an operator is recorded."""

    name: str
    call: Choice


class _Plan(NamedTuple):
    """What is done in an export that Ultralytics would not do.

    Args:
        target: for what the file is made, a value of ``format=``.
        has_form: whether a scan takes the form of the target.
        precision: what was asked for, ``FP16``, ``INT8`` or None.
        table: what stays in FP32, where the target lets it be said and our blocks are in the model.
    """

    target: str
    has_form: bool = False
    precision: str | None = None
    table: Table | None = None


def _plan(exporter: Any) -> _Plan:
    """What this export needs, from a rehearsal.

    Raises:
        ValueError: what is asked for needs a form, and there is none.
    """
    target, opset = str(exporter.args.format).lower(), getattr(exporter.args, "opset", None)
    if is_stock(exporter.model):
        return _Plan(target)
    found = _rehearsed(exporter.model, exporter.im)
    if exporter.args.dynamic:
        _refuse_frozen(found, target)
    marked = next((layer for layer in found if layer.call.is_marked), None)
    has_form = marked is not None and target in FORMS
    if marked is not None and target == "onnx" and opset is not None and opset < OLDEST_OPSET:
        raise ValueError(
            f"opset={opset} has no form of {marked.call.operator}, which {marked.name} calls: it needs opset "
            f"{OLDEST_OPSET} or newer. Leave opset out, or set YOLOMIX_BACKEND=eager to export plain operations"
        )
    kind = wanted.precision(exporter.args)
    table = Table(exporter.model) if kind and target in precision.TARGETS else None
    return _Plan(target, has_form, kind, table)


def _refuse_frozen(found: list[_Layer], target: str) -> None:
    """Raise if a scan would hold one length of sequence in a file that is to take any."""
    takers = " or ".join(FORMS)
    for name, call in found:
        if target not in FORMS:
            why = f"format={target} has plain operations alone. Leave dynamic out, or export to {takers}"
        elif not call.is_marked:
            why = f"{'; '.join(call.plain)}. Leave dynamic out, or call it so that a node can hold it"
        else:
            continue
        raise ValueError(
            f"dynamic=True cannot be kept: {name} calls {call.operator}, whose plain operations hold one size, "
            f"and {why}"
        )


def _rehearsed(model: nn.Module, x: torch.Tensor) -> list[_Layer]:
    """The layers that call an operator with a mark, from one pass of ``x``, (B, 3, H, W), without a graph."""
    found = list[_Layer]()
    with torch.no_grad(), running(model) as stack:

        def _note(call: Choice) -> None:
            found.append(_Layer((stack and stack[-1].name) or "the model", call))

        with rehearsing(_note):
            model(x)
    return found


@contextmanager
def _taken_over() -> Iterator[Callable[[Any], Any] | None]:
    """``onnxslim.slim``, which everybody else finds done inside the block; None where it is not installed."""
    try:
        import onnxslim
    except ImportError:
        yield None
        return
    simplify = functools.partial(_simplified, onnxslim.slim)
    with replaced(onnxslim, "slim", lambda _, model: model):
        yield simplify


def _simplified(slim: Callable[[Any], Any], model: Any) -> Any:
    """A graph after as many rounds as are worth it: the first two remove what ten do but for a twentieth.

    Where they fail it stays as it was recorded, which Ultralytics holds with a failure, too.
    """
    rounds = os.environ.get("ONNXSLIM_MAX_ITER")
    os.environ["ONNXSLIM_MAX_ITER"] = rounds or ROUNDS
    try:
        return slim(copy.deepcopy(model))  # it changes what it is given
    except Exception as error:  # noqa: BLE001, whatever it raises, the graph is right without it
        LOGGER.warning(f"yolomix: onnxslim failed, and the graph stays as it was recorded: {error}")
        return model
    finally:
        if rounds is None:
            del os.environ["ONNXSLIM_MAX_ITER"]


def _write(plan: _Plan, simplify: Callable[[Any], Any] | None, native: Any, *args: Any, **kwargs: Any) -> None:
    """``torch.onnx.export``: trace with marks, simplify, lower, and only then write the file."""
    given = inspect.signature(native).bind(*args, **kwargs).arguments
    # What a user asks for is new enough; an old Ultralytics with a new PyTorch chooses one that is not.
    if given["opset_version"] < OLDEST_OPSET:
        given["opset_version"] = OPSET
    model = _lowered(native, plan.target, simplify, **given)
    if plan.table:
        model = precision.written(model, plan.table, plan.precision)
    files.write(given["f"], model.SerializeToString())


def _convert(plan: _Plan, exporter: Any, _: Callable[..., Any], model: nn.Module, *args: Any, **kwargs: Any) -> Any:
    """``openvino.convert_model`` of a lowered graph, which OpenVINO reads as it is."""
    import openvino

    free = {"x": {0: "batch", 2: "height", 3: "width"}} if exporter.args.dynamic else None
    given = {"model": model, "args": (exporter.im,), "input_names": ["x"], "dynamic_axes": free}
    content = _lowered(torch.onnx.export, plan.target, None, opset_version=OPSET, **given).SerializeToString()
    converted = openvino.Core().read_model(content)
    for operation in converted.get_ops():
        operation.set_friendly_name(_scoped(operation.get_friendly_name()))
    return converted


def _scoped(name: str) -> str:
    """The name that a node would have if OpenVINO had read the model itself: Ultralytics finds its head by that.

    >>> _scoped("/model.23/cv2.0/conv/Conv"), _scoped("images")
    ('model.23.cv2.0.conv/Conv', 'images')
    """
    if not name.startswith("/"):
        return name
    *scopes, kind = name[1:].split("/")
    return f"{'.'.join(scopes)}/{kind}"


def _lowered(native: Callable[..., Any], target: str, simplify: Callable[[Any], Any] | None, **given: Any) -> Any:
    """An ONNX model whose scans have the form of a target; ``given`` is what ``native`` takes."""
    from yolomix.ops._onnx.lower import lower

    form = FORMS.get(target)
    with marking() if form else nullcontext():
        recorded = _recorded(native, **given)
    return lower(recorded, form or "plain", target, simplify)


def _recorded(native: Callable[..., Any], **given: Any) -> Any:
    """The graph by the exporter that is asked for: the newer one, or by default that of TorchScript."""
    import onnx

    if given.get("dynamo", False):
        return native(**{**given, "f": None}).model_proto
    content = io.BytesIO()
    domains = {DOMAIN: 1, **(given.get("custom_opsets") or {})}
    native(**{**given, "f": content, "dynamo": False, "custom_opsets": domains})
    return onnx.load_model_from_string(content.getvalue())
