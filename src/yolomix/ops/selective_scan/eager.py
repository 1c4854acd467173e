"""Selective scan in plain PyTorch: trains, exports and runs wherever PyTorch does.

The sequence is cut into chunks of ``STEPS`` time steps, and one time step of all chunks is taken at once. A first pass
starts every chunk from a zero state and gives its end state. The end states are then carried from chunk to chunk by
doubling. A second pass starts from the right states and gives the outputs. Decays over several time steps are
exp(A * sum of dt), never products or quotients of decays: nothing is divided, and nothing underflows that matters.

A long sequence is cut into segments of about ``SEGMENT`` state values, one after the other. The backward pass computes
each of them again, so that no tensor of (B, D, L, N) values is ever held. A graph that is being exported or compiled
has a single segment: there the runtime decides what it holds.

Letters: B batch, D channels, L time steps, N state size, G groups, P = D / G channels of a group, S time steps of a
segment, J its chunks.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops.forcing import is_counting, note_scan
from yolomix.ops.precision import accum_dtype
from yolomix.ops.selective_scan.inputs import ScanInputs
from yolomix.ops.tracing import into_a_graph, traced_into_onnx

STEPS = 16  # time steps of a chunk: more of them make a longer graph, fewer make more rounds of the carry
SEGMENT = 1 << 20  # state values (batch x channels x states x time steps) worked on at a time
SHORTEST = 4 * STEPS  # a segment has at least this many time steps: below, every one is an operation of its own


def refusals(inputs: ScanInputs) -> list[str]:
    """Nothing is refused."""
    return []


def run(inputs: ScanInputs) -> Tensor | tuple[Tensor, Tensor]:
    """The scan, (B, D, L), and the last state (B, D, N) if asked for.

    >>> u, A, B = torch.ones(1, 2, 4), torch.zeros(2, 3), torch.ones(1, 3, 4)
    >>> run(ScanInputs(u, u, A, B, B))[0, 0]
    tensor([ 3.,  6.,  9., 12.])
    """
    u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state = inputs
    dtype = accum_dtype(u.dtype)
    x, dt = u.to(dtype), delta.to(dtype)
    if delta_bias is not None:
        dt = dt + delta_bias.to(dtype)[:, None]
    if delta_softplus:
        dt = F.softplus(dt)
    rates = A.to(dtype.to_complex() if A.is_complex() else dtype)
    y, last = scan(dt, dt * x, rates, B, C)
    if D is not None:
        y = y + D.to(dtype)[:, None] * x
    if z is not None:
        y = y * F.silu(z.to(dtype))
    out = y.to(u.dtype)
    return (out, last) if return_last_state else out


def scan(dt: Tensor, x: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    """h_t = exp(dt_t A) h_(t-1) + x_t B_t and y_t = <h_t, C_t>: the outputs (B, D, L) and the last state (B, D, N).

    >>> dt, B = torch.ones(1, 1, 3), torch.ones(1, 1, 3)
    >>> A = torch.tensor([[0.5]]).log()  # half of the state is kept at every time step
    >>> scan(dt, torch.ones(1, 1, 3), A, B, B)[0]
    tensor([[[1.0000, 1.5000, 1.7500]]])

    Args:
        dt: step sizes, (B, D, L), in the type to compute in.
        x: input times step size, (B, D, L), in the same type.
        A: (D, N), of that type or complex.
        B: as in ``ScanInputs``, in any type.
        C: as B.
    """
    if is_counting():
        note_scan(*x.shape, A.shape[1])
        y, last = torch.ops.yolomix.counted_scan(dt, x, A, B, C)  # entered by `counting`
        return y, last
    batch = x.shape[0]  # may stay a symbol in a graph; the time steps are unrolled there
    channels, length = (int(n) for n in x.shape[1:])
    groups = math.lcm(*(int(m.shape[1]) for m in (B, C) if m.dim() == 4))
    rates = _by_group(A, groups)
    b, c = _prepared(B, A, x.dtype, groups), _prepared(C, A, x.dtype, groups)
    dt, x = dt.reshape(batch, groups, -1, length), x.reshape(batch, groups, -1, length)
    if into_a_graph():
        y, h = _segment(dt, x, b, c, rates, None)
    else:
        y, h = _Segments.apply(dt, x, b, c, rates)
    return y.reshape(batch, channels, length), h.transpose(-1, -2).reshape(batch, *A.shape)


class _Segments(torch.autograd.Function):
    """``_segment`` after ``_segment``; the backward pass takes them up again from the last one, from the states kept.

    dt, x: (B, G, P, L); b, c: (B, G, N, L), or (G, N, P) if constant; A: (G, N, P).
    """

    @staticmethod
    def forward(ctx: Any, dt: Tensor, x: Tensor, b: Tensor, c: Tensor, A: Tensor) -> tuple[Tensor, Tensor]:
        y, h = torch.empty_like(x), A.new_zeros(x.shape[0], *A.shape)
        states = []
        for part in _parts(x, A):
            states.append(h)
            arguments = [*_cut((dt, x, b, c), part), A, h]
            y[..., part], h = _segment(*arguments)
        ctx.save_for_backward(dt, x, b, c, A, *states)
        return y, h

    @staticmethod
    def backward(ctx: Any, grad_y: Tensor, grad_h: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the inputs from those of y (B, G, P, L) and of the last state (B, G, N, P)."""
        if torch.is_grad_enabled():
            raise NotImplementedError(
                "the eager selective_scan has no second derivative, and create_graph=True asked for one; "
                'take backend="reference" for it'
            )
        *sequences, A = ctx.saved_tensors[:5]
        states = ctx.saved_tensors[5:]
        grads = [torch.zeros_like(m) for m in (*sequences, A)]
        for part, h in zip(reversed(_parts(sequences[1], A)), reversed(states), strict=True):
            leaves = [m.detach().requires_grad_() for m in (*_cut(sequences, part), A, h)]
            with torch.enable_grad():
                results = _segment(*leaves)
            *found, grad_h = torch.autograd.grad(results, leaves, (grad_y[..., part], grad_h))
            for total, new in zip([*_cut(grads[:4], part), grads[4]], found, strict=True):
                total.add_(new)  # a view of the whole gradient, or for A and constant matrices its sum over segments
        return tuple(grads)


