"""HaloNet's attention: queries of a block attend to the block and a border around it (arXiv:2103.12731).

There is no official code. Parameter names and shapes are those of lucidrains/halonet-pytorch, whose mask is inverted
in the versions that circulate: here cells outside the map are the ones left out, and any map size is taken.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from yolomix.nn.registry import register
from yolomix.ops.halo_attention import check_sizes, halo_attention


class RelativePositions(nn.Module):
    """Tables of relative positions, (2w - 1, head width), one for rows and one for columns, shared by all heads."""

    no_weight_decay: ClassVar[tuple[str, ...]] = ("rel_height", "rel_width")

    def __init__(self, side: int, dim_head: int):
        super().__init__()
        self.rel_height = nn.Parameter(torch.randn(2 * side - 1, dim_head) * dim_head**-0.5)
        self.rel_width = nn.Parameter(torch.randn(2 * side - 1, dim_head) * dim_head**-0.5)


@register(source="Scaling Local Self-Attention for Parameter Efficient Visual Backbones, arXiv:2103.12731")
class HaloAttention(nn.Module):
    """Blocked local self-attention: ``(B, C, H, W) -> (B, C, H, W)``, any H and W >= 1.

    The tables' first 2 * halo rows are never read; they are there so that weights of other implementations fit.

    Args:
        c: channels.
        block_size: side of a block of queries, in cells.
        halo_size: width of the border of further keys, in cells.
        dim_head: width of a head.
        heads: number of heads; heads * dim_head need not be c.
        residual: whether the input is added to the result, as a row of its own in a YAML needs it.
        mask_padding: False counts cells outside the map as keys and values of zero, as timm does.
    """

    def __init__(
        self,
        c: int,
        block_size: int,
        halo_size: int,
        dim_head: int = 64,
        heads: int = 8,
        residual: bool = True,
        mask_padding: bool = True,
    ):
        super().__init__()
        check_sizes(block_size, halo_size)
        if heads < 1 or dim_head < 1:
            raise ValueError(f"HaloAttention needs heads and dim_head >= 1, got heads={heads}, dim_head={dim_head}")
        self.block, self.halo, self.heads = block_size, halo_size, heads
        self.residual, self.mask_padding = residual, mask_padding
        inner = heads * dim_head
        self.to_q = nn.Linear(c, inner, bias=False)
        self.to_kv = nn.Linear(c, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, c)
        self.rel_pos_emb = RelativePositions(block_size + 2 * halo_size, dim_head)

    def forward(self, x: Tensor) -> Tensor:
        cells = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        # Projected before it is cut into windows: a cell is in (w / b)^2 of them.
        q, (k, v) = self.to_q(cells), self.to_kv(cells).chunk(2, dim=-1)
        q, k, v = (t.permute(0, 3, 1, 2) for t in (q, k, v))
        down, across = self.rel_pos_emb.rel_height, self.rel_pos_emb.rel_width
        mixed = halo_attention(q, k, v, down, across, self.heads, self.block, self.halo, self.mask_padding)
        out: Tensor = self.to_out(mixed.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return (x + out if self.residual else out).to(x.dtype)
