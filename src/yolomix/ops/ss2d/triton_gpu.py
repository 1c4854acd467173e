"""2D selective scan in Triton, forward and backward; the kernels are in ``ops/_triton``.

Nothing is copied per direction: the feature map stays in channels-last memory, each direction walks its cells by index,
and Δ is projected inside the kernel from the R inputs of the cell. B, C and the inputs of Δ are one matrix product on
the feature map for all directions. Images are taken a few at a time, so that what all directions write does not take
much more than ``WORKSPACE`` bytes. Only the feature map and the checkpoints of the state are kept for the backward
pass; B, C and the inputs of Δ are computed again there.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._triton import available, layout
from yolomix.ops._triton.launch import Scan, backward, forward
from yolomix.ops._triton.plan import BACKWARD, BLOCK, FORWARD, TRAINING, Occupancy, ScanShape, images_at_once, tile
from yolomix.ops.backend import needs_gradients
from yolomix.ops.precision import full_precision
from yolomix.ops.register import schema
from yolomix.ops.ss2d.inputs import SS2DInputs

WORKSPACE = 1 << 26  # bytes of what all directions write in a backward pass, held at a time; forward it is 2, 4 of that
FLOAT32 = 4  # bytes


def refusals(inputs: SS2DInputs) -> list[str]:
    """Reasons why these inputs of ``ss2d`` are not served.

    >>> from yolomix.ops.ss2d import example
    >>> refusals(example.inputs("cpu")._replace(x=torch.ones(1, 18, 4, 5).double()))[-1]
    'it computes in float32 and takes float32, bfloat16 and float16, not torch.float64'
    """
    return available.refusals(inputs.x, inputs.A.shape[1], inputs.x.shape[2] * inputs.x.shape[3])


def run(inputs: SS2DInputs) -> Tensor:
    """The sum of the four scans, (B, D, H, W) float32 in channels-last memory.

    >>> from yolomix.ops.ss2d import example
    >>> inputs = example.inputs("meta")  # shapes alone need no GPU
    >>> run(inputs).shape == inputs.x.shape
    True
    """
    return ss2d_op(*inputs, needs_gradients(inputs))[0]


class _Mode(NamedTuple):
    """What else the operator depends on."""

    train: bool  # whether a backward pass may follow


class _Saved(NamedTuple):
    """What the forward pass keeps beside its inputs."""

    ckpts: Tensor  # (B, 4, checkpoints, N, D), checkpoints of the state; no elements unless a backward pass may follow


class _OutputGradients(NamedTuple):
    """What the backward pass starts from."""

    out: Tensor  # (B, D, H, W)


@torch.library.custom_op("yolomix::triton_ss2d", mutates_args=(), schema=schema([SS2DInputs, _Mode], outputs=2))
def ss2d_op(*args: Any) -> tuple[Tensor, Tensor]:
    """The 2D selective scan as one operator: its output (B, D, H, W), and what ``_Saved`` holds."""
    inputs, train = SS2DInputs(*args[:-1]), args[-1]
    cells = _channels_last(inputs.x)
    s = _shape(inputs)
    parameters = _Parameters(inputs)
    out = cells.new_empty(cells.shape, dtype=torch.float32)
    ckpts = _checkpoints(s, out, train)
    use, room = (TRAINING, 2 * WORKSPACE) if train else (FORWARD, 4 * WORKSPACE)
    per_image = FLOAT32 * s.groups * s.length * s.channels  # bytes of the outputs of all directions
    for part in _parts(s, BLOCK, use, cells.device, room // per_image):
        scan = parameters.scan(cells[part])
        y = scan.empty(scan.shape.batch, s.groups, s.length, s.channels)
        forward(scan, y, None, None, ckpts[part] if train else None, last=False)
        # the cross-merge, in a fixed order: adding the directions up in the kernel would need atomics
        torch.sum(y, 1, out=out[part].flatten(1, 2))
    return out.permute(0, 3, 1, 2), ckpts


@ss2d_op.register_fake
def _(*args: Any) -> tuple[Tensor, Tensor]:
    inputs, train = SS2DInputs(*args[:-1]), args[-1]
    s = _shape(inputs)
    out = inputs.x.new_empty((s.batch, s.height, s.width, s.channels), dtype=torch.float32)
    return out.permute(0, 3, 1, 2), _checkpoints(s, out, train)


@torch.library.custom_op(
    "yolomix::triton_ss2d_backward", mutates_args=(), schema=schema([_OutputGradients, SS2DInputs, _Saved], outputs=6)
)
def ss2d_backward_op(*args: Any) -> tuple[Tensor, ...]:
    """Gradients of the six inputs."""
    dout, inputs, ckpts = args[0], SS2DInputs(*args[1:-1]), args[-1]
    cells, q = _channels_last(inputs.x), _channels_last(dout)
    s = _shape(inputs)
    block = tile(s.N)
    parameters = _Parameters(inputs)
    dx = torch.empty_like(cells)
    totals: list[Tensor] = []
    # bytes of the gradients of all directions, that of B, C and the inputs of Δ once per channel block
    per_image = FLOAT32 * s.groups * s.length * (s.channels + s.blocks(block) * s.bcr)
    most = max(2, WORKSPACE // per_image)  # single images leave most devices idle
    with full_precision(inputs.x):  # autograd may call from inside autocast
        for part in _parts(s, block, BACKWARD, cells.device, most):
            found = parameters.gradients(cells[part], q[part], ckpts[part], dx[part])
            if totals:
                for total, gradient in zip(totals, found, strict=True):
                    total.add_(gradient)
            else:
                totals = found
    return dx.permute(0, 3, 1, 2), *totals


@ss2d_backward_op.register_fake
def _(*args: Any) -> tuple[Tensor, ...]:
    x, *parameters = SS2DInputs(*args[1:-1])
    batch, channels, height, width = x.shape
    dx = x.new_empty((batch, height, width, channels)).permute(0, 3, 1, 2)
    return dx, *(p.new_empty(p.shape) for p in parameters)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    """Keep the inputs, like x (B, D, H, W), and the checkpoints for the backward pass."""
    ctx.save_for_backward(*inputs[:-1], output[1])
    ctx.set_materialize_grads(False)


def _gradients(ctx: Any, dout: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients of the operator's arguments, from that of its output (B, D, H, W)."""
    if dout is None:
        return (None,) * 7
    return (*ss2d_backward_op(dout, *ctx.saved_tensors), None)


