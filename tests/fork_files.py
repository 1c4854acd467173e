"""The classes of the Mamba-YOLO fork, made up, so that files can be saved as the fork saves them."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import nn

from yolomix.nn import common, mamba_yolo, mamba_yolo_parts

BLOCKS = "ultralytics.nn.modules.mamba_yolo"
UTILS = "ultralytics.nn.modules.common_utils_mbyolo"
TIMM = "timm.layers.drop"
MODULES = ("timm", "timm.layers", TIMM, BLOCKS, UTILS)

nothing = nullcontext


def forward_corev2(self: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """What the fork's mixer keeps bound in a partial."""
    return x


@functools.cache
def classes() -> dict[type, type]:
    """The fork's classes by ours."""
    found = {
        mamba_yolo_parts.MambaYoloSS2D: type(
            "SS2D", (nn.Module,), {"__module__": BLOCKS, "forward_corev2": forward_corev2}
        ),
        mamba_yolo_parts.NestedLayerNorm2d: type("LayerNorm2d", (nn.Module,), {"__module__": UTILS}),
        common.DropPath: type("DropPath", (nn.Module,), {"__module__": TIMM}),
        mamba_yolo_parts.ConvNormAct: nn.Sequential,
    }
    for name in ("RGBlock", "LSBlock", "VSSBlock", "XSSBlock", "SimpleStem", "VisionClueMerge"):
        found[getattr(mamba_yolo, name)] = type(name, (nn.Module,), {"__module__": BLOCKS})
    return found


@contextmanager
def in_place() -> Iterator[None]:
    """Put the fork's classes where the fork has them; afterwards nobody can import them."""
    before = {name: sys.modules.get(name) for name in MODULES}
    for name in MODULES:
        content = types.ModuleType(name)
        for cls in classes().values():
            if cls.__module__ == name:
                setattr(content, cls.__name__, cls)
        sys.modules[name] = content
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def as_theirs(found: Any) -> Any:
    """Give the modules inside a checkpoint, or a model, the fork's classes; they are changed in place."""
    for value in found.values() if isinstance(found, dict) else [found]:
        if not isinstance(value, nn.Module):
            continue
        for module in value.modules():
            module.__class__ = classes().get(type(module), type(module))
            if type(module).__name__ == "SS2D":
                module.forward_core = functools.partial(module.forward_corev2, force_fp32=None)  # type: ignore[operator]
        value.half()
    return found
