"""HaloNet's attention: the queries of a block attend to the block and to a halo around it (arXiv:2103.12731).

There is no official code. Parameter names and shapes are those of lucidrains/halonet-pytorch, with two differences on
purpose. The mask of the versions that circulate is inverted: here, positions outside the feature map are the ones left
out. And here, sides need not be multiples of the block.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from yolomix.nn.registry import register
from yolomix.ops.halo_attention import halo_attention
from yolomix.ops.halo_attention.inputs import check_sizes


class RelativePositionTables(nn.Module):
    """Relative positional encoding, shared by all heads: one table for rows and one for columns.

    With w = block_size + 2 * halo_size, each has the shape (2w - 1, dim_head).

    >>> RelativePositionTables(window_size=4, dim_head=8).rel_height.shape
    torch.Size([7, 8])

    Args:
        window_size: side w of the window of keys.
        dim_head: width of a head.
    """

    no_weight_decay: ClassVar[tuple[str, ...]] = ("rel_height", "rel_width")

    def __init__(self, *, window_size: int, dim_head: int):
        super().__init__()
        self.rel_height = nn.Parameter(torch.randn(2 * window_size - 1, dim_head) * dim_head**-0.5)
        self.rel_width = nn.Parameter(torch.randn(2 * window_size - 1, dim_head) * dim_head**-0.5)

    def forward(self) -> tuple[Tensor, Tensor]:
        """The tables of rows and of columns, each (2w - 1, dim_head)."""
        return self.rel_height, self.rel_width


@register(source="Scaling Local Self-Attention for Parameter Efficient Visual Backbones, arXiv:2103.12731")
class HaloAttention(nn.Module):
    """Blocked local self-attention on a feature map of any size.

    The first 2 * halo_size lines of the relative position tables are never read. They are there so that weights of
    other implementations load.

    >>> block = HaloAttention(64, block_size=2, halo_size=1)
    >>> block(torch.zeros(1, 64, 7, 5)).shape, sum(p.numel() for p in block.parameters())
    (torch.Size([1, 64, 7, 5]), 132032)

    Args:
        c: channels C.
        block_size: side of a block of queries, in positions.
        halo_size: width of the border of further keys, in positions.
        dim_head: width of a head.
        num_heads: number of heads; num_heads * dim_head need not be c.
        residual: whether the input is added to the result.
        mask_padding: whether positions outside the feature map are left out. If not, they are keys and values of zero,
            as in timm.

    Raises:
        ValueError: a size is too small.
    """

    def __init__(
        self,
        c: int,
        block_size: int,
        halo_size: int,
        dim_head: int = 64,
        num_heads: int = 8,
        residual: bool = True,
        mask_padding: bool = True,
    ):
        super().__init__()
        check_sizes(block_size, halo_size)
        if num_heads < 1 or dim_head < 1:
            raise ValueError(
                f"HaloAttention needs num_heads >= 1 and dim_head >= 1, got num_heads={num_heads}, dim_head={dim_head}"
            )
        self.block_size, self.halo_size, self.num_heads = block_size, halo_size, num_heads
        self.residual, self.mask_padding = residual, mask_padding
        inner = num_heads * dim_head
        self.to_q = nn.Linear(c, inner, bias=False)
        self.to_kv = nn.Linear(c, 2 * inner, bias=False)
        self.to_out = nn.Linear(inner, c)
        self.rel_pos_emb = RelativePositionTables(window_size=block_size + 2 * halo_size, dim_head=dim_head)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C, H, W), any H and W >= 1."""
        tokens = x.permute(0, 2, 3, 1)  # (B, H, W, C)
        # Projected before they are cut into windows: a position lies in (window / block)^2 of them.
        q = self.to_q(tokens).permute(0, 3, 1, 2)  # (B, I, H, W)
        k, v = self.to_kv(tokens).permute(0, 3, 1, 2).chunk(2, dim=1)
        rel_height, rel_width = self.rel_pos_emb()
        attended = halo_attention(
            q,
            k,
            v,
            rel_height,
            rel_width,
            self.num_heads,
            self.block_size,
            self.halo_size,
            self.mask_padding,
        )
        y = self.to_out(attended.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        if self.residual:
            y = x + y
        return y.to(x.dtype)
