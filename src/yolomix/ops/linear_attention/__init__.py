"""Linear attention with rotary positions on a map (MLLA, arXiv:2405.16605).

With phi(t) = ELU(t) + 1, R the rotation of :mod:`yolomix.ops.linear_attention.rope` by a cell's row and column, and
q_n, k_n, v_n the cells of one head::

    o_n = sum_m (R q_n . R k_m) v_m / ( sum_m q_n . k_m + 1e-6 L ),      q = phi(q~), k = phi(k~)

The numerator is rotated, the denominator is not: it stays positive. The cost is linear in the number of cells L.
"""

from __future__ import annotations

from typing import cast

from torch import Tensor

from yolomix.ops.dispatch import Backend, choose, exporting
from yolomix.ops.linear_attention.inputs import LinearAttentionInputs
from yolomix.ops.precision import full_precision

EPSILON = 1e-6

BACKENDS = (
    Backend("eager", "yolomix.ops.linear_attention.eager"),
    Backend("reference", "yolomix.ops.linear_attention.reference", automatic=False),
)


def linear_attention(q: Tensor, k: Tensor, v: Tensor, heads: int, *, backend: str = "auto") -> Tensor:
    """Linear attention over all cells of a map; see the module's description for the equation.

    Args:
        q: queries before phi, (B, C, H, W); C is a multiple of 4 (rotation) and of ``heads``.
        k: keys before phi, (B, C, H, W).
        v: values, (B, C, H, W).
        heads: number of heads; head m owns the channels m * C / heads and following.
        backend: "auto", "eager" or "reference".

    Returns: (B, C, H, W) in the type of v; computed in float32, or float64 for float64, with autocast off.

    Raises:
        ValueError: a shape does not fit.
    """
    if not exporting():  # sizes may be symbols there
        check(q, k, v, heads)
    inputs = LinearAttentionInputs(q, k, v, heads)
    run = choose("linear_attention", BACKENDS, backend, v, inputs)
    with full_precision(v):
        return cast(Tensor, run(inputs))


def check(q: Tensor, k: Tensor, v: Tensor, heads: int) -> None:
    """Raise unless the arguments of :func:`linear_attention` fit together."""
    if v.dim() != 4 or 0 in v.shape or not q.shape == k.shape == v.shape:
        raise ValueError(
            "linear_attention needs q, k and v of one shape (B, C, H, W) with all sizes >= 1, "
            f"got {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    C = v.shape[1]
    if C % 4 or heads < 1 or C % heads:
        raise ValueError(
            f"linear_attention needs channels that are a multiple of 4 and of heads={heads}, got C={C}; "
            "4 heads fit every multiple of 4"
        )
