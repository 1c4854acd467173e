"""What a model looks at, what it writes into its state, whether a graft was used: one function for every figure.

>>> import yolomix
>>> yolomix.figures.KINDS[:3]
('erf', 'cam', 'attention')

Each takes models and images, and returns a :class:`yolomix.figures.values.Figure`: arrays, and a drawing of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from yolomix.figures.kinds import KINDS

if TYPE_CHECKING:
    from yolomix.figures.kinds.attention import attention as attention
    from yolomix.figures.kinds.cam import cam as cam
    from yolomix.figures.kinds.compare import compare as compare
    from yolomix.figures.kinds.delta import delta as delta
    from yolomix.figures.kinds.erf import erf as erf
    from yolomix.figures.kinds.gates import gates as gates
    from yolomix.figures.kinds.insertion import insertion as insertion
    from yolomix.figures.kinds.routes import routes as routes
    from yolomix.figures.kinds.scan import scan as scan
    from yolomix.figures.page import gallery as gallery
    from yolomix.figures.values import Figure as Figure

_HOME = {kind: f"kinds.{kind}" for kind in KINDS} | {"gallery": "page", "Figure": "values"}
__all__ = [
    "KINDS", "Figure", "attention", "cam", "compare", "delta", "erf", "gallery", "gates", "insertion", "routes", "scan",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'yolomix.figures' has no attribute {name!r}; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
