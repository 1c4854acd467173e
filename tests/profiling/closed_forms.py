"""What every model of the zoo takes, in closed form: no counter, and nothing that the blocks of this project compute.

A row of a model YAML is either one of our blocks or Ultralytics' own. Ours is a formula of the paper's sizes, and its
place in the model is taken by an empty feature map of the right shape. Ultralytics' own rows run on the meta device,
for the shapes of their convolutions alone.

Letters: C channels, H W sides and L = H * W positions of a feature map, E channels between the projections of a block,
N state size, R rank of the Δ projection, T classes of tokens.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from ultralytics.nn import tasks
from ultralytics.nn.modules.block import Attention

from yolomix import models


@dataclass(frozen=True)
class Work:
    """What a forward pass takes.

    >>> work = Work(macs=10, states=4, steps=2)
    >>> (work + work).total, work.scan, work.papers
    (88, 24, 38)

    Attributes:
        macs: multiply-adds of convolutions and matrix products.
        functional: those that no layer does, of 2D selective scans (projections to Δ, B and C) and of Ultralytics'
            attention (both products).
        states: how often a state of a channel takes a time step.
        steps: how often a channel takes a time step.
    """

    macs: int = 0
    functional: int = 0
    states: int = 0
    steps: int = 0

    def __add__(self, other: Work) -> Work:
        return Work(
            self.macs + other.macs,
            self.functional + other.functional,
            self.states + other.states,
            self.steps + other.steps,
        )

    def times(self, times: int) -> Work:
        """The same so many times, say at every position."""
        return Work(self.macs * times, self.functional * times, self.states * times, self.steps * times)

    @property
    def scan(self) -> int:
        """Operations of the recurrence: exponential, product and two multiply-adds per state and time step."""
        return 6 * self.states

    @property
    def papers(self) -> int:
        """The same as Mamba's and VMamba's authors count: 9 B L D N + B L D."""
        return 9 * self.states + self.steps

    @property
    def total(self) -> int:
        """All operations; a multiply-add is two."""
        return 2 * self.macs + self.scan


Size = tuple[int, int, int]  # C, H, W


def ss2d(C: int, ratio: float, N: int, gate: bool) -> Work:
    """2D selective scan with the layers around it, at one position.

    Mamba-YOLO's and VMamba's alike: projections, depthwise 3x3, four directions of E channels each.
    """
    E, R = int(ratio * C), math.ceil(C / 16)
    functional = 4 * E * (R + 2 * N) + 4 * E * R
    layers = (2 + gate) * C * E + 9 * E
    return Work(layers + functional, functional, states=4 * E * N, steps=4 * E)


def _branches(C: int, scans: int, local: bool) -> Work:
    """Mamba-YOLO: the LS block (3x3 depthwise, two 1x1), the scans, and the RG block of hidden width 8C/3."""
    hidden = int(2 * int(4 * C) / 3)
    layers = C * 2 * hidden + 9 * hidden + hidden * C
    if local:
        layers += 9 * C + 2 * C * C
    return Work(layers) + ss2d(C, 2.0, 16, gate=True).times(scans)


def vss_block(size: Size, C: int, n: int, local: bool = True) -> tuple[Work, Size]:
    """Mamba-YOLO's block of the backbone, n of them: a 1x1 conv before every one."""
    c1, H, W = size
    convs = Work(c1 * C + (n - 1) * C * C)
    return (convs + _branches(C, 1, local).times(n)).times(H * W), (C, H, W)


def xss_block(size: Size, C: int, n: int, local: bool = True) -> tuple[Work, Size]:
    """Mamba-YOLO's block of the neck: one of it with n scans; a 1x1 conv before it if the width changes."""
    c1, H, W = size
    conv = Work(c1 * C if c1 != C else 0)
    return (conv + _branches(C, n, local)).times(H * W), (C, H, W)


