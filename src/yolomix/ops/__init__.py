"""Operators: tensors in, tensors out. They need torch and nothing else; a backend file imports its own framework.

>>> from yolomix.ops import selective_scan, use_backend, backends

Each operator is the function of the same name in its folder, and here. Further names are those that code written for
mamba_ssm asks for.
"""

import sys
from types import ModuleType

from yolomix.ops.forcing import counting, use_backend
from yolomix.ops.halo_attention import halo_attention
from yolomix.ops.linear_attention import linear_attention
from yolomix.ops.mamba_ssm import mamba_inner_fn, provide_mamba_ssm, selective_scan_fn, selective_scan_ref
from yolomix.ops.selective_scan import selective_scan
from yolomix.ops.ss2d import ss2d
from yolomix.ops.status import backends

__all__ = [
    "backends",
    "counting",
    "halo_attention",
    "linear_attention",
    "mamba_inner_fn",
    "provide_mamba_ssm",
    "selective_scan",
    "selective_scan_fn",
    "selective_scan_ref",
    "ss2d",
    "use_backend",
]


class _Operators(ModuleType):
    """A package in which the name of an operator is its function."""

    def __setattr__(self, name: str, value: object) -> None:
        # Whenever a folder is imported anew, Python would put it in the place of the function of the same name.
        if name in __all__ and isinstance(value, ModuleType):
            return
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Operators
