"""A model as a graph: where grafts sit, what they read, how far each layer sees and what it costs."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from yolomix.figures import opening
from yolomix.figures.drawing import FONT, short
from yolomix.figures.opening import Subject
from yolomix.figures.values import Array, Figure, Row
from yolomix.nn.registry import known
from yolomix.profiling.costs import parameters
from yolomix.profiling.operations import Operations, count
from yolomix.profiling.units import giga, millions
from yolomix.surgery.graph import AROUND, CHAIN, Layer

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

OURS, STOCK = "#e69f00", "#dddddd"
HIGH = 0.62  # of a layer's box; its place is its index by its level


class _Node(NamedTuple):
    layer: Layer
    label: str
    ours: bool
    reach: int | None  # pixels of the image's side that its middle depends on
    parameters: int
    operations: Operations


def insertion(models: Any, imgsz: int | Sequence[int] = 320) -> Figure:
    """Each model as a graph of its layers with strides and channels, blocks of yolomix marked.

    The receptive field is that of the middle of a feature map: the side of the square of pixels that have a gradient
    there, in a pass of noise; attention over all of a map sees everything.

    Args:
        models: one or several, each a name, a checkpoint or a ``YOLO``.
        imgsz: height and width in pixels, or one number for both, of which receptive fields and operations are;
            rounded up to whole strides.

    Raises:
        ValueError: the size is none.
    """
    subjects = opening.opened(models)
    size = opening.whole(imgsz, max(subject.stride for subject in subjects))
    graphs = [_nodes(subject, size) for subject in subjects]
    table: list[Row] = [("model", "layer", "module", "reads", "channels", "stride", "field", "params", "GFLOPs")]
    arrays = dict[str, Array]()
    for i, (subject, nodes) in enumerate(zip(subjects, graphs, strict=True)):
        table += [_row(subject.name, node) for node in nodes]
        arrays[f"model{i}_field"] = np.array([node.reach or 0 for node in nodes])
        arrays[f"model{i}_flops"] = np.array([node.operations.total for node in nodes])
    done = opening.said(subjects, [], imgsz="x".join(map(str, size)))
    return Figure("insertion", arrays, done, table, functools.partial(_drawn, subjects, graphs, max(size)))


def _row(name: str, node: _Node) -> Row:
    layer = node.layer
    reads = " ".join(map(str, layer.reads))
    place = (str(layer.channels or "-"), str(layer.stride or "-"), str(node.reach or "-"))
    return (name, str(layer.index), node.label, reads, *place, millions(node.parameters), giga(node.operations.total))


def _nodes(subject: Subject, size: tuple[int, int]) -> list[_Node]:
    channels = int(subject.module.yaml.get("channels", 3))
    counted = count(subject.module, (1, channels, *size))
    reach = _reach(subject, torch.rand(1, channels, *size, generator=torch.Generator().manual_seed(0)))
    rows = [*subject.module.yaml["backbone"], *subject.module.yaml["head"]]
    nodes = []
    for layer, row in zip(subject.layers, rows, strict=True):
        label, ours = _named(row)
        operations = counted.get(f"model.{layer.index}", Operations())
        held = parameters(subject.module.model[layer.index])
        nodes.append(_Node(layer, label, ours, reach.get(layer.index), held, operations))
    return nodes


def _named(row: Sequence[Any]) -> tuple[str, bool]:
    """The label of a row, and whether a block of ours is in it."""
    _, _, module, args = row
    if module == CHAIN:
        inside = [_named((-1, *part)) for part in args]
        return " + ".join(label for label, _ in inside), any(ours for _, ours in inside)
    if module in AROUND:
        return f"{module} {args[0]}", True
    block = str(module).partition("(")[2].removesuffix(")") or str(module)
    return str(module), known(block.rpartition(".")[2]) is not None


def _reach(subject: Subject, x: Tensor) -> Mapping[int, int]:
    """The side, in pixels, of the square that the middle of each layer's map depends on."""
    wanted = [layer.index for layer in subject.layers if layer.channels is not None]
    x = x.requires_grad_()
    found = {}
    with torch.enable_grad():
        for index, y in opening.maps(subject, x, wanted).items():
            middle = y[0, :, y.shape[2] // 2, y.shape[3] // 2].sum()
            seen = torch.autograd.grad(middle, x, retain_graph=True)[0][0].abs().sum(0) > 0
            sides = [seen.any(dim).nonzero().flatten() for dim in (0, 1)]
            found[index] = max((int(side[-1] - side[0]) + 1 for side in sides if len(side)), default=0)
    return found


def _drawn(subjects: Sequence[Subject], graphs: Sequence[list[_Node]], side: int) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    longest = max(map(len, graphs))
    figure = Drawing(figsize=(0.72 * longest + 1.5, 4.6 * len(graphs)), layout="constrained")
    heights = [3, 1] * len(graphs)
    axes = figure.subplots(2 * len(graphs), 1, squeeze=False, height_ratios=heights)[:, 0]
    for subject, nodes, top, below in zip(subjects, graphs, axes[::2], axes[1::2], strict=True):
        _graph(top, subject, nodes)
        _bars(below, nodes, side)
    return figure


def _level(node: _Node, nodes: Sequence[_Node]) -> float:
    """Where a layer is drawn: the logarithm of its stride; a head at the mean of what it reads."""
    if node.layer.stride:
        return float(np.log2(node.layer.stride))
    read = [_level(nodes[i], nodes) for i in node.layer.reads if i >= 0]
    return sum(read) / len(read) if read else 0.0


def _graph(axis: Any, subject: Subject, nodes: Sequence[_Node]) -> None:
    from matplotlib.patches import FancyBboxPatch

    for node in nodes:
        x, y = node.layer.index, _level(node, nodes)
        colour = OURS if node.ours else STOCK
        box = FancyBboxPatch((x - 0.4, y - HIGH / 2), 0.8, HIGH, boxstyle="round,pad=0.02", edgecolor="black", zorder=2)
        box.set(facecolor=colour, linewidth=1.6 if node.ours else 0.6)
        axis.add_patch(box)
        channels = f"\n{node.layer.channels}" if node.layer.channels else ""
        label = node.label.replace(" ", "\n")
        axis.text(x, y, f"{label}{channels}", ha="center", va="center", fontsize=FONT - 3, zorder=3)
        for source in node.layer.reads:
            if source >= 0:
                start = (source, _level(nodes[source], nodes))
                _edge(axis, start, (x, y), deepest=max(_level(one, nodes) for one in nodes))
    levels = sorted({int(_level(node, nodes)) for node in nodes if node.layer.stride})
    axis.set_yticks(levels, [f"P{level}, stride {2**level}" for level in levels], fontsize=FONT)
    axis.set_xticks([node.layer.index for node in nodes])
    axis.tick_params(labelsize=FONT - 1)
    axis.set_xlim(-0.8, len(nodes) - 0.2)
    axis.set_ylim(max(levels) + 0.7, min(levels) - 0.7)
    words = "blocks of yolomix in orange with a thick border; below a name its channels"
    axis.set_title(f"{short(subject.name)}: {words}", fontsize=FONT)


def _edge(axis: Any, start: tuple[float, float], end: tuple[float, float], deepest: float) -> None:
    """An arrow, bent where it passes other layers: below them, but above those at the bottom."""
    bend = 0.0 if end[0] - start[0] == 1 else -0.12 if start[1] == deepest else 0.18
    style = {"arrowstyle": "-|>", "color": "0.45", "linewidth": 0.7, "connectionstyle": f"arc3,rad={bend}"}
    style |= {"shrinkA": 10, "shrinkB": 11}
    axis.annotate("", end, start, arrowprops=style, zorder=1)


def _bars(axis: Any, nodes: Sequence[_Node], side: int) -> None:
    places = np.array([node.layer.index for node in nodes])
    axis.bar(places - 0.2, [node.operations.total / 1e9 for node in nodes], 0.4, color="0.35", label="GFLOPs")
    axis.set_ylabel("GFLOPs", fontsize=FONT)
    axis.tick_params(labelsize=FONT - 1)
    axis.set_xlim(-0.8, len(nodes) - 0.2)
    other = axis.twinx()
    other.bar(places + 0.2, [node.reach or 0 for node in nodes], 0.4, color="white", edgecolor="0.35", hatch="///",
              label="receptive field")  # fmt: skip
    other.axhline(side, color="0.35", linewidth=0.7, linestyle=":")
    other.set_ylabel(f"receptive\nfield of {side}\npixels", fontsize=FONT)
    other.tick_params(labelsize=FONT - 1)
    handles = [*axis.get_legend_handles_labels()[0], *other.get_legend_handles_labels()[0]]
    axis.legend(handles, [handle.get_label() for handle in handles], fontsize=FONT - 1, loc="upper left")
