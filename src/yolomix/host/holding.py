"""What the weights in an exported file are: how many numbers of which type, read from the file itself."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from yolomix.host import exported

NAMES = {"f32": "float32", "f16": "float16", "i8": "int8", "u8": "int8", "uint8": "int8"}
PRECISIONS = {"FP32": "float32", "FP16": "float16", "INT8": "int8"}
SHARE = 0.25  # of the weights; a converter that gave up has none, and what is left in FP32 on purpose is less
# Bytes of a number with all that is no weight, where only the runtime reads types; measured: 2.0 to 2.2, and 1.2 to 1.3
BYTES = {"FP16": 3.0, "INT8": 1.9}
BY_SIZE = (".mnn", "_ncnn_model")


def refusal(file: Path, precision: str, parameters: int) -> str:
    """Why a file has not the precision that was asked for; empty where it has it, or nothing can be read.

    Args:
        file: the exported file or folder.
        precision: ``FP16`` or ``INT8``.
        parameters: of the model.
    """
    if file.name.endswith(BY_SIZE):
        of_each = 1e6 * exported.megabytes(file) / max(parameters, 1)
        return f"{of_each:.1f} bytes for each weight" if of_each > BYTES[precision] else ""
    numbers = weights(file)
    if not numbers or numbers[PRECISIONS[precision]] >= SHARE * numbers.total():
        return ""
    most, count = numbers.most_common(1)[0]
    return f"{count / numbers.total():.0%} of its weights in {most}"


def weights(file: Path) -> Counter[str]:
    """How many numbers of its weights are ``float32``, ``float16`` and ``int8``; nothing of a format that nobody reads.

    Args:
        file: the exported file or folder.
    """
    for suffix, read in READERS.items():
        if file.name.endswith(suffix):
            return Counter({kind: n for kind, n in read(file).items() if kind in PRECISIONS.values()})
    return Counter()


def _onnx(file: Path) -> Counter[str]:
    import onnx

    found = Counter[str]()
    for one in onnx.load(str(file)).graph.initializer:
        kind = onnx.helper.tensor_dtype_to_np_dtype(one.data_type).name
        found[NAMES.get(kind, kind)] += _count(one.dims)
    return found


def _openvino(folder: Path) -> Counter[str]:
    import openvino

    found = Counter[str]()
    (file,) = folder.glob("*.xml")
    for one in openvino.Core().read_model(file).get_ops():
        if one.get_type_name() == "Constant":
            kind = one.get_element_type().get_type_name()
            found[NAMES.get(kind, kind)] += _count(one.get_output_shape(0))
    return found


def _torchscript(file: Path) -> Counter[str]:
    import torch

    found = Counter[str]()
    module: torch.jit.ScriptModule = torch.jit.load(str(file), map_location="cpu")  # type: ignore[no-untyped-call]
    for one in (*module.parameters(), *module.buffers()):
        found[str(one.dtype).removeprefix("torch.")] += one.numel()
    return found


def _litert(file: Path) -> Counter[str]:
    from ai_edge_litert.interpreter import Interpreter

    found = Counter[str]()
    for one in Interpreter(str(file)).get_tensor_details():
        found[one["dtype"].__name__] += _count(one["shape"])
    return found


def _count(shape: Iterable[int]) -> int:
    return math.prod(int(size) for size in shape)


READERS = {".onnx": _onnx, "_openvino_model": _openvino, ".torchscript": _torchscript, ".tflite": _litert}
