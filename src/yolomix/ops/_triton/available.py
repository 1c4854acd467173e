"""Why Triton kernels cannot run here: the sentences that the backends of the operators share."""

from __future__ import annotations

import functools
import os
import shutil

import torch
import triton
from torch import Tensor

from yolomix.ops.tracing import constant_in_graphs

MIN_TRITON = (3, 3)  # tuples of blocks inside kernels
MIN_CAPABILITY = (7, 5)  # what Triton compiles for
MAX_STATES = 64  # state size of a channel, which lives in its thread's registers
DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def refusals(x: Tensor, states: int, length: int) -> list[str]:
    """Reasons why a scan with input x cannot run, x being (B, D, L) or (B, D, H, W).

    >>> refusals(torch.ones(1, 8, 5), states=65, length=5)[-1]
    'it keeps the state in registers and takes a state size N of at most 64, not 65'

    Args:
        x: the input, for its device and type.
        states: state size N.
        length: time steps L.
    """
    reasons = [reason for reason in (_toolchain_refusal(), _device_refusal(x)) if reason]
    if x.dtype not in DTYPES:
        reasons.append(f"it computes in float32 and takes float32, bfloat16 and float16, not {x.dtype}")
    if states > MAX_STATES:
        reasons.append(
            f"it keeps the state in registers and takes a state size N of at most {MAX_STATES}, not {states}"
        )
    if length >= 2**31:
        reasons.append(f"it counts time steps in 32 bits and takes fewer than {2**31}, not {length}")
    return reasons


@constant_in_graphs
def _toolchain_refusal() -> str | None:
    """A Triton that is too old, or no C compiler for the small launcher that Triton builds before a first launch."""
    return _toolchain()


@functools.cache
def _toolchain() -> str | None:
    version = tuple(int(part) for part in triton.__version__.split(".")[:2])
    if version < MIN_TRITON:
        needed = ".".join(map(str, MIN_TRITON))
        return f"it needs Triton {needed} or newer, got {triton.__version__}: pip install -U torch"
    if _interpreted():
        return None
    named = os.environ.get("CC")
    if named and shutil.which(named) is None:
        return f"Triton builds its launcher with the C compiler named by CC, and {named!r} is not found"
    if not named and not any(shutil.which(name) for name in ("gcc", "clang")):
        return "Triton builds its launcher with a C compiler, and neither gcc nor clang is found: install one or set CC"
    return None


def _device_refusal(x: Tensor) -> str | None:
    """x, (B, D, L) or (B, D, H, W), is on no GPU, or on one that Triton does not compile for."""
    if _interpreted():
        return None
    if x.device.type != "cuda":
        return f"it needs a GPU, and the tensors are on {x.device.type}"
    return _capability_refusal(x.device.index or 0)


@constant_in_graphs
def _capability_refusal(index: int) -> str | None:
    """A GPU that Triton does not compile for."""
    return _capability(index)


@functools.cache
def _capability(index: int) -> str | None:
    if torch.version.hip is not None:  # AMD counts its capabilities in another way
        return None
    found = torch.cuda.get_device_capability(index)
    if found >= MIN_CAPABILITY:
        return None
    needed = ".".join(map(str, MIN_CAPABILITY))
    name = torch.cuda.get_device_name(index)
    return f"it needs a GPU of compute capability {needed} or newer, and {name} has {found[0]}.{found[1]}"


@constant_in_graphs
def _interpreted() -> bool:
    """Whether Triton interprets kernels on the CPU instead of compiling them (for tests)."""
    # Triton's own answer moved from its environment to ``triton.knobs`` after 3.3; the variable is the same.
    return os.environ.get("TRITON_INTERPRET", "0").lower() in ("1", "true", "yes", "on", "y")
