"""SS2D on CPU in Numba: which inputs it takes, and bringing them into the form that the kernels take.

The kernels take the feature map in float32, channels last and in whole vectors. Everything else is brought into this
form with PyTorch's own operations, which have their own gradients.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from yolomix.ops._numba.layout import padded
from yolomix.ops.backend import needs_gradients
from yolomix.ops.ss2d.inputs import SS2DInputs
from yolomix.ops.ss2d.numba_operator import SS2DKernelInputs, scan_op
from yolomix.ops.ss2d.numba_paths import DIRECTIONS


def refusals(inputs: SS2DInputs) -> list[str]:
    """Only float32 or narrower.

    >>> from yolomix.ops.ss2d import example
    >>> inputs = example.inputs("cpu")
    >>> refusals(inputs), refusals(inputs._replace(x=inputs.x.double()))
    ([], ['it computes in float32, which is less than torch.float64'])
    """
    if inputs.x.dtype == torch.float64:
        return [f"it computes in float32, which is less than {inputs.x.dtype}"]
    return []


def run(inputs: SS2DInputs) -> Tensor:
    """The sum of the four scans, (B, D, H, W) in channels-last memory."""
    channels = inputs.x.shape[1]
    tokens = inputs.x.float().permute(0, 2, 3, 1)
    scan = SS2DKernelInputs(tokens, *inputs[1:], needs_gradients(inputs))
    missing = padded(channels) - channels
    if missing:
        scan = _with_channels(scan, missing)
    y, _ = scan_op(*scan._replace(x=scan.x.contiguous()))
    return y[..., :channels].permute(0, 3, 1, 2)


def _with_channels(scan: SS2DKernelInputs, missing: int) -> SS2DKernelInputs:
    """More channels, of zeros behind the others; x is (B, H, W, D)."""
    channels = scan.x.shape[3]
    A, D = scan.A.reshape(DIRECTIONS, channels, -1), scan.D.reshape(DIRECTIONS, channels)
    return scan._replace(
        x=F.pad(scan.x, (0, missing)),
        x_proj_weight=F.pad(scan.x_proj_weight, (0, missing)),
        dt_projs_weight=F.pad(scan.dt_projs_weight, (0, 0, 0, missing)),
        dt_projs_bias=F.pad(scan.dt_projs_bias, (0, missing)),
        A=F.pad(A, (0, 0, 0, missing)).flatten(0, 1),
        D=F.pad(D, (0, missing)).flatten(),
    )
