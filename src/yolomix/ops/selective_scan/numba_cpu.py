"""Selective scan on CPU in Numba: which inputs it takes, and bringing them into the form that the kernels take.

The kernels take float32 and channels in whole vectors. Everything else is brought into this form with PyTorch's own
operations, which have their own gradients.
"""

from __future__ import annotations

from math import lcm
from typing import TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._numba.layout import padded
from yolomix.ops.backend import needs_gradients
from yolomix.ops.selective_scan.inputs import ScanInputs
from yolomix.ops.selective_scan.numba_operator import ScanKernelInputs, scan_op

TAKEN = (torch.float32, torch.bfloat16, torch.float16)

AnyTensor = TypeVar("AnyTensor", Tensor, Tensor | None)


def refusals(inputs: ScanInputs) -> list[str]:
    """Only real values in float32 or narrower.

    >>> from yolomix.ops.selective_scan import example
    >>> inputs = example.inputs("cpu")
    >>> refusals(inputs), refusals(inputs._replace(u=inputs.u.double()))
    ([], ['it computes in float32, which is less than torch.float64'])
    """
    reasons = []
    if inputs.A.is_complex():
        reasons.append(f"it computes real states, and A is {inputs.A.dtype}")
    wide = set()
    for x in inputs:
        if isinstance(x, Tensor) and not x.is_complex() and x.dtype not in TAKEN:
            wide.add(str(x.dtype))
    if wide:
        reasons.append(f"it computes in float32, which is less than {', '.join(sorted(wide))}")
    return reasons


def run(inputs: ScanInputs) -> Tensor | tuple[Tensor, Tensor]:
    """The scan, (B, D, L), and the last state (B, D, N) if asked for."""
    scan, groups = _in_whole_vectors(inputs)
    out, last, _, _ = scan_op(*scan)
    channels = inputs.u.shape[1]
    out = _crop(out, groups, channels).to(inputs.u.dtype)
    return (out, _crop(last, groups, channels)) if inputs.return_last_state else out


def _in_whole_vectors(inputs: ScanInputs) -> tuple[ScanKernelInputs, int]:
    """What the kernels take, and the number of groups of channels in it."""
    B, C, groups = _same_groups(inputs.B.float(), inputs.C.float())
    scan = ScanKernelInputs(
        u=_pad(inputs.u, 1, groups),
        delta=_pad(inputs.delta, 1, groups),
        A=_pad(inputs.A, 0, groups),
        B=B,
        C=C,
        D=_pad(inputs.D, 0, groups),
        z=_pad(inputs.z, 1, groups),
        delta_bias=_pad(inputs.delta_bias, 0, groups),
        delta_softplus=inputs.delta_softplus,
        keep_checkpoints=needs_gradients(inputs),
    )
    return scan, groups


def _same_groups(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, int]:
    """B and C as (B, G, N, L) with the same G, or constant (D, N) and padded; and G, which is 1 for two constants."""
    matrices = [m[:, None] if m.dim() == 3 else m for m in (B, C)]
    groups = lcm(*(m.shape[1] for m in matrices if m.dim() == 4))
    for i, m in enumerate(matrices):
        if m.dim() == 2:
            matrices[i] = _pad(m, 0, groups)
        elif m.shape[1] < groups:
            matrices[i] = m.repeat_interleave(groups // m.shape[1], 1)
    return matrices[0], matrices[1], groups


def _pad(x: AnyTensor, dim: int, groups: int) -> AnyTensor:
    """In float32, with zeros behind the channels of every group, so that no vector holds channels of two groups.

    x: (B, D, L), (D, N), (D,) or None, with its channels in dimension ``dim``.
    """
    if x is None:
        return x
    size = x.shape[dim] // groups
    if size == padded(size):
        return x.float()
    grouped = x.float().reshape(*x.shape[:dim], groups, size, *x.shape[dim + 1 :])
    behind = [0, 0] * (grouped.dim() - dim - 2) + [0, padded(size) - size]  # F.pad counts from the last dimension
    return F.pad(grouped, behind).flatten(dim, dim + 1)


def _crop(x: Tensor, groups: int, channels: int) -> Tensor:
    """``_pad`` undone in dimension 1 of x, (B, D, L) or (B, D, N)."""
    if x.shape[1] == channels:
        return x
    grouped = x.reshape(x.shape[0], groups, -1, x.shape[2])
    return grouped[:, :, : channels // groups].flatten(1, 2)
