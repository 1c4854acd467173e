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
    y, _ = scan_op(*_in_whole_vectors(inputs))
    return y[..., : inputs.x.shape[1]].permute(0, 3, 1, 2)


def _in_whole_vectors(inputs: SS2DInputs) -> SS2DKernelInputs:
    """What the kernels take: x as (B, H, W, D), with channels of zeros behind the others."""
    # Field by field: torch.compile of PyTorch 2.7 traces neither a slice of a named tuple nor its _replace.
    x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D = inputs
    channels = x.shape[1]
    missing = padded(channels) - channels
    tokens = x.float().permute(0, 2, 3, 1)
    if missing:
        tokens, x_proj_weight = F.pad(tokens, (0, missing)), F.pad(x_proj_weight, (0, missing))
        dt_projs_weight, dt_projs_bias = F.pad(dt_projs_weight, (0, 0, 0, missing)), F.pad(dt_projs_bias, (0, missing))
        A = F.pad(A.reshape(DIRECTIONS, channels, -1), (0, 0, 0, missing)).flatten(0, 1)
        D = F.pad(D.reshape(DIRECTIONS, channels), (0, missing)).flatten()
    keep = needs_gradients(inputs)
    return SS2DKernelInputs(tokens.contiguous(), x_proj_weight, dt_projs_weight, dt_projs_bias, A, D, keep)
