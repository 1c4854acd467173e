"""Why Triton kernels cannot run here: the sentences that the backends of the operators share."""

from __future__ import annotations

import functools
import os
import shutil

import torch
import triton
from torch import Tensor

OLDEST = (3, 3)  # tuples of blocks inside kernels
CAPABILITY = (7, 5)  # what Triton compiles for
LARGEST = 64  # states of a channel, which live in its thread's registers
TYPES = (torch.float32, torch.bfloat16, torch.float16)


def refusals(x: Tensor, states: int, length: int) -> list[str]:
    """Reasons against input x with so many states per channel and steps per sequence."""
    reasons = [r for r in (toolchain_refusal(), device_refusal(x)) if r]
    if x.dtype not in TYPES:
        reasons.append(f"it computes in float32 and takes float32, bfloat16 and float16, not {x.dtype}")
    if states > LARGEST:
        reasons.append(f"it keeps the state in registers and takes at most {LARGEST} states per channel, not {states}")
    if length >= 2**31:
        reasons.append(f"it counts steps in 32 bits and takes fewer than {2**31}, not {length}")
    return reasons


@torch.compiler.assume_constant_result
def toolchain_refusal() -> str | None:
    """A Triton that is too old, or no C compiler for the small launcher that Triton builds before a first launch."""
    return _toolchain()


@functools.cache
def _toolchain() -> str | None:
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < OLDEST:
        return f"it needs Triton {'.'.join(map(str, OLDEST))} or newer, got {triton.__version__}: pip install -U torch"
    if interpreted():
        return None
    named = os.environ.get("CC")
    if named and shutil.which(named) is None:
        return f"Triton builds its launcher with the C compiler named by CC, and {named!r} is not found"
    if not named and not any(shutil.which(name) for name in ("gcc", "clang")):
        return "Triton builds its launcher with a C compiler, and neither gcc nor clang is found: install one or set CC"
    return None


def device_refusal(x: Tensor) -> str | None:
    """A device that is no GPU, or a GPU that Triton does not compile for."""
    if interpreted():
        return None
    if x.device.type != "cuda":
        return f"it needs a GPU, and the tensors are on {x.device.type}"
    refusal: str | None = capability_refusal(x.device.index or 0)
    return refusal


@torch.compiler.assume_constant_result
def capability_refusal(index: int) -> str | None:
    """A GPU that Triton does not compile for."""
    return _capability(index)


@functools.cache
def _capability(index: int) -> str | None:
    if torch.version.hip is not None:
        return None
    found = torch.cuda.get_device_capability(index)
    if found >= CAPABILITY:
        return None
    needed = ".".join(map(str, CAPABILITY))
    name = torch.cuda.get_device_name(index)
    return f"it needs a GPU of compute capability {needed} or newer, and {name} has {found[0]}.{found[1]}"


@torch.compiler.assume_constant_result
def interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU instead of compiling them (for tests)."""
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")
