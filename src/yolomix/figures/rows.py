"""What one position reads from all others: a row of the matrix that a scan or an attention multiplies its values with.

A selective scan is linear in its values u once the step sizes, B and C are known: y_t = sum over s of alpha_ts u_s with
alpha_ts = C_t exp(A (dt_(s+1) + .. + dt_t)) dt_s B_s for s <= t (Ali, Zimerman, Wolf, arXiv:2403.01590, section 4), and
the skip D at s = t. A row is made directly, for every channel, and never the L x L matrix. Attention is linear in its
values, too, and its row is their gradient.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from yolomix.figures.mixers import Mixer, Path
from yolomix.nn.mambairv2_parts import WindowAttention
from yolomix.ops import halo_attention, linear_attention
from yolomix.ops.selective_scan.inputs import ScanInputs

ALL = "all directions"
WEIGHTS = "weights of all heads"


def of_mixer(mixer: Mixer, cell: int) -> dict[str, Tensor]:
    """What a cell of the map reads from every cell: (channels or heads, L), by direction and for their sum.

    Args:
        mixer: a call.
        cell: of the query, counted row by row.

    Raises:
        ValueError: the scan has no row of real numbers.
    """
    paths = mixer.paths
    if not paths:
        return {WEIGHTS: _attended(mixer, cell)}
    found = {path.direction: of_path(path, cell) for path in paths}
    if len(found) > 1:
        found[ALL] = torch.stack([*found.values()]).sum(0)
    return found


def of_path(path: Path, cell: int) -> Tensor:
    """The row of one direction, at the cells of the map: (D, L), float64."""
    time = int((path.order == cell).nonzero()[0, 0])
    row = of_scan(path.scan, time)
    at_cells = torch.zeros_like(row)
    at_cells[:, path.order] = row
    return at_cells


def of_scan(scan: ScanInputs, time: int) -> Tensor:
    """The row of a time step, in the order of time: (D, L), float64, zero after it.

    >>> u = torch.ones(1, 1, 3)
    >>> of_scan(ScanInputs(u, u, A=-torch.ones(1, 1), B=u, C=u), 1).round(decimals=3)
    tensor([[0.3680, 1.0000, 0.0000]], dtype=torch.float64)

    Args:
        scan: of one image, without a gate.
        time: the step, from 0.

    Raises:
        ValueError: A is complex, or B and C are not one value for every state and step.
    """
    if scan.A.is_complex() or scan.B.dim() != 3 or scan.C.dim() != 3:
        raise ValueError("a row is made of scans with a real A and with B and C of shape (1, N, L)")
    steps = step_sizes(scan)[:, : time + 1]  # (D, t + 1)
    since = steps.sum(1, keepdim=True) - steps.cumsum(1)  # of all steps after each, to the query's
    A, B, C = scan.A.double(), scan.B[0].double(), scan.C[0].double()
    row = torch.zeros(steps.shape[0], scan.u.shape[2], dtype=torch.float64, device=steps.device)
    for n in range(A.shape[1]):
        row[:, : time + 1] += C[n, time] * torch.exp(A[:, n, None] * since) * steps * B[n, : time + 1]
    if scan.D is not None:
        row[:, time] += scan.D.double()
    return row


def step_sizes(scan: ScanInputs) -> Tensor:
    """Δ of every channel and time step, after bias and softplus: (D, L), float64.

    >>> zero = torch.zeros(1, 2, 3)
    >>> step_sizes(ScanInputs(zero, zero, zero[0, :, :1], zero[:, :1], zero[:, :1], delta_softplus=True))[0, 0]
    tensor(0.6931, dtype=torch.float64)
    """
    delta = scan.delta[0].double()
    if scan.delta_bias is not None:
        delta = delta + scan.delta_bias.double()[:, None]
    return F.softplus(delta) if scan.delta_softplus else delta


def _attended(mixer: Mixer, cell: int) -> Tensor:
    """The weights of every head, (heads, L): the gradient of what the query gives by the values, at any channel."""
    query = divmod(cell, mixer.size[1])
    if mixer.operator == "window_attention":
        module, qkv = mixer.inputs
        values = qkv.shape[-1] // 3
        wide = qkv.double().requires_grad_()
        with torch.enable_grad():
            y = _without_projection(module)(wide)[0, query[0], query[1]].sum()
        gradient = torch.autograd.grad(y, wide)[0][0, ..., -values:].permute(2, 0, 1)
        heads = module.num_heads
    else:
        inputs, operator = mixer.inputs[0], OPERATORS[mixer.operator]
        wide = inputs._replace(**{name: value.double() for name, value in inputs._asdict().items() if _is_real(value)})
        wide = wide._replace(v=wide.v.detach().requires_grad_())
        with torch.enable_grad():
            y = operator(*wide, backend="eager")[0, :, query[0], query[1]].sum()
        gradient = torch.autograd.grad(y, wide.v)[0][0]
        heads = inputs.num_heads
    return torch.unflatten(gradient.flatten(1), 0, (heads, -1)).mean(1).detach()


def _is_real(value: Any) -> bool:
    return isinstance(value, Tensor) and value.is_floating_point()


def _without_projection(module: WindowAttention) -> nn.Module:
    found = copy.deepcopy(module).double()
    found.add_module("proj", nn.Identity())
    return found


OPERATORS: dict[str, Callable[..., Tensor]] = {"halo_attention": halo_attention, "linear_attention": linear_attention}
