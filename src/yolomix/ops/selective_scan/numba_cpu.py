"""Selective scan on CPU in Numba: which inputs it takes, and bringing them into the form that the kernels take.

The kernels take float32 and channels in whole vectors. Everything else is brought into this form with PyTorch's own
operations, which have their own gradients.
"""

from __future__ import annotations

from math import lcm

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._numba.layout import padded
from yolomix.ops.backend import needs_gradients
from yolomix.ops.selective_scan.inputs import ScanInputs
from yolomix.ops.selective_scan.numba_operator import ScanKernelInputs, scan_op

TAKEN = (torch.float32, torch.bfloat16, torch.float16)


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
    """The scan, (B, D, L), and the last state (B, D, N) if asked for.

    >>> from yolomix.ops.selective_scan import example
    >>> inputs = example.inputs("cpu")
    >>> run(inputs).shape == inputs.u.shape
    True
    """
    B, C, groups = _same_groups(inputs.B.float(), inputs.C.float())
    out, last, _, _ = scan_op(*_in_whole_vectors(inputs, B, C, groups))
    channels = inputs.u.shape[1]
    out = _crop(out, groups, channels).to(inputs.u.dtype)
    return (out, _crop(last, groups, channels)) if inputs.return_last_state else out


def _same_groups(B: Tensor, C: Tensor) -> tuple[Tensor, Tensor, int]:
    """B and C, those that vary in time as (B, G, N, L) with one G, and G; 1 if both are constant (D, N)."""
    matrices = [m[:, None] if m.dim() == 3 else m for m in (B, C)]
    groups = lcm(*(m.shape[1] for m in matrices if m.dim() == 4))
    for i, m in enumerate(matrices):
        if m.dim() == 4 and m.shape[1] < groups:
            matrices[i] = m.repeat_interleave(groups // m.shape[1], 1)
    return matrices[0], matrices[1], groups


def _in_whole_vectors(inputs: ScanInputs, B: Tensor, C: Tensor, groups: int) -> ScanKernelInputs:
    """What the kernels take; B and C are (B, G, N, L) or (D, N) already."""
    u, delta, A, _, _, D, z, bias, softplus, _ = inputs
    return ScanKernelInputs(
        u=_pad(u.float(), 1, groups),
        delta=_pad(delta.float(), 1, groups),
        A=_pad(A.float(), 0, groups),
        B=_pad(B, 0, groups) if B.dim() == 2 else B,
        C=_pad(C, 0, groups) if C.dim() == 2 else C,
        D=None if D is None else _pad(D.float(), 0, groups),
        z=None if z is None else _pad(z.float(), 1, groups),
        delta_bias=None if bias is None else _pad(bias.float(), 0, groups),
        delta_softplus=softplus,
        keep_checkpoints=needs_gradients(inputs),
    )


def _pad(x: Tensor, dim: int, groups: int) -> Tensor:
    """Zeros behind the channels of every group, up to a multiple of ``LANES``: no vector holds channels of two groups.

    x: (B, D, L), (D, N) or (D,), with its channels in dimension ``dim``.
    """
    size = x.shape[dim] // groups
    if size == padded(size):
        return x
    x = x.reshape(*x.shape[:dim], groups, size, *x.shape[dim + 1 :])
    behind = [0, 0] * (x.dim() - dim - 2) + [0, padded(size) - size]
    return F.pad(x, behind).flatten(dim, dim + 1)


def _crop(x: Tensor, groups: int, channels: int) -> Tensor:
    """``_pad`` undone in dimension 1 of x, (B, D, L) or (B, D, N)."""
    if x.shape[1] == channels:
        return x
    grouped = x.reshape(x.shape[0], groups, -1, x.shape[2])
    return grouped[:, :, : channels // groups].flatten(1, 2)