def _parts(x: Tensor, A: Tensor) -> list[slice]:
    """The time steps of each segment of x (B, G, P, L): a multiple of ``STEPS``, for ``SEGMENT`` state values."""
    per_step = x.shape[0] * A.numel()
    steps = max(SHORTEST, SEGMENT // per_step // STEPS * STEPS)
    return [slice(start, start + steps) for start in range(0, x.shape[-1], steps)]


def _cut(values: Sequence[Tensor], part: slice) -> list[Tensor]:
    """The time steps of one segment of (B, G, P, L), as views; constant matrices (G, N, P) have none and stay whole."""
    return [m[..., part] if m.dim() == 4 else m for m in values]


def _by_group(matrix: Tensor, groups: int) -> Tensor:
    """(D, N) as (G, N, P), the channels last: the shape of the state without its batch."""
    return matrix.view(groups, -1, matrix.shape[1]).transpose(-1, -2).contiguous()


def _prepared(matrix: Tensor, A: Tensor, dtype: torch.dtype, groups: int) -> Tensor:
    """B or C as (B, G, N, L), its groups repeated to that many, or as (G, N, P) if constant; complex if A is."""
    if matrix.dim() == 2:
        return _by_group(matrix.to(A.dtype), groups)
    if matrix.dim() == 3:
        matrix = matrix[:, None]
    matrix = matrix.to(dtype)
    if A.is_complex():  # real and imaginary parts alternate in the last size, 2L
        matrix = torch.complex(matrix[..., 0::2], matrix[..., 1::2])
    if matrix.shape[1] == groups:
        return matrix
    return matrix.repeat_interleave(groups // matrix.shape[1], dim=1)


def _segment(dt: Tensor, x: Tensor, b: Tensor, c: Tensor, A: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
    """Scan one segment from state h, None for zeros: the outputs (B, G, P, S) and the state after it.

    dt, x: (B, G, P, S); b, c: (B, G, N, S), or (G, N, P) if constant; A: (G, N, P); h: (B, G, N, P).
    """
    length = int(x.shape[-1])
    spans = _by_step(dt, -2)  # each (B, J, G, 1, P)
    decays = [torch.exp(m * A) for m in spans]  # each (B, J, G, N, P)
    inputs = [m * n for m, n in zip(_by_step(x, -2), _matrices(b, len(spans)), strict=True)]
    ends = inputs[0]  # the first pass, from zero states
    for decay, value in zip(decays[1:], inputs[1:], strict=True):
        ends = value + decay * ends
    state, last = _carry(ends, torch.cat(spans, dim=-2).sum(-2, keepdim=True), A, h)
    outputs = []  # the second pass, from the right states
    for decay, value, m in zip(decays, inputs, _matrices(c, len(spans)), strict=True):
        state = value + decay * state
        outputs.append(_read(state, m))
    y = torch.cat(outputs, dim=-2)  # (B, J, G, STEPS, P)
    y = y.permute(0, 2, 4, 1, 3).flatten(3)[..., :length]
    return (2 * y.real if y.is_complex() else y), last


def _read(state: Tensor, matrix: Tensor) -> Tensor:
    """<h, C> for states (B, J, G, N, P) and C of one time step: (B, J, G, 1, P)."""
    if matrix.dim() == 3 or not traced_into_onnx():
        return (state * matrix).sum(-2, keepdim=True)
    return matrix.transpose(-1, -2) @ state  # ONNX Runtime takes 0.5 to 0.6 of the time of the whole scan


def _by_step(values: Tensor, axis: int) -> tuple[Tensor, ...]:
    """Cut (B, G, F, S) into J chunks of T time steps, zeros at the end: T tensors, a time step of each chunk.

    They are (B, J, G, 1, F) for axis -2 and (B, J, G, F, 1) for axis -1, where the other factor has its own size.
    """
    batch = values.shape[0]
    groups, width, length = (int(n) for n in values.shape[1:])
    steps = min(STEPS, length)
    chunks = -(-length // steps)
    if chunks * steps > length:
        values = F.pad(values, (0, chunks * steps - length))  # a step size of 0 keeps the state as it is
    cut = values.view(batch, groups, width, chunks, steps)
    order = (0, 3, 1, 4, 2) if axis == -2 else (0, 3, 1, 2, 4)
    return torch.split(cut.permute(order).contiguous(), 1, dim=axis)


def _matrices(matrix: Tensor, steps: int) -> Sequence[Tensor]:
    """B or C, (B, G, N, S) or (G, N, P), at every time step, ready to multiply a state (B, J, G, N, P)."""
    return [matrix] * steps if matrix.dim() == 3 else _by_step(matrix, -1)


def _carry(ends: Tensor, spans: Tensor, A: Tensor, h: Tensor | None) -> tuple[Tensor, Tensor]:
    """The state before each chunk, (B, J, G, N, P), and the one after the last, by doubling.

    ends: what each chunk leaves when it starts from zero; spans: sum of dt over each chunk, (B, J, G, 1, P);
    h: the state before the first chunk, None for zeros.
    """
    chunks = int(ends.shape[1])
    if h is None:
        start, after = torch.zeros_like(ends[:, :1]), ends
    else:
        start = h[:, None]
        after = torch.cat([ends[:, :1] + _decay(spans[:, :1], A) * start, ends[:, 1:]], dim=1)
    if chunks == 1:
        return start, after[:, 0]  # no empty tensor is put beside it, which ncnn cannot hold
    reach = 1  # chunks that ``spans`` sums over, the state after j having been carried over as many
    while reach < chunks:
        moved = after[:, reach:] + _decay(spans[:, reach:], A) * after[:, :-reach]
        after = torch.cat([after[:, :reach], moved], dim=1)
        spans = torch.cat([spans[:, :reach], spans[:, reach:] + spans[:, :-reach]], dim=1)
        reach *= 2
    return torch.cat([start, after[:, :-1]], dim=1), after[:, -1]


def _decay(span: Tensor, A: Tensor) -> Tensor:
    """exp(span * A) for sums of step sizes (B, J, G, 1, P), held finite."""
    exponent = span * A
    # For A > 0 it may overflow where the state is still zero, and infinity times zero is NaN.
    largest = math.floor(math.log(torch.finfo(span.dtype).max))
    if exponent.is_complex():
        return torch.exp(torch.complex(exponent.real.clamp(max=largest), exponent.imag))
    return torch.exp(exponent.clamp(max=largest))
