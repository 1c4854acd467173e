"""Four-direction scan in Triton, forward and backward; the kernels are in ``ops/_triton``.

Nothing is copied per direction: the map stays in channels-last memory, each direction walks its cells by index, and
delta is projected inside the kernel from the R numbers of the cell's row. The rows of all directions are one matrix
product on the map. Pictures are taken a few at a time, so that what all directions write does not take much more than
``ROOM`` bytes; only the map and the states at every 32nd step are kept for the backward pass, and the rows are computed
again there.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._triton import available, layout
from yolomix.ops._triton.launch import Scan, backward, forward
from yolomix.ops._triton.plan import BACKWARD, BLOCK, FORWARD, Sizes, pictures, tile

ROOM = 1 << 26  # bytes of what all directions write that are held at a time


def refusals(
    x: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A: Tensor, D: Tensor
) -> list[str]:
    """Reasons why these arguments of ``ss2d`` are not served."""
    return available.refusals(x, A.shape[1], x.shape[2] * x.shape[3])


def run(
    x: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A: Tensor, D: Tensor
) -> Tensor:
    """The sum of the four scans, (B, D, H, W) float32 in channels-last memory; arguments as in ``ss2d``."""
    args = (x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)
    train = torch.is_grad_enabled() and any(a.requires_grad for a in args)
    out: Tensor = ss2d_op(*args, train)[0]
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
    parameters = _Parameters(x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)
    out = x.new_empty(cells.shape, dtype=torch.float32)
    marks = []
    for part in parameters.parts(cells, train=False):
        scan = parameters.scan(cells[part])
        y = scan.empty(scan.sizes.batch, 4, scan.sizes.length, scan.sizes.channels)
        mark, _ = forward(scan, y, None, None, train, False)
        torch.sum(y, 1, out=out[part].flatten(1, 2))
        marks.append(mark)
    kept = (marks[0] if len(marks) == 1 else torch.cat(marks)) if train else out.new_empty(0)
    return out.permute(0, 3, 1, 2), kept


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
    batch, channels, height, width = x.shape
    s = Sizes(batch, 4, channels, int(A.shape[1]), int(dt_projs_weight.shape[2]), height, width)
    out = x.new_empty((batch, height, width, channels), dtype=torch.float32).permute(0, 3, 1, 2)
    marks = (s.batch, s.groups, s.marks, s.N, s.channels) if train else (0,)
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
    parameters = _Parameters(x_proj_weight, dt_projs_weight, dt_projs_bias, A, D)
    dx = torch.empty_like(cells)
    totals: list[Tensor] = []
    for part in parameters.parts(cells, train=True):
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

    def __init__(self, x_proj_weight: Tensor, w: Tensor, bias: Tensor, A: Tensor, D: Tensor):
        self.channels, self.rank, self.states = x_proj_weight.shape[2], w.shape[2], A.shape[1]
        self.sizes = Sizes(1, 4, self.channels, self.states, self.rank, 1, 1)
        self.projection = self._rows(x_proj_weight)  # (4 * row, D)
        self.w = w.flatten(0, 1).t().contiguous()  # (R, 4D)
        self.bias, self.A, self.D = bias.flatten(), layout.rates(A), D

    def _rows(self, weight: Tensor) -> Tensor:
        """x_proj (4, R + 2N, D) in the order and padding of the kernels' rows."""
        s = self.sizes
        r, b, c = torch.split(weight, [self.rank, self.states, self.states], dim=1)
        states, numbers = (0, 0, 0, s.N - self.states), (0, 0, 0, s.R - self.rank)
        return torch.cat([F.pad(b, states), F.pad(c, states), F.pad(r, numbers)], dim=1).flatten(0, 1)

    def scan(self, cells: Tensor) -> Scan:
        """The scan of pictures (B, H, W, D)."""
        batch, height, width, channels = cells.shape
        s = Sizes(batch, 4, channels, self.states, self.rank, height, width)
        rows = cells.flatten(0, 2).float() @ self.projection.t()
        return Scan(s, cells, None, rows, self.w, self.bias, self.A, self.D, True)

    def parts(self, cells: Tensor, train: bool) -> Iterator[slice]:
        """The pictures (B, H, W, D) a few at a time; two at least, or launches would take longer than the work."""
        batch, height, width, channels = cells.shape
        s = Sizes(batch, 4, channels, self.states, self.rank, height, width)
        block, fill = (tile(s.N), BACKWARD) if train else (BLOCK, FORWARD)
        rows = s.blocks(block) * s.row if train else 0  # gradients of the rows, one copy per block of channels
        step = pictures(s, block, fill, cells.device, max(2, ROOM // (16 * s.length * (channels + rows))))
        for start in range(0, batch, step):
            yield slice(start, start + step)

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
        b, c, r = torch.split(rows.view(4, s.row, self.channels), [s.N, s.N, s.R], dim=1)
        return torch.cat([r[:, : self.rank], b[:, : self.states], c[:, : self.states]], dim=1)
