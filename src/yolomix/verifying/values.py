"""What a verification found: checks, figures and conditions, as plain values, a table and Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from yolomix.profiling.latency import Latency
from yolomix.records import Conditions
from yolomix.showing import Shown
from yolomix.surgery.table import table

VERDICTS = {True: "verified", False: "DIFFERS", None: "not verified"}
PASSED = {True: "passed", False: "FAILED", None: "-"}
REMEDY = (
    "The file stays; export it again, for FP16 and INT8 with quantize=32, or with another opset=, "
    "and do not ship this one"
)
PROTOCOL = (
    "Milliseconds of a pass of one batch: the file and PyTorch (float32, fused) in turns, on as many threads, the "
    "first three not counted, without preprocessing and suppression. Load: until the file on the disk can be called. "
    "MB: resident memory, of the file what opening and running add to its process, of PyTorch its weights and what a "
    "pass adds."
)


@dataclass(frozen=True)
class Check:
    """One comparison.

    Attributes:
        name: what.
        passed: whether it is as it has to be; None where it could not be judged.
        found: what came, in words.
        wanted: what is allowed, in words.
        numbers: the same as plain values.
        remedy: what to do where it did not pass.
    """

    name: str
    passed: bool | None
    found: str
    wanted: str
    numbers: Mapping[str, Any] = field(default_factory=dict)
    remedy: str = REMEDY

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "name": self.name,
            "passed": self.passed,
            "found": self.found,
            "wanted": self.wanted,
            "numbers": dict(self.numbers),
        }


@dataclass(frozen=True)
class Cost:
    """What running takes.

    Attributes:
        what: the runtime and its version.
        latency: of a pass of one batch; None where it did not run.
        load: seconds.
        memory: megabytes; None where the system does not say.
        size: megabytes on the disk.
    """

    what: str
    latency: Latency | None
    load: float | None
    memory: float | None
    size: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        latency = None if self.latency is None else self.latency.to_dict()
        return {
            "what": self.what,
            "latency_ms": latency,
            "load_s": self.load,
            "memory_mb": self.memory,
            "size_mb": self.size,
        }

    def as_row(self) -> tuple[str, ...]:
        """The cells of a table."""
        t = self.latency
        return (
            self.what,
            "-" if t is None else f"{t.median:.2f}",
            "-" if t is None else f"{t.p95:.2f}",
            "-" if t is None else f"{t.cpu_median:.2f}",
            "-" if self.load is None else f"{self.load:.2f}",
            "-" if self.memory is None else f"{self.memory:,.0f}",
            "-" if self.size is None else f"{self.size:.1f}",
        )


@dataclass(frozen=True, repr=False)
class Verification(Shown):
    """Whether an exported file gives what the model gives in PyTorch.

    ``print`` it for the table.

    Attributes:
        file: the exported file or folder.
        model: the name of the model.
        conditions: where, with what and when.
        precision: ``FP32``, ``FP16`` or ``INT8``.
        imgsz: height and width of the images, in pixels.
        images: how many real images were compared, and which.
        checks: what was compared, in order.
        costs: of the file and of PyTorch.
        located: the layer that first leaves the tolerance, in words; empty where all is well or nobody can tell.
        refusal: why nothing was verified, with the next step; empty where it was.
        remarks: what a reader has to know about these numbers.
    """

    file: Path
    model: str
    conditions: Conditions
    precision: str = ""
    imgsz: tuple[int, int] = (0, 0)
    images: str = ""
    checks: tuple[Check, ...] = ()
    costs: tuple[Cost, ...] = ()
    located: str = ""
    refusal: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def verified(self) -> bool | None:
        """Whether every check passed; None where the file could not be run."""
        if self.failed:
            return False
        return None if self.refusal else True

    @property
    def failed(self) -> tuple[Check, ...]:
        """The checks that did not pass."""
        return tuple(check for check in self.checks if check.passed is False)

    @property
    def advice(self) -> str:
        """What is wrong and what to do, in one message; empty where all is well."""
        if not self.failed:
            return f"{self.file} is not verified: {self.refusal}" if self.refusal else ""
        first = self.failed[0]
        where = f" {self.located}." if self.located else ""
        return (
            f"{self.file} differs from PyTorch: {first.name}: {first.found}, allowed {first.wanted}.{where} "
            f"{first.remedy}"
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "file": str(self.file),
            "model": self.model,
            "verified": self.verified,
            "precision": self.precision,
            "imgsz": [*self.imgsz],
            "images": self.images,
            "checks": [check.to_dict() for check in self.checks],
            "located": self.located,
            "refusal": self.refusal,
            "costs": [cost.to_dict() for cost in self.costs],
            "protocol": PROTOCOL,
            "conditions": self.conditions.to_dict(),
            "remarks": [*self.remarks],
        }

    def in_short(self) -> str:
        """The verdict, with the first reason."""
        why = f"{self.failed[0].name}: {self.failed[0].found}" if self.failed else self.refusal
        return f"{self.file.name}: {VERDICTS[self.verified]}{why and f', {why}'}"

    def as_rows(self) -> list[tuple[str, ...]]:
        """The checks."""
        rows: list[tuple[str, ...]] = [("check", "", "found", "allowed")]
        rows += [(check.name, PASSED[check.passed], check.found, check.wanted) for check in self.checks]
        return rows

    def cost_rows(self) -> list[tuple[str, ...]]:
        """What running takes."""
        head = ("one pass", "ms", "p95", "CPU ms", "load s", "MB", "MB on disk")
        return [head, *(cost.as_row() for cost in self.costs)]

    def facts(self) -> list[tuple[str, str]]:
        """The rest, a row each."""
        rows = [
            ("file", str(self.file)),
            ("model", self.model),
            ("images", self.images and f"{self.images}, {self.imgsz[0]}x{self.imgsz[1]}, {self.precision}"),
            ("where", self.located or self.refusal),
            ("measured", self.conditions.in_short()),
        ]
        rows += [("note", remark) for remark in self.remarks]
        return [row for row in rows if row[1]]

    def __str__(self) -> str:
        shown = [f"{self.file.name}: {VERDICTS[self.verified]}", table(self.as_rows()), table(self.facts())]
        if self.costs:
            shown += [table(self.cost_rows()), PROTOCOL]
        return "\n\n".join(shown)

    def markdown(self, heading: str = "#") -> str:
        """The same for a file beside the export, or as a part of one."""
        tables: list[Sequence[Sequence[str]]] = [self.as_rows(), [("", ""), *self.facts()]]
        if self.costs:
            tables.append(self.cost_rows())
        lines = [f"{heading} {self.file.name}: {VERDICTS[self.verified]}", ""]
        for head, *body in tables:
            lines += [_bar(head), _bar(["---"] * len(head)), *map(_bar, body), ""]
        return "\n".join([*lines, PROTOCOL, ""])


def _bar(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cell.replace('|', '/') for cell in cells)} |"


class VerificationError(RuntimeError):
    """An exported file differs from PyTorch.

    Attributes:
        verification: what was found.
    """

    def __init__(self, verification: Verification) -> None:
        super().__init__(verification.advice)
        self.verification = verification
