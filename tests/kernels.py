"""``python -m tests.kernels``: compile the CPU kernels, which are then kept on disk.

Both workers of a run of tests begin at the same time: each would compile the same ones, and so would their processes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from yolomix.ops.selective_scan import OPERATOR as SCAN
from yolomix.ops.selective_scan import example as scan_example
from yolomix.ops.ss2d import OPERATOR as SS2D
from yolomix.ops.ss2d import example as ss2d_example


def compile_all() -> None:
    """Compute outputs and gradients: of scans with B and C that vary in time and that do not, and of a map."""
    scan = scan_example.inputs("cpu")
    constant = scan.A.clone()
    for operator, inputs in (
        (SCAN, scan),
        (SCAN, scan._replace(B=constant, C=constant)),
        (SS2D, ss2d_example.inputs("cpu")),
    ):
        out = operator(inputs._replace(**{inputs._fields[0]: inputs[0].requires_grad_()}), "numba")
        (out if isinstance(out, Tensor) else out[0]).sum().backward()


if __name__ == "__main__":
    torch.set_num_threads(1)
    compile_all()