def simple_stem(size: Size, C: int, n: int, kernel: int) -> tuple[Work, Size]:
    """Two strided 3x3 convs, the first to half of the channels."""
    c1, H, W = size
    half, quarter = (H // 2) * (W // 2), (H // 4) * (W // 4)
    macs = kernel**2 * c1 * (C // 2) * half + kernel**2 * (C // 2) * C * quarter
    return Work(macs), (C, H // 4, W // 4)


def vision_clue_merge(size: Size, C: int, n: int) -> tuple[Work, Size]:
    """Four neighbouring positions as channels of one, and a 1x1 conv."""
    c1, H, W = size
    return Work(4 * c1 * C * (H // 2) * (W // 2)), (C, H // 2, W // 2)


def vmamba_block(size: Size, n: int, variant: str, ratio: float) -> tuple[Work, Size]:
    """VMamba's block. v0: gate, N = 16, no MLP; v05_noz: no gate, N = 1, an MLP of 8 C^2."""
    C, H, W = size
    one = ss2d(C, ratio, 16, gate=True) if variant == "v0" else ss2d(C, ratio, 1, gate=False) + Work(8 * C * C)
    return one.times(n * H * W), size


def mamba_layer(size: Size, n: int) -> tuple[Work, Size]:
    """Vim's bidirectional Mamba: 2CE + 2 (4E + E (R + 2N) + R E) + CE, and a scan of E channels in each direction."""
    C, H, W = size
    E, N, R = 2 * C, 16, math.ceil(C / 16)
    macs = 2 * C * E + 2 * (4 * E + E * (R + 2 * N) + R * E) + C * E
    return Work(macs, states=2 * E * N, steps=2 * E).times(n * H * W), size


def linear_attention(C: int, heads: int = 4) -> int:
    """MLLA's attention at one position: 2C^2 + 2Cd to have and use the d x d state, C for the denominator, LePE."""
    d = C // heads
    return 2 * C * C + 2 * C * d + C + 9 * C


def mlla_attention(size: Size, n: int) -> tuple[Work, Size]:
    """Linear attention over all positions."""
    C, H, W = size
    return Work(linear_attention(C)).times(n * H * W), size


def c2psa_mlla(size: Size, C: int, n: int) -> tuple[Work, Size]:
    """C2PSA, in which each of n blocks attends linearly on half of the channels: 1x1 convs around and in the FFN."""
    _, H, W = size
    half = C // 2
    block = linear_attention(half) + half * 2 * half + 2 * half * half
    return Work(C * 2 * half + n * block + 2 * half * C).times(H * W), size


def halo_attention(size: Size, n: int, block: int, halo: int) -> tuple[Work, Size]:
    """Halo attention, 8 heads of 64: a query of a block meets the w^2 keys of its window, and 2w - 1 - 2s table rows.

    Sides are rounded up to blocks for what is done in windows. The first 2s rows of the tables are never used.
    """
    C, H, W = size
    width, window = 8 * 64, block + 2 * halo
    padded = math.ceil(H / block) * math.ceil(W / block) * block**2
    attended = 2 * window**2 * width + 2 * (2 * window - 1 - 2 * halo) * width
    return Work(4 * C * width * H * W + attended * padded).times(n), size


def assg(size: Size, n: int, N: int) -> tuple[Work, Size]:
    """MambaIRv2's attentive layer, light: windows of 4, rank 32, 64 classes, hidden width C, GatedMLP twice."""
    C, H, W = size
    window, rank, T, R = 4, 32, 64, math.ceil(C / 16)
    padded = math.ceil(H / window) * math.ceil(W / window) * window**2
    mlp = C * C + 25 * (C // 2) + (C // 2) * C
    route = C * (C // 3) + (C // 3) * T
    scanned = 2 * C * C + 9 * C + C * (R + 2 * N) + C * R
    at_positions = Work(4 * C * C + 2 * mlp + route + scanned, states=C * N, steps=C).times(H * W)
    return at_positions + Work(2 * window**2 * C * padded + T * rank * N), size


# What gives a row its width: the first argument, or the row before.
WITH_WIDTH: dict[str, Callable[..., tuple[Work, Size]]] = {
    "VSSBlock": vss_block, "XSSBlock": xss_block, "SimpleStem": simple_stem, "VisionClueMerge": vision_clue_merge,
    "C2PSAMLLA": c2psa_mlla,
}  # fmt: skip
WITHOUT_WIDTH: dict[str, Callable[..., tuple[Work, Size]]] = {
    "VMambaBlock": vmamba_block, "MambaLayer": mamba_layer, "MLLAttention": mlla_attention,
    "HaloAttention": halo_attention, "ASSG": assg,
}  # fmt: skip


class Rows(nn.Module):
    """The layers of a packaged YAML at one scale, on the meta device: no memory, no time to initialise.

    >>> Rows("yolo11-mlla", "n")(torch.empty(1, 3, 64, 96, device="meta"))[0].shape
    torch.Size([1, 84, 126])
    """

    def __init__(self, name: str, scale: str):
        super().__init__()
        self.config = yaml.safe_load((models.FOLDER / f"{name}.yaml").read_text("utf-8")) | {"scale": scale}
        with torch.device("meta"):
            self.model, _ = tasks.parse_model(dict(self.config), ch=3, verbose=False)
        head: Any = self.model[-1]
        if hasattr(head, "nl"):
            head.stride = torch.ones(head.nl)
        self.eval()

    def forward(self, x: Tensor) -> Any:
        """(B, 3, H, W) -> what the head gives."""
        outputs: list[Any] = []
        for layer in self.model:
            outputs.append(layer(taken(layer.f, outputs, x)))
        return outputs[-1]

    def without_free_layers(self) -> Rows:
        """Leave out norms and GELUs: they take half of the time to look at a model, and are counted as nothing."""
        for module in [*self.modules()]:
            for name, child in module.named_children():
                if isinstance(child, nn.BatchNorm2d | nn.LayerNorm | nn.GELU):
                    setattr(module, name, nn.Identity())
        return self

    def work(self, height: int, width: int) -> list[Work]:
        """What every row takes for an image of that size."""
        depth, gain, most = self.config["scales"][self.config["scale"]]
        image = torch.empty(1, 3, height, width, device="meta")
        outputs: list[Any] = []
        found = []
        rows = self.config["backbone"] + self.config["head"]
        for layer, (source, repeats, module, args) in zip(self.model, rows, strict=True):
            x = taken(source, outputs, image)
            if module not in WITH_WIDTH and module not in WITHOUT_WIDTH:
                with convolutions(layer) as works:
                    outputs.append(layer(x))
                found.append(sum(works, Work()))
                continue
            n = max(round(repeats * depth), 1)
            options = args[-1] if args and isinstance(args[-1], dict) else {}
            given = [a for a in args if not isinstance(a, dict)]
            channels, *map_size = x.shape[1:]
            size = (int(channels), *map_size)
            if module in WITH_WIDTH:
                C = math.ceil(min(given[0], most) * gain / 8) * 8
                work, size = WITH_WIDTH[module](size, C, n, *given[1:], **options)
            else:
                work, size = WITHOUT_WIDTH[module](size, n, *given)
            found.append(work)
            outputs.append(torch.empty(1, *size, device="meta"))
        return found


def taken(source: int | list[int], outputs: list[Any], image: Tensor) -> Any:
    """What a row takes from the rows before."""
    if isinstance(source, list):
        return [outputs[i] for i in source]
    return outputs[source] if outputs else image


@contextmanager
def convolutions(layer: nn.Module) -> Iterator[list[Work]]:
    """What the convolutions, linear layers and stock attentions in a layer take while it runs, one entry per call."""
    found: list[Work] = []

    def note(module: Any, args: tuple[Any, ...], y: Tensor) -> None:
        if isinstance(module, nn.ConvTranspose2d):
            found.append(Work(args[0].numel() * module.weight[0].numel()))
        elif isinstance(module, Attention):  # keys have half of the width: C / 2 for the logits, C for the values
            L = y.shape[2] * y.shape[3]
            macs = y.shape[1] * 3 // 2 * L * L
            found.append(Work(macs, functional=macs))
        else:
            found.append(Work(y.numel() * module.weight[0].numel()))

    counted = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, Attention)
    handles = [m.register_forward_hook(note) for m in layer.modules() if isinstance(m, counted)]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()
