"""Tokens in the order of their classes by counting, for runtimes that neither sort nor index by what they computed.

ncnn has no sort, no gather, no argmax and no comparison. Everything here is a sum, a product, a maximum or a rounding,
and exact: all values are whole numbers. Memory grows with the square of the number of positions.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def chosen(logits: Tensor) -> Tensor:
    """One at the first of the largest logits of every token, else zero: (B, L, T) -> (B, L, T).

    >>> chosen(torch.tensor([[[0.1, 0.5, 0.5]]]))
    tensor([[[0., 1., 0.]]])
    """
    below = logits.amax(dim=-1, keepdim=True) - logits
    largest = 1 - below.clamp(max=1.0).ceil()
    return largest * F.relu(2 - largest.cumsum(dim=-1))


def permutation(classes: Tensor) -> Tensor:
    """The matrix that sorts tokens by class, each class in its order; its transpose sorts them back.

    >>> classes = torch.tensor([[[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]]])  # of three tokens: 1, 0, 1
    >>> permutation(classes) @ torch.tensor([[7.0], [8.0], [9.0]])
    tensor([[[8.],
             [7.],
             [9.]]])

    Args:
        classes: as :func:`chosen` gives them, (B, L, T).

    Returns: (B, L, L).
    """
    counts = classes.sum(dim=1, keepdim=True)  # (B, 1, T)
    # From the end: pnnx leaves the batch out of the axes of a sum, but not of those of a cumulative one.
    before = counts.cumsum(dim=-1) - counts + classes.cumsum(dim=-2) - 1  # (B, L, T), in lower classes and its own
    place = (classes * before).sum(dim=-1)  # (B, L)
    places = torch.arange(classes.shape[1], device=classes.device, dtype=classes.dtype)
    return F.relu(1 - (place[:, None] - places[:, None]).abs())
