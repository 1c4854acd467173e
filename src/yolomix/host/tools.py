"""Packages that write and open exported files: which are missing, do not fit, or declare another PyTorch."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import re

from torch import __version__ as torch_version

# What each format needs to be written, and what opens it, by module; in the words of pip. The versions are those that
# Ultralytics 8.4 takes. Formats that are not here Ultralytics itself checks.
WRITERS = {
    "onnx": ("onnx",),
    "openvino": ("openvino",),
    "engine": ("onnx", "tensorrt"),
    "coreml": ("coremltools", "numpy"),
    "saved_model": ("tensorflow", "onnx2tf"),
    "pb": ("tensorflow", "onnx2tf"),
    "edgetpu": ("tensorflow", "onnx2tf"),
    "litert": ("litert_torch", "ai_edge_litert"),
    "paddle": ("paddle", "x2paddle", "six"),  # the second imports the third and does not declare it
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
    "numpy": "numpy<=2.3.5",  # coremltools 9.0 fails with newer ones and does not declare it
    "onnx": "yolomix[export]",
    "onnx2tf": "onnx2tf>=1.26.3",
    "onnxruntime": "yolomix[export]",
    "openvino": "yolomix[export]",
    "paddle": "paddlepaddle>=3.0.0,<3.3.0",
    "pnnx": "pnnx<20260704",  # whose files crash ncnn
    "tensorflow": "tensorflow>=2.0.0",
    "tensorrt": "tensorrt>=7.0.0",
    "x2paddle": "x2paddle",
}


def missing(*modules: str) -> str:
    """What to type when modules are not there.

    >>> missing("openvino.runtime")
    "openvino is not installed: pip install 'yolomix[export]'"
    >>> missing("ncnn", "x2paddle")
    "ncnn, x2paddle are not installed: pip install 'ncnn' 'x2paddle'"
    """
    names = [module.partition(".")[0] for module in modules]
    packages = " ".join(f"'{PIP.get(name, name)}'" for name in names)
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'} not installed: pip install {packages}"


def lacking(form: str) -> list[str]:
    """The modules that a format needs and that are not installed.

    >>> lacking("torchscript")
    []
    """
    return [module for module in WRITERS.get(form, ()) if importlib.util.find_spec(module) is None]


def refusal(form: str) -> str | None:
    """Why a format cannot be written here, None where nothing is known to be in the way.

    >>> refusal("torchscript") is None
    True

    Args:
        form: what ``format=`` says.
    """
    if absent := lacking(form):
        return f"format={form}: {missing(*absent)}"
    for module in WRITERS.get(form, ()):
        requirement = PIP.get(module, module)
        if (here := another_version(requirement)) is not None:
            return (
                f"format={form} needs {requirement}, and this is {here}: pip install '{requirement}', "
                "in an environment of its own if something else needs this one"
            )
        if (wanted := another_pytorch(requirement)) is not None:
            package = re.split("[<>=]", requirement)[0]
            return (
                f"format={form} needs {package}, which declares torch{wanted}, and this is torch {torch_version}: "
                "export in an environment of its own that has such a PyTorch; checkpoints open there as well"
            )
    return None


def another_version(requirement: str) -> str | None:
    """The version of a package that is installed, if a requirement has another one.

    >>> another_version("torch>=2"), another_version("torch<2").startswith("2.")
    (None, True)
    """
    from packaging.requirements import Requirement  # matplotlib needs it, and Ultralytics that

    wanted = Requirement(requirement)
    try:
        here = importlib.metadata.version(wanted.name)
    except importlib.metadata.PackageNotFoundError:  # a module by another package
        return None
    return None if wanted.specifier.contains(here, prereleases=True) else here


def another_pytorch(requirement: str) -> str | None:
    """The versions of PyTorch that an installed package declares, if the one that is here is none of them.

    >>> another_pytorch("onnx>=1.16") is None
    True
    """
    from packaging.requirements import Requirement

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
