"""Four-direction scan in Triton, forward and backward; the kernels are in ``ops/_triton``.

Nothing is copied per direction: the map stays in channels-last memory, each direction walks its cells by index, and
delta is projected inside the kernel from the R numbers of the cell's row. The rows of all directions are one matrix
product on the map. Pictures are taken a few at a time, so that what all directions write does not take much more than
``ROOM`` bytes; only the map and the states at every 32nd step are kept for the backward pass, and the rows are computed
again there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._triton import available, layout
from yolomix.ops._triton.launch import Scan, backward, forward
from yolomix.ops._triton.plan import BACKWARD, BLOCK, FORWARD, TRAINING, Fill, Sizes, pictures, tile
from yolomix.ops.precision import full_precision
from yolomix.ops.ss2d.inputs import SS2DInputs

ROOM = 1 << 26  # bytes of what all directions write in a backward pass, held at a time; forward it is 2, 4 of that


def refusals(inputs: SS2DInputs) -> list[str]:
    """Reasons why these arguments of ``ss2d`` are not served."""
    return available.refusals(inputs.x, inputs.A.shape[1], inputs.x.shape[2] * inputs.x.shape[3])


def run(inputs: SS2DInputs) -> Tensor:
    """The sum of the four scans, (B, D, H, W) float32 in channels-last memory; arguments as in ``ss2d``."""
    train = torch.is_grad_enabled() and any(a.requires_grad for a in inputs)
    out: Tensor = ss2d_op(*inputs, train)[0]
    return out


@torch.library.custom_op("yolomix::triton_ss2d", mutates_args=())
def ss2d_op(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A: Tensor,
    D: Tensor,
    train: bool,
) -> tuple[Tensor, Tensor]:
    """The scan as one operator: its outputs, and marks for the backward pass (no elements without ``train``)."""
    cells = x.permute(0, 2, 3, 1).contiguous()
    s = _sizes(x, dt_projs_weight, A)
    parameters = _Parameters(s, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)
    out = x.new_empty(cells.shape, dtype=torch.float32)
    marks = out.new_empty(s.states_of(s.marks)) if train else None
    held = 4 * 4 * s.length * s.channels  # bytes of the outputs of a picture, four directions of float32
    for part in _parts(s, BLOCK, TRAINING if train else FORWARD, x.device, (2 if train else 4) * ROOM // held):
        scan = parameters.scan(cells[part])
        y = scan.empty(scan.sizes.batch, 4, s.length, s.channels)
        forward(scan, y, None, None, None if marks is None else marks[part], False)
        torch.sum(y, 1, out=out[part].flatten(1, 2))
    return out.permute(0, 3, 1, 2), out.new_empty(0) if marks is None else marks


@ss2d_op.register_fake
def _(
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A: Tensor,
    D: Tensor,
    train: bool,
) -> tuple[Tensor, Tensor]:
    s = _sizes(x, dt_projs_weight, A)
    out = x.new_empty((s.batch, s.height, s.width, s.channels), dtype=torch.float32).permute(0, 3, 1, 2)
    marks = s.states_of(s.marks) if train else (0,)
    return out, x.new_empty(marks, dtype=torch.float32)


@torch.library.custom_op("yolomix::triton_ss2d_backward", mutates_args=())
def ss2d_backward_op(
    dout: Tensor,
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A: Tensor,
    D: Tensor,
    marks: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Gradients of the six arguments."""
    cells, q = x.permute(0, 2, 3, 1).contiguous(), dout.permute(0, 2, 3, 1).contiguous()
    s = _sizes(x, dt_projs_weight, A)
    block = tile(s.N)
    parameters = _Parameters(s, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)
    dx = torch.empty_like(cells)
    totals: list[Tensor] = []
    held = 4 * 4 * s.length * (s.channels + s.blocks(block) * s.row)  # of the gradients, with a copy of rows per block
    with full_precision(x):  # autograd may call from inside autocast
        for part in _parts(s, block, BACKWARD, x.device, max(2, ROOM // held)):
            gradients = parameters.gradients(cells[part], q[part], marks[part], dx[part])
            totals = gradients if not totals else [a.add_(b) for a, b in zip(totals, gradients, strict=True)]
    dx_proj, dw, dbias, dA, dD = totals
    return dx.permute(0, 3, 1, 2), dx_proj, dw, dbias, dA, dD


@ss2d_backward_op.register_fake
def _(
    dout: Tensor,
    x: Tensor,
    x_proj_weight: Tensor,
    dt_projs_weight: Tensor,
    dt_projs_bias: Tensor,
    A: Tensor,
    D: Tensor,
    marks: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, channels, height, width = x.shape
    dx = x.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    dx_proj, dw, dbias, dA, dD = (p.new_empty(p.shape) for p in (x_proj_weight, dt_projs_weight, dt_projs_bias, A, D))
    return dx, dx_proj, dw, dbias, dA, dD


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    ctx.save_for_backward(*inputs[:-1], output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, dout: Tensor | None, dmarks: Tensor | None) -> tuple[Tensor | None, ...]:
    if dout is None:
        return (None,) * 7
    return (*ss2d_backward_op(dout, *ctx.saved_tensors), None)


ss2d_op.register_autograd(_gradients, setup_context=_keep)


class _Parameters:
    """The parameters as the kernels read them; all are float32."""

    def __init__(self, sizes: Sizes, x_proj_weight: Tensor, w: Tensor, bias: Tensor, A: Tensor, D: Tensor):
        self.sizes = sizes
        self.projection = self._rows(x_proj_weight)  # (4 * row, D)
        self.w = w.flatten(0, 1).t().contiguous()  # (R, 4D)
        self.bias, self.A, self.D = bias.flatten().contiguous(), layout.rates(A), D.contiguous()

    def _rows(self, weight: Tensor) -> Tensor:
        """x_proj (4, R + 2N, D) in the order and padding of the kernels' rows."""
        s = self.sizes
        r, b, c = torch.split(weight, [s.rank, s.states, s.states], dim=1)
        states, numbers = (0, 0, 0, s.N - s.states), (0, 0, 0, s.R - s.rank)
        return torch.cat([F.pad(b, states), F.pad(c, states), F.pad(r, numbers)], dim=1).flatten(0, 1)

    def scan(self, cells: Tensor) -> Scan:
        """The scan of pictures (B, H, W, D)."""
        s = replace(self.sizes, batch=cells.shape[0])
        rows = cells.flatten(0, 2).float() @ self.projection.t()
        return Scan(s, cells, None, rows, self.w, self.bias, self.A, self.D, True)

    def gradients(self, cells: Tensor, q: Tensor, marks: Tensor, dx: Tensor) -> list[Tensor]:
        """Write the gradient of the pictures (B, H, W, D) into dx; those of the parameters as ``ss2d`` has them."""
        scan = self.scan(cells)
        s = scan.sizes
        gx = scan.empty(s.batch, 4, s.length, s.channels)
        found = backward(scan, q, marks, None, gx, None)
        rows = found.total_rows().flatten(0, 1).flatten(1)  # (B * L, 4 * row)
        total = gx.sum(1).flatten(0, 1).addmm_(rows, self.projection)
        dx.copy_(total.view(dx.shape))
        dw = found.w.sum((0, 2))[..., : s.rank]
        dA = found.A.sum((0, 2))[..., : s.states].flatten(0, 1)
        dweight = self._weight(rows.t() @ cells.flatten(0, 2).float())
        return [dweight, dw.contiguous(), found.bias.sum((0, 2)), dA.contiguous(), found.D.sum((0, 2)).flatten()]

    def _weight(self, rows: Tensor) -> Tensor:
        """Rows in the kernels' order and padding as x_proj, (4, R + 2N, D)."""
        s = self.sizes
        b, c, r = torch.split(rows.view(4, s.row, s.channels), [s.N, s.N, s.R], dim=1)
        return torch.cat([r[:, : s.rank], b[:, : s.states], c[:, : s.states]], dim=1)


def _sizes(x: Tensor, dt_projs_weight: Tensor, A: Tensor) -> Sizes:
    batch, channels, height, width = x.shape
    return Sizes(batch, 4, channels, int(A.shape[1]), int(dt_projs_weight.shape[2]), height, width)


def _parts(sizes: Sizes, block: int, fill: Fill, device: torch.device, most: int) -> Iterator[slice]:
    """The pictures a few at a time."""
    step = pictures(sizes, block, fill, device, max(1, most))
    for start in range(0, sizes.batch, step):
        yield slice(start, start + step)
