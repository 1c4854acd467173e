"""The numbers of a profile: of models, as plain values and as tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from yolomix.profiling.latency import Latency
from yolomix.profiling.layer import Layer, layer_rows
from yolomix.profiling.operations import Operations
from yolomix.profiling.units import giga, millions
from yolomix.records import Conditions
from yolomix.showing import Shown
from yolomix.surgery.table import table

NOT_FINITE = "not timed: its outputs hold NaN or infinity"
BUSY = "this process did not get the processor for itself: the times are too long"
PROTOCOL = "fused, float32, the network alone, without suppression; frequency governor unknown"
CONVENTION = (
    "One multiply-add is two operations (half as many are MACs). Convolutions, matrix products and the recurrence of "
    "scans count; elementwise operations, normalisation, pooling and moves do not."
)


@dataclass(frozen=True, repr=False)
class ModelProfile(Shown):
    """What one model takes, at one image size and one batch.

    Attributes:
        model: its name.
        imgsz: height and width of the images, in pixels.
        batch: images at once, of latency and memory.
        latency: of the fused model for the batch; None where its outputs are not finite.
        conditions: where, with what and when.
        remarks: what a reader has to know about these numbers.
        latency_graphs: the same as one CUDA graph; None where there is none, as on every other device.
        parameters: of the model as built; None of a file of another runtime, as are all counts.
        operations: of a forward pass of one image, of the model as built.
        flops_training: of a forward and a backward pass of one image.
        fused_parameters: after ``fuse()``.
        fused_flops: of one image, after ``fuse()``.
        flops_ultralytics: what Ultralytics itself prints, with our scans in it.
        memory: megabytes of a forward pass of the batch.
        memory_training: of a forward and a backward pass; None where it was not asked for.
        layers: in order; modules inside a layer follow it.
    """

    model: str
    imgsz: tuple[int, int]
    batch: int
    latency: Latency | None
    conditions: Conditions
    remarks: tuple[str, ...] = ()
    latency_graphs: Latency | None = None
    parameters: int | None = None
    operations: Operations | None = None
    flops_training: int | None = None
    fused_parameters: int | None = None
    fused_flops: int | None = None
    flops_ultralytics: float | None = None
    memory: float | None = None
    memory_training: float | None = None
    layers: tuple[Layer, ...] | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        operations = self.operations
        return {
            "model": self.model,
            "imgsz": [*self.imgsz],
            "batch": self.batch,
            "parameters": self.parameters,
            "flops": None if operations is None else operations.total,
            "scan_flops": None if operations is None else operations.scan,
            "scan_flops_papers": None if operations is None else operations.scan_papers,
            "flops_training": self.flops_training,
            "flops_ultralytics": self.flops_ultralytics,
            "not_counted": None if operations is None else sorted(operations.not_counted),
            "latency_ms": None if self.latency is None else self.latency.to_dict(),
            "latency_graphs_ms": None if self.latency_graphs is None else self.latency_graphs.to_dict(),
            "memory_mb": {"inference": self.memory, "training": self.memory_training},
            "fused": {"parameters": self.fused_parameters, "flops": self.fused_flops},
            "conditions": self.conditions.to_dict(),
            "remarks": [*self.remarks],
            "layers": None if self.layers is None else [layer.to_dict() for layer in self.layers],
        }

    def in_short(self) -> str:
        """Parameters, operations and latency."""
        words = [f"{self.model}, {self.imgsz[0]}x{self.imgsz[1]}"]
        if self.parameters is not None and self.operations is not None:
            words += [millions(self.parameters), f"{giga(self.operations.total)} GFLOPs"]
        if self.latency is not None:
            words.append(f"{self.latency.median:.1f} ms")
        return ", ".join(words)

    def as_rows(self) -> list[tuple[str, ...]]:
        """The cells of the table of layers, with a sum per stage and one of all."""
        return layer_rows(self.layers or ())

    def facts(self) -> list[tuple[str, str]]:
        """Name and value of what holds for the whole model."""
        height, width = self.imgsz
        rows = [("model", f"{self.model}, images of {height}x{width}, batch {self.batch}")]
        if self.operations is not None and self.parameters is not None and self.fused_flops is not None:
            o = self.operations
            rows.append(("parameters", f"{self.parameters:,}; after fuse() {self.fused_parameters:,}"))
            rows.append(
                ("GFLOPs", f"{giga(o.total)} ({giga(o.total // 2)} GMACs); after fuse() {giga(self.fused_flops)}")
            )
            if o.scan:
                rows.append(
                    ("of scans", f"{giga(o.scan)}; in the papers' convention, 9 B L D N, {giga(o.scan_papers)}")
                )
            if self.flops_training is not None:
                rows.append(("training", f"{giga(self.flops_training)} GFLOPs forward and backward"))
            if self.flops_ultralytics:
                rows.append(
                    ("Ultralytics", f"prints {self.flops_ultralytics:.2f} GFLOPs: it also counts normalisation")
                )
            if o.not_counted:
                rows.append(("not counted", ", ".join(sorted(o.not_counted))))
        if self.latency is not None:
            t = self.latency
            rows.append(
                ("ms", f"{t.median:.2f} (p20 {t.p20:.2f}, p95 {t.p95:.2f}), of the processor {t.cpu_median:.2f}")
            )
            rows.append(("protocol", PROTOCOL))
        if self.latency_graphs is not None:
            rows.append(("as CUDA graph", f"{self.latency_graphs.median:.2f} ms (p95 {self.latency_graphs.p95:.2f})"))
        if self.memory is not None:
            training = "" if self.memory_training is None else f", training {self.memory_training:,.1f}"
            rows.append(("MB", f"{self.memory:,.1f}{training}, of PyTorch's allocator"))
        rows.append(("measured", self.conditions.in_short()))
        rows += [("note", remark) for remark in self.remarks]
        return rows


@dataclass(frozen=True, repr=False)
class Profile(Shown):
    """The profiles of one or several models, measured in turns.

    ``print`` it for the tables.

    Attributes:
        models: in the order in which they were given; every further batch is one more.
    """

    models: tuple[ModelProfile, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON: a list ``models``."""
        return {"models": [model.to_dict() for model in self.models]}

    def in_short(self) -> str:
        """That of every model."""
        return "; ".join(model.in_short() for model in self.models)

    def compared(self) -> str:
        """The times of the first model and of the last, and their ratio, in one line."""
        before, after = self.models[0].latency, self.models[-1].latency
        if before is None or after is None:
            return NOT_FINITE
        ratio = after.median / before.median
        line = f"{before.median:.1f} ms become {after.median:.1f}, {ratio:.2f} times as long"
        busy = f"; {BUSY}" if before.is_busy or after.is_busy else ""
        return f"{line} ({self.models[0].conditions.in_short()}){busy}"

    def as_rows(self) -> list[tuple[str, ...]]:
        """The models side by side; ratios are those to the first."""
        rows: list[tuple[str, ...]] = [("model", "batch", "params", "GFLOPs", "scan", "ms", "ratio", "images/s", "MB")]
        first = self.models[0].latency
        for model in self.models:
            time, operations = model.latency, model.operations
            ratio = f"{time.median / first.median:.2f}" if time and first else "-"
            rows.append(
                (
                    model.model,
                    str(model.batch),
                    "-" if model.parameters is None else millions(model.parameters),
                    "-" if operations is None else giga(operations.total),
                    "-" if operations is None else giga(operations.scan),
                    "-" if time is None else f"{time.median:.2f}",
                    ratio,
                    "-" if time is None else f"{1e3 * model.batch / time.median:.1f}",
                    "-" if model.memory is None else f"{model.memory:,.1f}",
                )
            )
        return rows

    def __str__(self) -> str:
        parts = []
        for model in self.models:
            if model.layers:
                parts.append(table(model.as_rows()))
            parts.append(table(model.facts()))
        if len(self.models) > 1:
            parts.append(table(self.as_rows()))
        return "\n\n".join([*parts, CONVENTION])
