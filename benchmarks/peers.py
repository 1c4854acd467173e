"""Others who compute a selective scan on a CPU, in the form (u, delta, A, B, C, D, bias), softplus applied to delta."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.four_copy import four_copy
from yolomix.ops.selective_scan import selective_scan
from yolomix.ops.ss2d import ss2d

Function = Callable[..., Tensor]


def ours(*args: Tensor, backend: str) -> Tensor:
    """A backend of ours."""
    u, delta, A, B, C, D, bias = args
    found = selective_scan(u, delta, A, B, C, D, None, bias, True, backend=backend)
    assert isinstance(found, Tensor)
    return found


def sequential(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """One step after the other in float32, with the operations of mamba_ssm's ``selective_scan_ref``.

    It is what Mamba detectors fall back to without their CUDA extension.
    """
    dt = F.softplus(delta + bias[:, None])
    b, c = (m.repeat_interleave(u.shape[1] // m.shape[1], 1) for m in (B, C))
    decays = torch.exp(torch.einsum("bdl,dn->bdln", dt, A))
    inputs = torch.einsum("bdl,bdnl,bdl->bdln", dt, b, u)
    h, steps = u.new_zeros(u.shape[0], *A.shape), []
    for t in range(u.shape[2]):
        h = decays[:, :, t] * h + inputs[:, :, t]
        steps.append(torch.einsum("bdn,bdn->bd", h, c[..., t]))
    return torch.stack(steps, 2) + D[:, None] * u


def mambapy(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
    """The parallel scan of the package mambapy, with the preparation that its Mamba block does."""
    from mambapy.pscan import pscan

    dt = F.softplus(delta + bias[:, None]).mT  # (B, L, D)
    b, c = (m.repeat_interleave(u.shape[1] // m.shape[1], 1).permute(0, 3, 1, 2) for m in (B, C))  # (B, L, D, N)
    h = pscan(torch.exp(dt[..., None] * A), dt[..., None] * b * u.mT[..., None])
    return (h * c).sum(-1).mT + D[:, None] * u


def scans() -> dict[str, Function]:
    """Everybody who scans, by name."""
    found: dict[str, Function] = {name: functools.partial(ours, backend=name) for name in ("numba", "eager")}
    found["sequential"] = sequential
    if importlib.util.find_spec("mambapy") is not None:
        found["mambapy"] = mambapy
    return found


def map_scans() -> dict[str, Function]:
    """Everybody who does a 2D selective scan; the second has the official cross-scan and cross-merge around ours."""
    return {
        "numba": functools.partial(ss2d, backend="numba"),
        "four copies, numba scan": functools.partial(four_copy, scan=functools.partial(ours, backend="numba")),
        "eager": functools.partial(ss2d, backend="eager"),
    }