ss2d_op.register_autograd(_gradients, setup_context=_keep)


class _Parameters:
    """The parameters as the kernels read them; all are float32."""

    def __init__(self, inputs: SS2DInputs):
        self.shape = _shape(inputs)
        self.projection = self._in_kernel_order(inputs.x_proj_weight)  # (4 * (2N + R), D)
        self.w = inputs.dt_projs_weight.flatten(0, 1).t().contiguous()  # (R, 4D)
        self.bias = inputs.dt_projs_bias.flatten().contiguous()  # (4D,)
        self.A, self.D = layout.rates(inputs.A), inputs.D.contiguous()  # (N, 4D), (4D,)

    def _in_kernel_order(self, weight: Tensor) -> Tensor:
        """x_proj (4, R + 2N, D) with B and C before the inputs of Δ, padded as the kernels read them."""
        s = self.shape
        r, b, c = torch.split(weight, [s.rank, s.states, s.states], dim=1)
        pad_states, pad_rank = (0, 0, 0, s.N - s.states), (0, 0, 0, s.R - s.rank)
        return torch.cat([F.pad(b, pad_states), F.pad(c, pad_states), F.pad(r, pad_rank)], dim=1).flatten(0, 1)

    def _in_own_order(self, weight: Tensor) -> Tensor:
        """``_in_kernel_order`` undone: (4 * (2N + R), D) as x_proj has it, (4, R + 2N, D)."""
        s = self.shape
        b, c, r = torch.split(weight.view(4, s.bcr, s.channels), [s.N, s.N, s.R], dim=1)
        return torch.cat([r[:, : s.rank], b[:, : s.states], c[:, : s.states]], dim=1)

    def scan(self, cells: Tensor) -> Scan:
        """The scan of feature maps (B, H, W, D)."""
        s = replace(self.shape, batch=cells.shape[0])
        bcr = cells.flatten(0, 2).float() @ self.projection.t()  # (B * L, 4 * (2N + R))
        return Scan(s, cells, None, bcr, self.w, self.bias, self.A, self.D, softplus=True)

    def gradients(self, cells: Tensor, q: Tensor, ckpts: Tensor, dx: Tensor) -> list[Tensor]:
        """Write the gradient of the feature maps (B, H, W, D) into dx; return those of the parameters, as given.

        q: gradient of the output, of the shape of cells; ckpts: (B, 4, checkpoints, N, D).
        """
        scan = self.scan(cells)
        s = scan.shape
        gx = scan.empty(s.batch, 4, s.length, s.channels)
        found = backward(scan, q, ckpts, None, gx, None)
        bcr = found.total_bcr().flatten(0, 1).flatten(1)  # (B * L, 4 * (2N + R))
        total = gx.sum(1).flatten(0, 1).addmm_(bcr, self.projection)  # (B * L, D)
        dx.copy_(total.view(dx.shape))
        return [
            self._in_own_order(bcr.t() @ cells.flatten(0, 2).float()),
            found.w.sum((0, 2))[..., : s.rank].contiguous(),
            found.bias.sum((0, 2)),
            found.A.sum((0, 2))[..., : s.states].flatten(0, 1).contiguous(),
            found.D.sum((0, 2)).flatten(),
        ]


def _channels_last(x: Tensor) -> Tensor:
    """(B, D, H, W) as contiguous (B, H, W, D): the memory itself if that is its order, else a copy."""
    return x.permute(0, 2, 3, 1).contiguous()


def _shape(inputs: SS2DInputs) -> ScanShape:
    batch, channels, height, width = inputs.x.shape
    states, rank = int(inputs.A.shape[1]), int(inputs.dt_projs_weight.shape[2])
    return ScanShape(batch, 4, channels, states, rank, height, width)


def _checkpoints(shape: ScanShape, out: Tensor, train: bool) -> Tensor:
    """Memory for checkpoints of the state, beside the output (B, H, W, D)."""
    return out.new_empty(shape.state_shape(shape.ckpts) if train else (0,))


def _parts(shape: ScanShape, block: int, use: Occupancy, device: torch.device, most: int) -> Iterator[slice]:
    """The images a few at a time."""
    step = images_at_once(shape, block, use, device, max(1, most))
    for start in range(0, shape.batch, step):
        yield slice(start, start + step)
