"""The selective scan as one marked node of an ONNX graph, see ``ops/marking.py``."""

from __future__ import annotations

from torch import Tensor

from yolomix.ops.marking import mark
from yolomix.ops.precision import accum_dtype
from yolomix.ops.selective_scan.inputs import ScanInputs


def refusals(inputs: ScanInputs) -> list[str]:
    """Forms that no block uses, which stay plain operations; empty for all others.

    >>> from yolomix.ops.selective_scan import example
    >>> refusals(example.inputs("cpu")._replace(return_last_state=True))
    ['a marked node has one output, and the last state is a second one']
    """
    B, C = inputs.B, inputs.C
    reasons = []
    if inputs.A.is_complex():
        reasons.append("ONNX has no complex numbers in a Scan")
    if inputs.return_last_state:
        reasons.append("a marked node has one output, and the last state is a second one")
    if B.dim() == 2 or C.dim() == 2:
        reasons.append("a marked node takes B and C that vary, not constant ones")
    elif groups(B) != groups(C):
        reasons.append("a marked node takes B and C in one form")
    return reasons


def run(inputs: ScanInputs) -> Tensor:
    """The node, and zeros (B, D, L) for the tracer to go on with.

    >>> from yolomix.ops.selective_scan import example
    >>> inputs = example.inputs("cpu")._replace(return_last_state=False)
    >>> run(inputs).shape == inputs.u.shape
    True
    """
    u, delta, A, B, C, D, z, delta_bias, delta_softplus, _ = inputs
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    dtype = accum_dtype(u.dtype)
    tensors = {name: x if x is None else x.to(dtype) for name, x in given.items()}
    return mark("selective_scan", tensors, delta_softplus=delta_softplus, groups=groups(B)).to(u.dtype)


def groups(matrix: Tensor) -> int:
    """The groups G of B or C as (B, G, N, L), or 0 for one without that axis, (B, N, L).

    >>> import torch
    >>> groups(torch.ones(1, 2, 6)), groups(torch.ones(1, 4, 2, 6))
    (0, 4)
    """
    return int(matrix.shape[1]) if matrix.dim() == 4 else 0
