"""A planned edit: what it would do to every layer, and writing the edited model."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from yolomix import files, transferring
from yolomix._version import __version__
from yolomix.host import names, weights
from yolomix.profiling import measuring
from yolomix.profiling.costs import Cost, cost_of
from yolomix.profiling.units import giga
from yolomix.profiling.values import Profile
from yolomix.showing import Shown
from yolomix.surgery import yamlfile
from yolomix.surgery.graph import Graph, Layer
from yolomix.surgery.report import Report
from yolomix.surgery.steps import HEAD, Step, gain
from yolomix.surgery.table import table

LOGGER = logging.getLogger("yolomix")


@dataclass(frozen=True)
class Base:
    """The model that is edited.

    Attributes:
        name: how it was given.
        model: its model dictionary.
        layers: what is known of its layers.
        file: the checkpoint that it came from, if any.
        yaml: the model YAML that it was read from, if any.
    """

    name: str
    model: dict[str, Any] = field(repr=False)
    layers: tuple[Layer, ...] = field(repr=False)
    file: Path | None = None
    yaml: Path | None = None


@dataclass(frozen=True, repr=False)
class EditedModel(Shown):
    """The files of an edited model. ``str()`` gives the one to open, so ``YOLO(edit.apply())`` works.

    >>> str(EditedModel(Path("mine.yaml"), Path("mine.yaml")))
    'mine.yaml'

    Attributes:
        file: the model: a checkpoint when the base was one, else a model YAML.
        yaml: the model YAML.
        report: what became of the checkpoint's weights; None without a checkpoint.
    """

    file: Path
    yaml: Path
    report: Report | None = None

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a program: ``file``, ``yaml``, and from a checkpoint those of its report."""
        found: dict[str, Any] = {"file": str(self.file), "yaml": str(self.yaml)}
        if self.report is not None:
            found |= self.report.to_dict()
        return found

    def in_short(self) -> str:
        """The file, and how many weights are in it."""
        return f"{self.file}: {self.report.counts}" if self.report else str(self.file)

    def __str__(self) -> str:
        return str(self.file)

    def __fspath__(self) -> str:
        return str(self.file)


