"""A scan while operations are counted: one node of PyTorch with a formula, that computes nothing.

The formulas are those of ``docs/design/flops.md``. They are entered into PyTorch's registry, and so hold for its own
``FlopCounterMode`` inside :func:`yolomix.ops.counting` too.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

FORWARD = 6  # per channel, state and time step: exponential, product with the input, two multiply-adds
BACKWARD = 19  # 4 to have the states once more, 15 for the gradients
PAPERS = 9  # per channel, state and time step, and 1 per channel and time step for the skip: mamba's and VMamba's count
COMPLEX = 4  # real operations that a complex one stands for


def _outputs(dt: Tensor, x: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, Tensor]:
    return torch.zeros_like(x), A.new_zeros(x.shape[0], *A.shape)


def _gradients(dt: Tensor, x: Tensor, A: Tensor, B: Tensor, C: Tensor) -> tuple[Tensor, ...]:
    return tuple(torch.zeros_like(m) for m in (dt, x, A, B, C))


def _differentiate(ctx: Any, *_: Tensor) -> tuple[Tensor, ...]:
    gradients: tuple[Tensor, ...] = torch.ops.yolomix.counted_scan_backward(*ctx.saved_tensors)
    return gradients


def _keep(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*inputs)


def steps(x: Tensor, A: Tensor) -> int:
    """How often a state takes a time step: B * D * L * N, four times that if it is complex.

    >>> steps(torch.ones(2, 3, 5), torch.ones(3, 16)) == 2 * 3 * 5 * 16
    True

    Args:
        x: (B, D, L).
        A: (D, N).
    """
    return x.numel() * A.shape[1] * (COMPLEX if A.is_complex() else 1)


def forward_operations(dt: Tensor, x: Tensor, A: Tensor, *_: Any, **__: Any) -> int:
    """Operations of the recurrence."""
    return FORWARD * steps(x, A)


def backward_operations(dt: Tensor, x: Tensor, A: Tensor, *_: Any, **__: Any) -> int:
    """Operations of its gradients."""
    return BACKWARD * steps(x, A)


def papers_operations(x: Tensor, A: Tensor) -> int:
    """The forward pass in the convention of Mamba's and VMamba's authors: 9 B D L N + B D L."""
    return PAPERS * steps(x, A) + x.numel()


if not hasattr(torch.ops.yolomix, "counted_scan"):  # this module may be imported anew, and PyTorch keeps its operators
    arguments = "(Tensor dt, Tensor x, Tensor A, Tensor B, Tensor C)"
    torch.library.define("yolomix::counted_scan", f"{arguments} -> (Tensor, Tensor)")
    torch.library.define("yolomix::counted_scan_backward", f"{arguments} -> (Tensor, Tensor, Tensor, Tensor, Tensor)")
    torch.library.impl("yolomix::counted_scan", "CompositeExplicitAutograd", _outputs)
    torch.library.impl("yolomix::counted_scan_backward", "CompositeExplicitAutograd", _gradients)
    torch.library.register_autograd("yolomix::counted_scan", _differentiate, setup_context=_keep)
    register_flop_formula(torch.ops.yolomix.counted_scan, get_raw=True)(forward_operations)
    register_flop_formula(torch.ops.yolomix.counted_scan_backward, get_raw=True)(backward_operations)
