from torch import Tensor, nn


class Block(nn.Module):
    """A depthwise convolution, added to what it reads.

    Args:
        dim: channels.
        kernel: kernel size, odd.
    """

    def __init__(self, dim: int, kernel: int = 3) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.depthwise(x)
