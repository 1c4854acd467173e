"""What to install when a package is missing: the extra of yolomix that has it."""

from __future__ import annotations

import re
from importlib import metadata

OWN = ("dev", "bench")  # extras for work on yolomix itself
MODULES = {"grad_cam": "pytorch_grad_cam"}  # of a package whose module has another name


def advice(error: ModuleNotFoundError) -> str:
    """The text of an error with what to type.

    >>> advice(ModuleNotFoundError("No module named 'onnx'", name="onnx"))
    "No module named 'onnx': pip install 'yolomix[export]'"
    """
    module = (error.name or "").partition(".")[0]
    if not module:
        return str(error)
    extra = extras().get(module)
    if extra is None:
        return f"{error}. No extra of yolomix has it: install its package, perhaps pip install {module}"
    return f"{error}: pip install 'yolomix[{extra}]'"


def extras() -> dict[str, str]:
    """The extra for every module that yolomix or Ultralytics needs for one purpose alone.

    >>> extras()["lap"]
    'track'
    """
    found = {}
    for requirement in metadata.requires("yolomix") or []:
        needed = re.match(r"([\w.-]+).*\bextra == ['\"]([\w-]+)['\"]", requirement)
        if needed and needed[2] not in OWN:
            package = needed[1].replace("-", "_")
            found[MODULES.get(package, package)] = needed[2]
    return found
