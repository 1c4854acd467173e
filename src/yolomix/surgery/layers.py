"""What is known of each layer of a model before it is built: filled in by the host, read by places and plans."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layer:
    """One layer.

    Args:
        index: its row.
        reads: rows it reads; -1 is the picture.
        repeats: the row's second column.
        module: the row's module name.
        channels: of its output; None when that is no single map.
        stride: picture pixels per cell of its output; None when that is no single map.
        parameters: how many numbers it learns.
        tensors: how many tensors a checkpoint holds of it.
        backbone: whether its row is under ``backbone``.
        mapped: whether it takes maps alone, not also a text.
    """

    index: int
    reads: tuple[int, ...]
    repeats: int
    module: str
    channels: int | None
    stride: int | None
    parameters: int
    tensors: int
    backbone: bool
    mapped: bool = True

    def __str__(self) -> str:
        return f"layer {self.index} ({self.module})"
