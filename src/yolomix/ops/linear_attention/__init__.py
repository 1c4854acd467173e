"""Linear attention with rotary positional encoding (RoPE) on a feature map (MLLA, arXiv:2405.16605).

With phi(t) = ELU(t) + 1, R the rotation of :mod:`yolomix.ops.linear_attention.rope` by a position's row and column, and
q_n, k_n, v_n the positions of one head::

    o_n = sum_m (R q_n . R k_m) v_m / ( sum_m q_n . k_m + 1e-6 L ),      q = phi(q~), k = phi(k~)

The numerator is rotated, the denominator is not: it stays positive. The cost is linear in the L = H * W positions.
"""

from __future__ import annotations

from torch import Tensor

from yolomix.ops.backend import Backend
from yolomix.ops.dispatch import Operator
from yolomix.ops.linear_attention.inputs import LinearAttentionInputs, check

OPERATOR: Operator[LinearAttentionInputs, Tensor] = Operator(
    "linear_attention",
    (
        Backend("eager", "yolomix.ops.linear_attention.eager"),
        Backend("reference", "yolomix.ops.linear_attention.reference", automatic=False),
    ),
    check,
)


def linear_attention(q: Tensor, k: Tensor, v: Tensor, num_heads: int, *, backend: str = "auto") -> Tensor:
    """Linear attention over all positions of a feature map; see the module's description for the equation.

    >>> import torch
    >>> from yolomix.ops import linear_attention
    >>> q, k, v = torch.zeros(1, 4, 1, 2), torch.zeros(1, 4, 1, 2), torch.ones(1, 4, 1, 2)
    >>> linear_attention(q, k, v, num_heads=4).shape
    torch.Size([1, 4, 1, 2])

    Args:
        q: queries before phi, (B, C, H, W); C is a multiple of 4 (rotation) and of ``num_heads``.
        k: keys before phi, (B, C, H, W).
        v: values, (B, C, H, W).
        num_heads: number of heads; head m owns the channels m * C / num_heads and following.
        backend: "auto", "eager" or "reference".

    Returns: (B, C, H, W) in the type of v; computed in float32, or float64 for float64, with autocast off.

    Raises:
        ValueError: a shape does not fit.
    """
    return OPERATOR(LinearAttentionInputs(q, k, v, num_heads), backend)