@dataclass(frozen=True, repr=False)
class Plan(Shown):
    """What an edit would do. ``print`` it for a table; ``apply`` does it.

    >>> import yolomix
    >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    >>> print(yolomix.edit(model).insert("MLLABlock", at=0, args=[4]).plan())
    old  new       module              channels  stride  parameters
      0    0       Conv                      16       2
      -    1  new  ZeroGate MLLABlock        16       2      +4,208
      1    2       Detect                     -       -
    model: 1 of 3 layers change, +4,208 parameters on 55,682; 35 of 35 tensors keep their weights
    11.33 GFLOPs become 12.16, for an image of 640x640

    Attributes:
        base: the model that is edited.
        graph: its rows after the edit.
        layers: its layers after the edit.
        steps: one per layer, in the order of the edited model.
        suffix: what the name of the edited model adds to the base's.
        imgsz: height and width of the images that GFLOPs and times are of, in pixels.
        measured: base and result, timed in turns; None where that was not asked for.
    """

    base: Base
    graph: Graph
    layers: tuple[Layer, ...]
    steps: tuple[Step, ...]
    suffix: str
    imgsz: tuple[int, int] = (640, 640)
    measured: Profile | None = None

    @property
    def parameters(self) -> int:
        """Parameters of the base."""
        return sum(layer.parameters for layer in self.base.layers)

    @property
    def parameters_added(self) -> int:
        """Parameters that the model gains."""
        return sum(step.parameters_added for step in self.steps)

    @property
    def tensors(self) -> int:
        """Tensors of the base."""
        return sum(layer.tensors for layer in self.base.layers)

    @property
    def kept(self) -> int:
        """Tensors of layers that stay as they are: so many weights will arrive.

        More will where a changed layer has parts of the same name and shape.
        """
        return sum(step.tensors_kept for step in self.steps)

    @cached_property
    def costs(self) -> tuple[Cost, Cost] | None:
        """What base and result take for one image; None where a model of that kind cannot be counted at that size."""
        try:
            before, after = (cost_of(weights.from_rows(m), self.imgsz) for m in (self.base.model, self.graph.model))
        except (RuntimeError, NotImplementedError) as error:
            LOGGER.debug("%s: not counted", self.base.name, exc_info=error)
            return None
        return before, after

    def timed(self) -> Plan:
        """The same with base and result measured in turns on the CPU, see :func:`yolomix.profile`.

        Raises:
            ValueError: one of them cannot run at that size.
        """
        before, after = (weights.from_rows(model) for model in (self.base.model, self.graph.model))
        found = measuring.profile(before, self.imgsz, against=[after])
        named = zip(found.models, (self.base.name, self.base.name + self.suffix), strict=True)
        return replace(self, measured=Profile(tuple(replace(model, model=name) for model, name in named)))

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for a program."""
        costs = None if self.costs is None else [cost.to_dict() for cost in self.costs]
        return {
            "base": self.base.name,
            "steps": [step.to_dict() for step in self.steps],
            "parameters": self.parameters,
            "parameters_added": self.parameters_added,
            "kept": self.kept,
            "tensors": self.tensors,
            "imgsz": [*self.imgsz],
            "costs": costs,
            "measured": None if self.measured is None else self.measured.to_dict(),
        }

    def in_short(self) -> str:
        """How many layers change, and what that costs."""
        changes = [step for step in self.steps if step.change]
        added = gain(self.parameters_added) or "no"
        return f"{self.base.name}: {len(changes)} of {len(self.steps)} layers change, {added} parameters"

    def as_rows(self) -> list[tuple[str, ...]]:
        """A row per layer below a head."""
        return [HEAD, *(step.cells() for step in self.steps)]

    @property
    def summary(self) -> str:
        """One line."""
        weights_kept = f"{self.kept} of {self.tensors} tensors keep their weights"
        if any(step.change == "changed" for step in self.steps):
            weights_kept = f"at least {weights_kept}"
        return f"{self.in_short()} on {self.parameters:,}; {weights_kept}"

    @property
    def cost(self) -> str:
        """GFLOPs before and after in one line; with a measurement also milliseconds in one more."""
        size = "x".join(map(str, self.imgsz))
        if self.costs is None:
            return f"GFLOPs: this model cannot be counted on an image of {size}"
        before, after = (cost.operations for cost in self.costs)
        scans = f", {giga(after.scan)} of them in scans" if after.scan else ""
        lines = [f"{giga(before.total)} GFLOPs become {giga(after.total)}{scans}, for an image of {size}"]
        uncounted = ", ".join(sorted(before.not_counted | after.not_counted))
        if uncounted:
            lines[0] += f"; not counted: {uncounted}"
        if self.measured is not None:
            lines.append(self.measured.compared())
        return "\n".join(lines)

    def __str__(self) -> str:
        return f"{table(self.as_rows())}\n{self.summary}\n{self.cost}"

    def apply(self, save: str | Path | None = None, seed: int = 0) -> EditedModel:
        """Write the model: a YAML, and from a checkpoint also a .pt that has the weights in it, and a report.

        Args:
            save: the file, ending in .yaml, or .pt for a checkpoint; by default the base's name with the blocks' names.
            seed: for the init of new layers; no other random state changes.

        Raises:
            ValueError: a .pt is wanted and the base is no checkpoint.
            FileExistsError: the file is the base, or no file was named and it exists, or what somebody else wrote or
                edited has the name of a file that is written beside a checkpoint.
            OSError: a file cannot be written; what stood there is untouched.
        """
        file = self._file(save)
        yaml = file.with_suffix(".yaml")
        # The text first: where it cannot be made nothing is written.
        source = "" if self.base.file else names.written(self.base.name)
        text = yamlfile.text(self.graph, self.layers, self.base.name, self.suffix.strip("-"), source)
        report = None
        if file.suffix == ".pt":
            report = self._write_checkpoint(file, yaml, text, seed)
        else:
            files.write_signed(yaml, text)
            if self.base.file is not None:
                LOGGER.warning("%s has no weights: those of %s need save=FILE.pt", file, self.base.file)
        return EditedModel(file, yaml, report)

    def is_in(self, file: str | Path, seed: int = 0) -> bool:
        """Whether a checkpoint is what :meth:`apply` wrote for this plan, of the base as it is now, and never changed.

        Raises:
            FileExistsError: the file was not written by :meth:`apply`, or its weights have changed since.
        """
        found = weights.record_of(file)
        if found is None:
            raise FileExistsError(
                f"{file} exists, and is no graft as yolomix wrote it: it was trained, saved or made by something else. "
                "Open it by its own name, or move it"
            )
        return {**self._record(seed), "weights": found["weights"]} == found

    def _record(self, seed: int) -> weights.Record:
        """What decides whether a file is this edit: its base, its rows and their init, the version that wrote it."""
        plan = json.dumps([self.graph.model, self.graph.origin, seed], default=str, sort_keys=True)
        return {
            "base": files.digest(self.base.file) if self.base.file else "",
            "plan": hashlib.sha256(plan.encode()).hexdigest(),
            "version": __version__,
        }

    def _write_checkpoint(self, file: Path, yaml: Path, text: str, seed: int) -> Report:
        """Build the edited model, move the weights of the base into it, and save it after what stands beside it."""
        record = self._record(seed)
        source = weights.read(self.base.file or "")
        # The checkpoint names the YAML that it was made from, as one that Ultralytics trained does.
        target = weights.like(source, {**self.graph.model, "yaml_file": str(yaml)}, seed)
        report = transferring.copy_weights(source, target, list(self.graph.origin))
        if len(report.copied) < self.kept:
            LOGGER.warning(
                "%d tensors of %s should keep their weights, %d do:\n%s",
                self.kept,
                self.base.name,
                len(report.copied),
                report.explain_missing(),
            )
        report.save(transferring.report_file(file))
        files.write_signed(yaml, text)
        weights.write(target, file, record)
        return report

    def _file(self, save: str | Path | None) -> Path:
        """The file to write."""
        own = self.base.file or Path(self.base.name)
        if self.base.file:
            suffix, default = ".pt", own.with_suffix("")
        else:
            suffix, default = ".yaml", Path(own.stem)  # not beside a model YAML, which may be in an installed package
        file = Path(save or default.with_name(f"{default.name}{self.suffix}{suffix}"))
        if file.suffix not in (".yaml", suffix):
            text = f"an edit of {self.base.name} is saved as {suffix}, got {str(file)!r}"
            if not self.base.file:
                text += "; weights come from a base that is a .pt file"
            raise ValueError(text)
        if save is None and os.path.lexists(file):
            raise FileExistsError(f"{file} exists; give another file name: save=...")
        beside = []
        if file.suffix == ".pt":
            beside = [file.with_suffix(".yaml"), transferring.report_file(file)]
        transferring.check_kept([file, *beside], [self.base.file, self.base.yaml])
        for path in beside:
            files.check_ours(path)
        return file
