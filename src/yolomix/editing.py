"""Edit any model: put blocks in, take layers out, swap module types. Planned first, written second, weights kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from yolomix.host import names, weights
from yolomix.host.names import Kind
from yolomix.host.survey import image_size, survey, with_scale
from yolomix.nn import origins
from yolomix.nn.registry import Block, known
from yolomix.planning import Base, EditedModel, Plan
from yolomix.showing import Shown
from yolomix.surgery import csp, grammar, insertion, steps
from yolomix.surgery.graph import Graph, Layer, Row, arguments
from yolomix.surgery.insertion import At

Args = Sequence[Any] | Mapping[str, Any]


@dataclass(frozen=True, repr=False)
class ModelEdit(Shown):
    """A model with changes that are not made yet. It never changes: every operation gives a new one.

    Insertion points and layer indices are always those of the base, however many operations came before. Of two blocks
    at one insertion point the second reads the first.

    >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    >>> change = edit(model).insert("HaloAttention", at=0, args=[2, 1]).wrap("MLLABlock", at=0)
    >>> change
    <ModelEdit model-haloattention-mllablock: .plan() shows what changes, .apply() writes it>
    >>> change.plan().parameters_added
    37904

    Attributes:
        base: the model that is edited.
        graph: its rows, with the changes.
        suffix: what the name of the edited model adds to the base's.
    """

    base: Base
    graph: Graph
    suffix: str = ""

    def in_short(self) -> str:
        """The name, and how to go on."""
        return f"{self.base.name}{self.suffix}: .plan() shows what changes, .apply() writes it"

    def as_rows(self) -> list[tuple[str, ...]]:
        """The rows of the model."""
        rows = [tuple(map(str, (i, *row))) for i, row in enumerate(self.graph.rows)]
        return [("layer", "from", "repeats", "module", "args"), *rows]

    def insert(self, block: str, at: At, args: Args = (), n: int = 1, gate: bool | None = None) -> ModelEdit:
        """Put a block into a row of its own behind each layer; see :func:`graft`.

        >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
        >>> edit(model).insert("MLLABlock", at="backbone").graph.rows[1:]
        [[-1, 1, 'ZeroGate', ['MLLABlock']], [[1], 1, 'Detect', ['nc']]]
        """
        graph, found = self._said(block)
        indices, row = self._behind(found, at, args, n, gate)
        ends = [graph.end(index) for index in indices]  # behind what was inserted there before
        return self._grafted(graph.insert(ends, row), block)

    def wrap(self, block: str, at: At, args: Args = (), n: int = 1, gate: bool | None = None) -> ModelEdit:
        """Put a block behind each layer inside the layer's own row, so that no layer index changes; see :func:`graft`.

        >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
        >>> edit(model).wrap("MLLABlock", at="backbone").graph.rows[0]
        [-1, 1, 'Chain', [[1, 'Conv', [16, 3, 2]], [1, 'ZeroGate', ['MLLABlock']]]]
        """
        graph, found = self._said(block)
        indices, row = self._behind(found, at, args, n, gate)
        for index in indices:
            layer = self.base.layers[index]
            if layer.reads_text:
                raise ValueError(f"{layer} reads a text beside its feature map and cannot be wrapped; use insert")
            graph = graph.wrap(graph.position(index), row)
        return self._grafted(graph, block)

    def replace(self, block: str, at: At, args: Args = (), n: int = 1) -> ModelEdit:
        """Put a block in the place of each layer; parts of the same name and shape keep their weights.

        >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
        >>> edit(model).replace("SimpleStem", at=0, args=[3]).graph.rows[0]
        [-1, 1, 'SimpleStem', [16, 3]]
        """
        graph, found = self._said(block, behind=False)
        layers = self._layers(at, n)
        if "(" in block:  # in a CSP module
            return self._edited(csp.replaced(graph, block, layers, arguments(args), n))
        for layer in layers:
            source, _, *rest = self._row_of(found, layer.index, graph, args)
            graph = graph.replace(graph.position(layer.index), [source, n, *rest])
        return self._edited(graph)

    def remove(self, at: At) -> ModelEdit:
        """Take layers out; who read one then reads what it read.

        >>> model = {
        ...     "nc": 2,
        ...     "backbone": [[-1, 1, "Conv", [16, 3, 2]], [-1, 1, "SPPF", [16, 5]]],
        ...     "head": [[[1], 1, "Detect", ["nc"]]],
        ... }
        >>> edit(model).remove("SPPF").graph.rows
        [[-1, 1, 'Conv', [16, 3, 2]], [[0], 1, 'Detect', ['nc']]]

        Raises:
            ValueError: a layer reads several others, or is the head; or the plan finds that channels no longer fit.
        """
        graph = self.graph
        for index in insertion.resolve(at, self.base.layers):
            graph = graph.remove(graph.position(index))
        return self._edited(graph)

    def swap(self, old: str, new: str, args: Args | None = None, within: str | None = None) -> ModelEdit:
        """Give every layer of one module type another type; repeats and channels stay.

        >>> model = {"nc": 2, "backbone": [[-1, 2, "C2f", [16]]], "head": [[[0], 1, "Detect", ["nc"]]]}
        >>> edit(model).swap("C2f", "XSSBlock").graph.rows[0]
        [-1, 2, 'XSSBlock', [16]]

        Args:
            old: module type in the rows, or a pattern of it (``"C3*"``).
            new: a block as in :func:`graft`, or a module of Ultralytics.
            args: what follows a block's channels; of a module of Ultralytics all, by default those that are there.
            within: only in the ``"backbone"`` or the ``"neck"``.
        """
        indices = insertion.of_type(old, self.base.layers, within)
        if "(" in new:
            return self.replace(new, indices, args or ())
        is_block = origins.is_dotted(new) or known(new) is not None
        graph, found = self._said(new) if is_block else (self.graph, None)
        for index in indices:
            source, n, _, row_args = graph.rows[graph.position(index)]
            row = [source, n, new, row_args if args is None else arguments(args)]
            if found is not None:
                row = self._row_of(found, index, graph, args or ())
            graph = graph.replace(graph.position(index), row)
        return self._edited(graph)

    def repeats(self, at: At, n: int) -> ModelEdit:
        """Give layers another number of repeats, before depth scaling, as in a model YAML.

        >>> model = {"nc": 2, "backbone": [[-1, 2, "C2f", [16]]], "head": [[[0], 1, "Detect", ["nc"]]]}
        >>> edit(model).repeats("C2f", 4).graph.rows[0]
        [-1, 4, 'C2f', [16]]
        """
        if n < 1:
            raise ValueError(f"repeats are at least 1, got {n}; to take a layer out use remove")
        graph = self.graph
        for index in insertion.resolve(at, self.base.layers):
            source, _, module, args = graph.rows[graph.position(index)]
            graph = graph.replace(graph.position(index), [source, n, module, args])
        return self._edited(graph)

    def plan(self, imgsz: int | Sequence[int] = 640, profile: bool = False) -> Plan:
        """What would change, without changing anything; ``print`` it for a table.

        Args:
            imgsz: height and width in pixels, or one number for both, of the image whose GFLOPs are counted.
            profile: also time base and result, in turns, on the CPU.

        Raises:
            ValueError: the edited model cannot be built, or a layer of the base would give other channels or another
                stride.
        """
        size = image_size(imgsz)
        layers = survey(self.graph.model, partial=True)
        rows = [*self.base.model["backbone"], *self.base.model["head"]]
        changes = steps.compare(self.graph, self.base.layers, rows, layers)
        plan = Plan(self.base, self.graph, layers, changes, self.suffix, size)
        return plan.timed() if profile else plan

    def apply(self, save: str | Path | None = None, seed: int = 0) -> EditedModel:
        """Plan it and write it: what :meth:`plan` and then :meth:`yolomix.planning.Plan.apply` do.

        >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
        >>> done = edit(model).insert("MLLABlock", at=0).apply("mine.yaml")
        >>> done.yaml.read_text().splitlines()[8]
        '  - [-1, 1, ZeroGate, [MLLABlock]] # 1-P1/2, 16 channels'
        """
        return self.plan().apply(save, seed)

    def _layers(self, at: At, n: int) -> list[Layer]:
        if n < 1:
            raise ValueError(f"n is how often the block is repeated, at least 1, got {n}")
        return [self.base.layers[index] for index in insertion.resolve(at, self.base.layers)]

    def _said(self, block: str, behind: bool = True) -> tuple[Graph, Block]:
        """The block of a name that the user said, alone or in a CSP module; and the rows, which say its origin."""
        if behind and "(" in block:
            raise csp.not_behind(block)
        found = origins.say(block.rpartition("(")[2].removesuffix(")"))
        return replace(self.graph, model=origins.remembered(self.graph.model, found)), found

    def _behind(self, block: Block, at: At, args: Args, n: int, gate: bool | None) -> tuple[list[int], Row]:
        """The layers, and the row that puts a block behind any of them."""
        layers = self._layers(at, n)
        # There is a gate unless it is refused: None, for nothing said, means yes.
        return [layer.index for layer in layers], insertion.row_behind(
            block, layers, arguments(args), n, gate is not False
        )

    def _row_of(self, block: Block, index: int, graph: Graph, args: Args) -> Row:
        """The row of a block in the place of a layer."""
        old = graph.rows[graph.position(index)]
        layer = self.base.layers[index]
        reads_one = len(layer.reads) == 1 and layer.reads[0] >= 0
        before = self.base.layers[layer.reads[0]] if reads_one else None
        return insertion.row_instead(block, old, layer, before, arguments(args), graph.model)

    def _grafted(self, graph: Graph, block: str) -> ModelEdit:
        return replace(self, graph=graph, suffix=f"{self.suffix}-{block.rpartition('.')[2].lower()}")

    def _edited(self, graph: Graph) -> ModelEdit:
        # Blocks are named, one after the other; edits of rows are told once in a run of them.
        return replace(self, graph=graph, suffix=f"{self.suffix.removesuffix('-edited')}-edited")


def edit(base: str | Path | dict[str, Any] | ModelEdit) -> ModelEdit:
    """A model to edit, without a change yet, or with the grafts that its name has.

    >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    >>> [str(layer) for layer in edit(model).base.layers]
    ['layer 0 (Conv)', 'layer 1 (Detect)']

    Args:
        base: any model name of ``YOLO`` with rows (a YAML or checkpoint, perhaps with grafts), a dictionary or an edit.

    Raises:
        FileNotFoundError: no such file.
        ValueError: an exported model; or a graft in the name does not follow the grammar or does not fit.
    """
    if isinstance(base, ModelEdit):
        return base
    if isinstance(base, dict):
        return _opened("model", base)
    name = names.resolve(base)
    if name.kind is Kind.EXPORTED:
        raise ValueError(f"an edit needs a model YAML or a checkpoint (.pt), got the {name.kind} {name.text!r}")
    if name.kind is Kind.CHECKPOINT or name.base.endswith(names.CHECKPOINT):  # also an address of a checkpoint
        source = weights.read(name.base.removesuffix(names.CHECKPOINT) + names.CHECKPOINT)
        result = _opened(name.base, dict(source.yaml), Path(source.pt_path))
    else:
        result = _opened(name.base, names.described(name.base), yaml=name.file)
    for part in name.grafts:
        try:
            result = graft(result, part.block, list(part.at), part.mode, part.args, part.n, part.gate)
        except (ValueError, KeyError, ImportError, TypeError) as error:
            raise grammar.GraftNameError(name.text, part.at_char, str(error.args[0])) from error
    return result


def graft(
    base: str | Path | dict[str, Any] | ModelEdit,
    block: str,
    at: At,
    mode: str = "after",
    args: Args = (),
    n: int = 1,
    gate: bool | None = None,
) -> ModelEdit:
    """Put a block into a model, without losing its weights. Nothing is written before ``.apply()``.

    ``yolomix.graft("yolo11n.pt", "HaloAttention", at="p5", args=[2, 1]).apply()`` writes a checkpoint that any YOLO
    opens and whose outputs are those of yolo11n.

    >>> model = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    >>> graft(model, "HaloAttention", at="backbone", args=[2, 1]).graph.rows[1]
    [-1, 1, 'ZeroGate', ['HaloAttention', [2, 1]]]

    Args:
        base: what :func:`edit` takes.
        block: a registered block, ``yolomix blocks`` lists them; or ``"module.Class"``, whose module is imported. With
            ``mode="replace"`` also ``"C3k2(MLLABlock)"``: the block inside a CSP module, in place of its bottlenecks.
        at: insertion points: a layer index, ``"p5"``, ``"neck"``, ``"head-inputs"``, ``"backbone"``, a module type or a
            pattern of it, ``"*"``, or a list of these; see :func:`yolomix.surgery.insertion.resolve`.
        mode: ``"after"``, see :meth:`ModelEdit.insert`; ``"wrap"``, see :meth:`ModelEdit.wrap`; ``"replace"``, see
            :meth:`ModelEdit.replace`.
        args: the block's arguments after its channels (and repeats); the last may be a dictionary of those by name.
        n: repeats, before depth scaling, as in a model YAML.
        gate: multiply what the block changes by a gate that starts at zero, so that outputs are equal at the start;
            by default wherever the layer stays (``"after"``, ``"wrap"``). False starts the block as its paper does.

    Raises:
        ValueError: no such insertion point or mode, or the block cannot take the channels there.
        KeyError: no such block.
        ImportError: the module of a block is not there, or fails while it is imported.
        FileNotFoundError: no such base.
    """
    if mode not in grammar.MODES:
        raise ValueError(f"mode is one of {', '.join(grammar.MODES)}, got {mode!r}")
    change = edit(base)
    if mode == "after":
        return change.insert(block, at, args, n, gate)
    if mode == "wrap":
        return change.wrap(block, at, args, n, gate)
    if gate:
        raise ValueError(
            "mode='replace' leaves no way around the block for a gate; use mode='wrap' or 'after' to start equal, "
            "or gate=False"
        )
    return change.replace(block, at, args, n)


def _opened(name: str, model: dict[str, Any], file: Path | None = None, yaml: Path | None = None) -> ModelEdit:
    model = with_scale(model)
    return ModelEdit(Base(name, model, survey(model), file, yaml), Graph.of(model))
