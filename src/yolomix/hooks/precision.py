"""FP16 and INT8 of exported files: what stays in FP32, one table for every format that lets it be said."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from torch import nn
from ultralytics.nn.modules import Detect, RTDETRDecoder

from yolomix.hooks.replacing import replaced
from yolomix.nn.mambairv2_scan import ASSM

TARGETS = ("onnx", "openvino", "engine")  # that let it be said what stays in FP32


class Kept(NamedTuple):
    """What stays in FP32, in three ways to recognise it.

    Args:
        what: it is.
        operations: by their names in ONNX and in OpenVINO, wherever they are.
        modules: what they compute themselves; not what the modules inside them do.
        scopes: everything in modules, and in calls of our operators, with these names.
    """

    what: str
    operations: tuple[str, ...] = ()
    modules: tuple[type[nn.Module], ...] = ()
    scopes: tuple[str, ...] = ()


ROWS = (
    Kept("scan", scopes=("selective_scan", "ss2d")),
    Kept("norms", ("LayerNormalization", "GroupNormalization", "InstanceNormalization", "BatchNormalization", "MVN")),
    Kept("means", ("ReduceMean", "ReduceSum", "ReduceL2", "Pow", "Sqrt")),  # and norms as written before opset 17
    Kept("softmax", ("Softmax", "SoftMax", "LogSoftmax")),
    Kept("routing and sort", ("TopK", "ArgMax"), modules=(ASSM,), scopes=("route",)),
    Kept("box decoding", modules=(Detect, RTDETRDecoder), scopes=("dfl",)),
)


class Table:
    """Which operations of a graph stay in FP32.

    Args:
        model: whose graph it is, as it is recorded.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = dict(model.named_modules())

    def keeps(self, name: str, operation: str) -> bool:
        """Whether an operation stays in FP32.

        >>> from ultralytics.nn.modules import DFL
        >>> table = Table(nn.ModuleDict({"dfl": DFL(4), "op": nn.Identity()}))
        >>> table.keeps("/dfl/conv/Conv", "Conv"), table.keeps("/op/ss2d/Mul", "Mul"), table.keeps("/op/Mul", "Mul")
        (True, True, False)

        Args:
            name: its name with the modules that it is in, as ONNX or OpenVINO writes it: ``/model.4/op/Mul``,
                ``model.4.op/Mul``, ``__module.model.4.op/aten::mul/Multiply``.
            operation: its kind, ``Softmax``.
        """
        scopes = [scope for scope in re.split("[./]", name) if scope and scope != "__module"][:-1]
        if scopes[:2] == ["model", "model"]:  # suppression is part of the graph
            del scopes[0]
        module = self.modules.get(".".join(scopes))
        return any(
            operation in row.operations or isinstance(module, row.modules) or not {*scopes}.isdisjoint(row.scopes)
            for row in ROWS
        )

    def nodes(self, graph: Any) -> set[str]:
        """The names of the nodes of an ONNX graph that stay in FP32, all of which get names of their own."""
        from yolomix.ops._onnx.halving import name_nodes

        name_nodes(graph)
        return {node.name for node in graph.node if self.keeps(node.name, node.op_type)}

    def operations(self, model: Any) -> list[str]:
        """The names of the operations of an OpenVINO model that stay in FP32."""
        found = [(one.get_friendly_name(), one.get_type_name()) for one in model.get_ops()]
        return [name for name, kind in found if self.keeps(name, kind)]


def written(model: Any, table: Table, precision: str | None) -> Any:
    """The ONNX model of a file: for FP16 with its types in it, for INT8 with names by which its nodes can be told.

    Raises:
        LoweringError: the graph in FP16 is not valid.
    """
    from yolomix.ops._onnx.halving import halve

    kept = table.nodes(model.graph)
    return halve(model, kept) if precision == "FP16" else model


@contextmanager
def for_onnxruntime(table: Table, precision: str | None) -> Iterator[None]:
    """Inside the block its converter to FP16 leaves a graph as it is written, and its quantiser leaves nodes out."""
    if precision == "FP16":
        from onnxruntime.transformers import float16

        with replaced(float16, "convert_float_to_float16", lambda _, model, **__: model):
            yield
    else:
        from onnxruntime import quantization

        with replaced(quantization, "quantize_static", functools.partial(_quantize_static, table)):
            yield


def _quantize_static(
    table: Table, native: Callable[..., Any], source: Any, *args: Any, nodes_to_exclude: Iterable[str] = (), **more: Any
) -> Any:
    import onnx

    kept = table.nodes(onnx.load(str(source)).graph)
    return native(source, *args, nodes_to_exclude=sorted({*nodes_to_exclude, *kept}), **more)


@contextmanager
def for_openvino(table: Table, precision: str | None) -> Iterator[None]:
    """Inside the block NNCF leaves operations out of INT8, and weights of these operations stay in FP32."""
    with ExitStack() as stack:
        if precision == "INT8":
            import nncf

            stack.enter_context(replaced(nncf, "quantize", functools.partial(_nncf_quantize, table)))
        yield


def _nncf_quantize(table: Table, native: Callable[..., Any], model: Any, *args: Any, **more: Any) -> Any:
    import nncf

    given = more.pop("ignored_scope", None)
    kept = table.operations(model)
    kept += _tables(model)
    scope = nncf.IgnoredScope(names=sorted({*kept, *(given.names if given else ())}))
    return native(model, *args, ignored_scope=scope, **more)


def _tables(model: Any) -> list[str]:
    """The names of the operations that look into weights, as into those of positions: NNCF ends in a KeyError there."""
    found = list[str]()
    for one in model.get_ops():
        source = one
        while source.get_type_name() in ("Gather", "Convert"):
            source = source.input_value(0).get_node()
        if one.get_type_name() == "Gather" and source.get_type_name() == "Constant":
            found.append(one.get_friendly_name())
    return found


@contextmanager
def for_tensorrt(table: Table) -> Iterator[None]:
    """Inside the block ModelOpt keeps FP16 as it is written in the graph, and INT8 away from what stays in FP32."""
    try:
        from ultralytics.utils.export import engine
    except ImportError:  # an Ultralytics that has flags for TensorRT 10 and older alone
        yield
        return
    with replaced(engine, "modelopt_quantize_onnx", functools.partial(_modelopt, table)):
        yield


def _modelopt(
    table: Table, native: Callable[..., Any], onnx_file: Any, quantize: Any = None, *args: Any, **more: Any
) -> Any:
    if quantize == 16:
        return onnx_file
    from modelopt.onnx import quantization

    with replaced(quantization, "quantize", functools.partial(_modelopt_quantize, table)):
        return native(onnx_file, quantize, *args, **more)


def _modelopt_quantize(
    table: Table,
    native: Callable[..., Any],
    onnx_path: Any,
    *args: Any,
    nodes_to_exclude: Iterable[str] = (),
    **more: Any,
) -> Any:
    import onnx

    kept = [f"^{re.escape(name)}$" for name in sorted(table.nodes(onnx.load(str(onnx_path)).graph))]
    # What is not quantised it would write in FP16, whatever it is.
    more["high_precision_dtype"] = "fp32"
    return native(onnx_path, *args, nodes_to_exclude=[*nodes_to_exclude, *kept], **more)
