"""The numbers of one layer of a profile, and the table of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from yolomix.profiling.latency import Latency
from yolomix.profiling.operations import Operations
from yolomix.profiling.units import giga, millions

STAGES = ("backbone", "neck", "head")
HEAD = ("", "module", "output", "params", "GFLOPs", "scan", "ms", "%", "MB", "backend")


@dataclass(frozen=True)
class Layer:
    """One module of a model.

    Attributes:
        name: where it is in the model, ``4`` or, of a module inside a layer, ``4.cv1``.
        module: its type.
        stage: ``backbone``, ``neck`` or ``head``.
        shapes: of its outputs, each (B, C, H, W) or another.
        parameters: of the model as built.
        operations: of a forward pass of one image, of the model as built.
        training: of a forward and a backward pass of one image; 0 where it was not asked for.
        latency: of the fused model; None where the module is not called.
        share: of the times of all layers, 0 to 1.
        memory: megabytes more than before that it holds at most; None where only the whole is known, on a GPU.
        backends: which backend ran, by operator.
    """

    name: str
    module: str
    stage: str
    shapes: tuple[tuple[int, ...], ...]
    parameters: int
    operations: Operations
    latency: Latency | None
    share: float
    memory: float | None
    backends: Mapping[str, str]

    @property
    def depth(self) -> int:
        """1 of a layer, 2 of a module inside one."""
        return 2 if "." in self.name else 1

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        shapes = [list(shape) for shape in self.shapes]
        return {
            "index": int(self.name.partition(".")[0]),
            "name": self.name,
            "module": self.module,
            "stage": self.stage,
            "shape": shapes[0] if len(shapes) == 1 else shapes,
            "parameters": self.parameters,
            "flops": self.operations.total,
            "scan_flops": self.operations.scan,
            "scan_flops_papers": self.operations.scan_papers,
            "not_counted": sorted(self.operations.not_counted),
            "latency_ms": None if self.latency is None else self.latency.to_dict(),
            "share": self.share,
            "memory_mb": self.memory,
            "backend": dict(self.backends),
        }


def layer_rows(layers: Sequence[Layer]) -> list[tuple[str, ...]]:
    """The cells of a table of layers, with a sum per stage and one of all."""
    found = list[tuple[str, ...]]([HEAD])
    for stage in STAGES:
        of_stage = [layer for layer in layers if layer.stage == stage]
        found += map(_row, of_stage)
        if of_stage:
            found.append(_sum(stage, of_stage))
    if layers:
        found.append(_sum("all", layers))
    return found


def _row(layer: Layer) -> tuple[str, ...]:
    shapes = ["x".join(map(str, shape[1:])) for shape in layer.shapes]
    output = shapes[0] if len(shapes) == 1 else f"{len(shapes)} tensors" if shapes else "-"
    return (
        layer.name if layer.depth == 1 else f" {layer.name}",
        layer.module,
        output,
        millions(layer.parameters),
        giga(layer.operations.total),
        giga(layer.operations.scan),
        "-" if layer.latency is None else f"{layer.latency.median:.2f}",
        f"{100 * layer.share:.0f}",
        "-" if layer.memory is None else f"{layer.memory:.1f}",
        ", ".join(dict.fromkeys(layer.backends.values())),
    )


def _sum(name: str, layers: Sequence[Layer]) -> tuple[str, ...]:
    """The sums of whole layers; modules inside them are in theirs."""
    layers = [layer for layer in layers if layer.depth == 1]
    operations = sum((layer.operations for layer in layers), Operations())
    held = [layer.memory for layer in layers if layer.memory is not None]
    return (
        "=",
        name,
        "",
        millions(sum(layer.parameters for layer in layers)),
        giga(operations.total),
        giga(operations.scan),
        f"{sum(layer.latency.median for layer in layers if layer.latency):.2f}",
        f"{100 * sum(layer.share for layer in layers):.0f}",
        f"{max(held):.1f}" if held else "-",
        "",
    )
