"""SS2D as one marked node of an ONNX graph, see ``ops/marking.py``."""

from __future__ import annotations

from torch import Tensor

from yolomix.ops.marking import mark
from yolomix.ops.ss2d.inputs import SS2DInputs


def refusals(inputs: SS2DInputs) -> list[str]:
    """Nothing is refused."""
    return []


def run(inputs: SS2DInputs) -> Tensor:
    """The node, and zeros (B, D, H, W) for the tracer to go on with.

    >>> from yolomix.ops.ss2d import example
    >>> run(example.inputs("cpu")).shape
    torch.Size([1, 18, 4, 5])
    """
    x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D = inputs
    tensors = {
        "x": x.to(A.dtype),
        "x_proj_weight": x_proj_weight,
        "dt_projs_weight": dt_projs_weight,
        "dt_projs_bias": dt_projs_bias,
        "A": A,
        "D": D,
    }
    return mark("ss2d", dict(tensors))
