"""yolomix: token mixers in any Ultralytics YOLO, on any machine, without a compiler.

Public names are loaded on first use. Importing this package has one effect: Ultralytics, loaded before or later,
learns to build our blocks (see ``yolomix.hooks``).
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from yolomix import hooks
from yolomix._version import __version__

if TYPE_CHECKING:
    from yolomix import figures as figures
    from yolomix.editing import ModelEdit as ModelEdit
    from yolomix.editing import edit as edit
    from yolomix.editing import graft as graft
    from yolomix.nn.registry import register as register
    from yolomix.profiling.measuring import profile as profile
    from yolomix.studying.study import Study as Study
    from yolomix.transferring import transfer as transfer
    from yolomix.verifying.verifying import verify as verify
    from yolomix.verifying.yolo import YOLO as YOLO

_HOME = {
    "ModelEdit": "yolomix.editing",
    "Study": "yolomix.studying.study",
    "YOLO": "yolomix.verifying.yolo",
    "edit": "yolomix.editing",
    "graft": "yolomix.editing",
    "profile": "yolomix.profiling.measuring",
    "register": "yolomix.nn.registry",
    "transfer": "yolomix.transferring",
    "verify": "yolomix.verifying.verifying",
}
__all__ = [
    "YOLO",
    "ModelEdit",
    "Study",
    "__version__",
    "edit",
    "figures",
    "graft",
    "profile",
    "register",
    "transfer",
    "verify",
]


def __getattr__(name: str) -> Any:
    if name == "figures":
        return importlib.import_module("yolomix.figures")
    if name not in _HOME:
        raise AttributeError(f"module 'yolomix' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)


hooks.join()
