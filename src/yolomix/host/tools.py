"""Packages that write and open exported files: which of them are missing, or declare another PyTorch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re

from torch import __version__ as torch_version

# What each format needs to be written, and what opens it, by module; in the words of pip. The versions are the oldest
# that Ultralytics 8.4 takes. Formats that are not here Ultralytics itself checks.
WRITERS = {
    "onnx": ("onnx",),
    "openvino": ("openvino",),
    "engine": ("onnx", "tensorrt"),
    "coreml": ("coremltools",),
    "saved_model": ("tensorflow", "onnx2tf"),
    "pb": ("tensorflow", "onnx2tf"),
    "edgetpu": ("tensorflow", "onnx2tf"),
    "litert": ("litert_torch", "ai_edge_litert"),
    "paddle": ("paddle", "x2paddle"),
    "mnn": ("MNN", "aliyun"),  # without the second, importing its converter installs it with whatever pip is found
    "ncnn": ("ncnn", "pnnx"),
    "executorch": ("executorch",),
}
PIP = {
    "MNN": "MNN>=2.9.6",
    "aliyun": "aliyun-log-python-sdk",
    "ai_edge_litert": "ai-edge-litert>=2.3.0",
    "coremltools": "coremltools>=9.0",
    "executorch": "executorch>=1.0.0",
    "litert_torch": "litert-torch>=0.10.0",
    "ncnn": "ncnn",
    "onnx": "yolomix[export]",
    "onnx2tf": "onnx2tf>=1.26.3",
    "onnxruntime": "yolomix[export]",
    "openvino": "yolomix[export]",
    "paddle": "paddlepaddle>=3.0.0",
    "pnnx": "pnnx",
    "tensorflow": "tensorflow>=2.0.0",
    "tensorrt": "tensorrt>=7.0.0",
    "x2paddle": "x2paddle",
}


def missing(module: str) -> str:
    """What to type when a module is not there.

    >>> missing("openvino.runtime")
    "openvino is not installed: pip install 'yolomix[export]'"
    """
    name = module.partition(".")[0]
    return f"{name} is not installed: pip install '{PIP.get(name, name)}'"


def refusal(form: str) -> str | None:
    """Why a format cannot be written here, None where nothing is known to be in the way.

    >>> refusal("torchscript") is None
    True

    Args:
        form: what ``format=`` says.
    """
    for module in WRITERS.get(form, ()):
        if importlib.util.find_spec(module) is None:
            return f"format={form}: {missing(module)}"
        if (wanted := another_pytorch(PIP[module])) is not None:
            package = re.split("[<>=]", PIP[module])[0]
            return (
                f"format={form} needs {package}, which declares torch{wanted}, and this is torch {torch_version}: "
                "export in an environment of its own that has such a PyTorch; checkpoints open there as well"
            )
    return None


def another_pytorch(requirement: str) -> str | None:
    """The versions of PyTorch that an installed package declares, if the one that is here is none of them.

    >>> another_pytorch("onnx>=1.16") is None
    True
    """
    from packaging.requirements import Requirement  # matplotlib needs it, and Ultralytics that

    try:
        declared = importlib.metadata.requires(Requirement(requirement).name) or []
    except importlib.metadata.PackageNotFoundError:  # a module by another package
        return None
    for text in declared:
        one = Requirement(text)
        asked = one.marker is None or one.marker.evaluate({"extra": ""})
        if one.name == "torch" and asked and not one.specifier.contains(torch_version, prereleases=True):
            return str(one.specifier)
    return None
