"""Put blocks into any model, take layers out, swap their types: planned first, written second, weights kept."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolomix.nn.registry import BLOCKS, find
from yolomix.surgery import fit, grammar, places, yamlfile
from yolomix.surgery.graph import Graph
from yolomix.surgery.layers import Layer
from yolomix.surgery.places import At
from yolomix.surgery.plan import Plan, compare
from yolomix.surgery.report import Report

LOGGER = logging.getLogger("yolomix")


@dataclass(frozen=True)
class Base:
    """What is changed: a model dictionary, its layers, and the checkpoint it came from, if any."""

    name: str
    model: dict[str, Any]
    layers: tuple[Layer, ...]
    file: Path | None = None


@dataclass(frozen=True)
class Written:
    """What :meth:`Graft.apply` wrote. ``str()`` of it is the file to open, so ``YOLO(graft.apply())`` works.

    Args:
        file: the model: a checkpoint when the base was one, else a model YAML.
        yaml: the model YAML.
        report: what became of the checkpoint's weights; None without a checkpoint.
    """

    file: Path
    yaml: Path
    report: Report | None

    def __str__(self) -> str:
        return str(self.file)

    def __fspath__(self) -> str:
        return str(self.file)


@dataclass(frozen=True)
class Graft:
    """A model with changes that are not made yet. Every method gives a new one, so changes are chained.

    Places and numbers are always those of the base, however many changes came before; of two grafts at one place the
    second reads the first.
    """

    base: Base
    graph: Graph
    tag: str = ""

    def __repr__(self) -> str:
        return f"<Graft {self.base.name}{self.tag}: .plan() shows what changes, .apply() writes it>"

    def graft(
        self,
        block: str,
        at: At,
        mode: str = "after",
        args: Sequence[Any] | Mapping[str, Any] = (),
        n: int = 1,
        gate: bool | None = None,
    ) -> Graft:
        """Put a block at places; see :func:`graft`, which has the same arguments."""
        if mode not in grammar.MODES:
            raise ValueError(f"mode is one of {', '.join(grammar.MODES)}, got {mode!r}")
        args = [args] if isinstance(args, Mapping) else args
        if n < 1:
            raise ValueError(f"n is how often the block is repeated, at least 1, got {n}")
        where = places.resolve(at, self.base.layers)
        if mode == "replace":
            return self._replace(block, where, args, n, gate)
        chosen = [self.base.layers[k] for k in where]
        row = fit.row_behind(find(block), chosen, args, n, gate is not False)
        if mode == "after":
            graph = self.graph.insert([self.graph.end(k) for k in where], row)
            return replace(self, graph=graph, tag=f"{self.tag}-{block.lower()}")
        graph = self.graph
        for layer in chosen:
            if not layer.mapped:
                raise ValueError(f"{layer} reads a text beside its map and cannot be wrapped; use mode='after'")
            graph = graph.wrap(graph.position(layer.index), row)
        return replace(self, graph=graph, tag=f"{self.tag}-{block.lower()}")

    def remove(self, at: At) -> Graft:
        """Take layers out; who read one then reads what it read.

        Raises:
            ValueError: a layer reads several others, or is the head; or the plan finds that channels no longer fit.
        """
        graph = self.graph
        for k in places.resolve(at, self.base.layers):
            graph = graph.remove(graph.position(k))
        return self._edited(graph)

    def swap(
        self,
        old: str,
        new: str,
        args: Sequence[Any] | Mapping[str, Any] | None = None,
        within: str | None = None,
    ) -> Graft:
        """Give every layer of one type another type; repeats and channels stay.

        Args:
            old: module type in the rows, or a pattern of it (``"C3*"``).
            new: a registered block, or a module of Ultralytics.
            args: for a block what follows its channels; for a module of Ultralytics the row's arguments, by default
                those that are there.
            within: only in the ``"backbone"`` or the ``"neck"``.
        """
        args = [args] if isinstance(args, Mapping) else args
        where = places.typed(old, self.base.layers, within)
        graph = self.graph
        for k in where:
            graph = graph.replace(graph.position(k), self._row_for(new, k, graph, args))
        return self._edited(graph)

    def repeats(self, at: At, n: int) -> Graft:
        """Give layers another number of repeats, before depth scaling, as in a model YAML."""
        if n < 1:
            raise ValueError(f"repeats are at least 1, got {n}; to take a layer out use remove")
        where = places.resolve(at, self.base.layers)
        graph = self.graph
        for k in where:
            source, _, module, args = graph.rows[graph.position(k)]
            graph = graph.replace(graph.position(k), [source, n, module, args])
        return self._edited(graph)

    def plan(self) -> Plan:
        """What would change, without changing anything; ``print`` it for a table.

        Raises:
            ValueError: the changed model cannot be built, or a layer of the base would give other channels or another
                stride.
        """
        return self._planned()[0]

    def apply(self, save: str | Path | None = None, seed: int = 0) -> Written:
        """Write the model: a YAML, and from a checkpoint also a .pt that has the weights in it, and a report.

        Args:
            save: the file, ending in .yaml, or .pt for a checkpoint; by default the base's name with the blocks' names.
            seed: for what new layers start with; no other random state changes.

        Raises:
            ValueError: see :meth:`plan`; or a .pt is wanted and the base is no checkpoint.
            FileExistsError: the file is the base, or nothing was said and it exists, or a YAML of somebody else has
                the name of the one written beside a checkpoint.
        """
        plan, layers = self._planned()
        file = self._target(save)
        remark = f"{self.base.name}, {yamlfile.CHANGED}: {self.tag.strip('-')}"
        yaml = file.with_suffix(".yaml")
        text = yamlfile.text(self.graph.model, layers, remark)
        report = None
        if file.suffix == ".pt":
            from yolomix.host import weights

            source = weights.read(self.base.file or "")
            model = {**self.graph.model, "yaml_file": str(yaml)}
            made, report = weights.rebuilt(source, model, list(self.graph.origin), seed)
            if report.copied < plan.kept:
                LOGGER.warning(
                    "%d tensors of %s should keep their weights, %d do:\n%s",
                    plan.kept,
                    self.base.name,
                    report.copied,
                    report.missing(),
                )
            weights.write(made, file)
            report.save(file.with_name(f"{file.stem}-transfer.txt"))
        elif self.base.file is not None:
            LOGGER.warning("%s has no weights: those of %s need save=FILE.pt", file, self.base.file)
        yaml.write_text(text, "utf-8")
        return Written(file, yaml, report)

    def _planned(self) -> tuple[Plan, tuple[Layer, ...]]:
        layers = _survey(self.graph.model, partial=True)
        before = Graph.of(self.base.model).rows
        return compare(self.base.name, self.graph, self.base.layers, before, layers), layers

    def _replace(self, block: str, where: Sequence[int], args: Sequence[Any], n: int, gate: bool | None) -> Graft:
        if gate:
            raise ValueError(
                "mode='replace' leaves no way around the block for a gate; use mode='wrap' or 'after' to start equal, "
                "or gate=False"
            )
        find(block)
        graph = self.graph
        for k in where:
            row = self._row_for(block, k, graph, args)
            graph = graph.replace(graph.position(k), [row[0], n, *row[2:]])
        return self._edited(graph)

    def _row_for(self, new: str, k: int, graph: Graph, args: Sequence[Any] | None) -> list[Any]:
        """The row of another module in the place of layer k."""
        old = graph.rows[graph.position(k)]
        if new not in BLOCKS:
            return [*old[:2], new, list(old[3] if args is None else args)]
        layer, reads = self.base.layers[k], self.base.layers[k].reads
        before = self.base.layers[reads[0]] if len(reads) == 1 and reads[0] >= 0 else None
        return fit.row_instead(find(new), old, layer, before, args or (), graph.model)

    def _edited(self, graph: Graph) -> Graft:
        return replace(self, graph=graph, tag=f"{self.tag.removesuffix('-edited')}-edited")

    def _target(self, save: str | Path | None) -> Path:
        """The file to write."""
        base, suffix = self.base.file, ".pt" if self.base.file else ".yaml"
        default = (base or Path(Path(self.base.name).name)).with_suffix("")
        file = Path(save) if save else default.with_name(f"{default.name}{self.tag}{suffix}")
        if file.suffix not in (".yaml", suffix):
            raise ValueError(
                f"a change of {self.base.name} is saved as {suffix}, got {str(file)!r}"
                + ("" if base else "; weights come from a base that is a .pt file")
            )
        yaml, own = file.with_suffix(".yaml"), base or Path(self.base.name)
        if file.exists() and (save is None or file.resolve() == own.resolve()):
            raise FileExistsError(f"{file} exists; give another file name: save=...")
        if yaml != file and yaml.exists() and not yamlfile.is_written(yaml):
            raise FileExistsError(f"{yaml} exists and would be overwritten; give another file name: save=...")
        return file


def edit(base: str | Path | dict[str, Any] | Graft) -> Graft:
    """A model to change, without a change yet.

    Args:
        base: the name of a model YAML (any that ``YOLO`` takes), a checkpoint, a model dictionary, or a graft.

    Raises:
        FileNotFoundError: no such file.
    """
    if isinstance(base, Graft):
        return base
    if isinstance(base, dict):
        return _opened("model", base, None)
    if str(base).endswith(".pt"):
        from yolomix.host import weights

        source = weights.read(base)
        return _opened(str(base), dict(source.yaml), Path(source.pt_path))
    from yolomix.host.survey import described

    return _opened(str(base), described(base), None)


def graft(
    base: str | Path | dict[str, Any] | Graft,
    block: str,
    at: At,
    mode: str = "after",
    args: Sequence[Any] | Mapping[str, Any] = (),
    n: int = 1,
    gate: bool | None = None,
) -> Graft:
    """Put a block into a model, without losing its weights. Nothing is written before ``.apply()``.

    ``yolomix.graft("yolo11n.pt", "HaloAttention", at="p5", args=[2, 1]).apply()`` writes a checkpoint that any YOLO
    opens and whose outputs are those of yolo11n.

    Args:
        base: the name of a model YAML (any that ``YOLO`` takes), a checkpoint, a model dictionary, or another graft.
        block: a registered block; ``yolomix blocks`` lists them.
        at: where; a layer's number, ``"p3"`` ``"p4"`` ``"p5"``, ``"neck"``, ``"head-inputs"``, ``"backbone"``, a module
            type like ``"C2PSA"``, a pattern, ``"*"``, or a list of these; see :func:`yolomix.surgery.places.resolve`.
        mode: ``"after"`` a new layer behind each; ``"wrap"`` the same inside the layer's own row, so that no number
            changes; ``"replace"`` in the layer's place.
        args: the block's arguments after its channels (and repeats); the last may be a dictionary of those by name.
        n: repeats, before depth scaling, as in a model YAML.
        gate: multiply what the block changes by a gate that starts at zero, so that outputs are equal at the start;
            by default wherever the layer stays (``"after"``, ``"wrap"``). False starts the block as its paper does.

    Raises:
        ValueError: no such place or mode, or the block cannot take the channels there.
        KeyError: no such block.
        FileNotFoundError: no such base.
    """
    return edit(base).graft(block, at, mode, args, n, gate)


def from_name(name: str) -> Graft:
    """The grafts that a name says: ``yolo11n+HaloAttention(2,1)@p5.yaml``; see ``yolomix.surgery.grammar``.

    Raises:
        ValueError: it does not follow the grammar, or a graft does not fit; the message points at the place.
    """
    parsed = grammar.parse(name)
    result = edit(parsed.base)
    for part in parsed.parts:
        try:
            result = result.graft(part.block, list(part.at), part.mode, part.args, part.n, part.gate)
        except (ValueError, KeyError) as error:
            raise grammar.GraftNameError(name, part.at_char, str(error.args[0])) from error
    return result


def _opened(name: str, model: dict[str, Any], file: Path | None) -> Graft:
    if model.get("scales") and not model.get("scale"):
        model = {**model, "scale": next(iter(model["scales"]))}
    return Graft(Base(name, model, _survey(model), file), Graph.of(model))


def _survey(model: dict[str, Any], partial: bool = False) -> tuple[Layer, ...]:
    from yolomix.host.survey import survey

    found: tuple[Layer, ...] = survey(model, partial)
    return found
