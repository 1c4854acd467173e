"""Rows of a model YAML -> modules, around ``ultralytics.nn.tasks.parse_model``.

Ultralytics does all the arithmetic of channels, width, depth and the save list. A row with one of our names is given to
it as a native stand-in of the same arithmetic; afterwards our block takes the stand-in's place. The channels of all
layers are noted on the way, see ``yolomix.hooks.channels``.

=====================  =============================  ==================================================================
rule of the block      stand-in row                   what Ultralytics makes of it
=====================  =============================  ==================================================================
keeps its channels     ``nn.Identity, []``            as many channels as the layer that is read
gives a width          ``Conv, [c2, 1]``              c2 after width scaling
anything else          ``ResNetLayer, [1, c, 1, 1]``  c, which was measured when the row's turn came
a head                 its parent                     all that it gives to a head, see ``yolomix.hooks.heads``
somebody's C3k2        ``C3k2, [c2, c3k]``            c2 and n; c3k by the scale; the head of YOLO11
=====================  =============================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import C3k2, Conv

from yolomix.hooks import csp, first_pass, heads, layer_table, rows
from yolomix.hooks.channels import Channels, Noted, Sources
from yolomix.hooks.layer_table import Line, Place
from yolomix.hooks.rows import Row
from yolomix.nn import common, registry

Layers = tuple[nn.Sequential, list[int]]


def parse_model(
    native: Callable[..., Layers], d: dict[str, Any], ch: int, verbose: bool = True, places: Sequence[Place] = ()
) -> Layers:
    """The layers of the model dictionary ``d`` with our blocks in them, ``(layers, save)`` as the native function.

    Args:
        native: the function of Ultralytics.
        d: the model dictionary.
        ch: channels of the image.
        verbose: whether to log the table of layers.
        places: of every row, where the model YAML has another index and from for it.

    Raises:
        RowError: a row cannot be built; the text names file, row, block, what it takes and what came.
    """
    d = _copied(d)
    ours = rows.read(d)
    said = [(row[0], text) for row, text in zip(d["backbone"] + d["head"], rows.texts(d), strict=True)]
    channels = Channels(ch)
    parents: list[type[nn.Module]] = [C3k2, *(row.block.parent for row in ours.values() if row.block.parent)]
    with (
        rows.located(d),
        layer_table.corrected(tasks.LOGGER, places) as lines,
        _default_activation(),
        heads.recorded(parents) as given,
    ):
        inside = csp.taken(d)
        for row in ours.values():
            row.raw[:] = _stand_in(row, channels)
        last = d["head"][-1]
        if not isinstance(last[3], Noted):
            last[3] = Noted(last[3], channels.note)
        layers, save = native(d, ch=ch, verbose=verbose)
        if channels.fault is not None:
            raise channels.fault
        if d.get("activation"):
            Conv.default_act = common.Conv.default_act = _activation(layers)
        for i, row in ours.items():
            slots = _slots(layers[i])
            layers[i], args = _replacement(row, slots, channels, given)
            lines[i] = partial(Line.of, module=layers[i], args=args)
        for i, mix in inside.items():
            mix.put(layers[i])
            lines[i] = partial(mix.line, layer=layers[i])
    first_pass.watch(layers, said, ours, channels)
    return layers, save


def fuse(native: Callable[..., nn.Module], model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """``BaseModel.fuse``, which also fuses what our blocks, or modules inside them, can fuse themselves."""
    classes = tuple({block.cls for block in registry.BLOCKS.values() if isinstance(block.cls, type)})
    inside: dict[nn.Module, None] = {}  # in order, and a module inside two blocks once
    for block in model.modules():
        if isinstance(block, classes):
            inside.update(dict.fromkeys(block.modules()))
    for module in inside:
        # What Ultralytics fuses by its own way would be fused twice, also where a user's class derives from it.
        own = getattr(type(module), "fuse", None)
        if own is not None and not own.__module__.startswith("ultralytics."):
            own(module)
    return native(model, *args, **kwargs)


def _copied(value: Any) -> Any:
    """A copy in which every list is one of its own, also where the model YAML repeats a row by an alias."""
    if isinstance(value, dict):
        return {key: _copied(item) for key, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list) else value


def _stand_in(row: Row, channels: Channels) -> list[Any]:
    """The native row with the same channel arithmetic."""
    f, n, _, args = row.raw
    rule = row.block.rule
    if row.block.parent is not None:
        return [f, n, row.block.parent.__name__, args[:-1] if row.named else args]
    if row.block.is_c3k2:
        return [f, n, "C3k2", [row.width, *(row.options[:1] or [False])]]
    if rule.keeps_channels:
        return [f, n, "nn.Identity", []]
    if rule.gives_width:
        return [Sources(f) if isinstance(f, list) else f, n, "Conv", [row.width, 1]]
    if row.i == 0:  # a backbone may give several maps, which Ultralytics knows of CBLinear
        measured = channels.measure(row, [channels.image])
        if isinstance(measured, list):
            return [f, n, "CBLinear", [measured]]
        return [f, n, "ResNetLayer", [1, measured, 1, True]]
    return [f, n, "ResNetLayer", Noted([], lambda ch: [1, channels.measure(row, ch), 1, True])]


def _slots(layer: nn.Module) -> list[nn.Module]:
    """The stand-ins of one row, as many as its repeats after depth scaling."""
    return list(layer) if type(layer) is nn.Sequential else [layer]


def _replacement(
    row: Row, slots: list[nn.Module], channels: Channels, given: heads.Record
) -> tuple[nn.Module, list[Any]]:
    """Our module for a row, with the four attributes that Ultralytics keeps on every layer, and its arguments."""
    cls = row.block.cls
    try:
        args, named = _arguments(row, slots, channels, given)
        made = [cls(*args, **named)]
        if row.block.parent is None and not row.block.rule.takes_repeats:
            c2 = channels.given(row.i)
            for _ in slots[1:]:  # a repeated block reads the one before it
                made.append(row.block.make(c2, c2, args=row.options, named=row.named))
    except rows.CONSTRUCTION as error:
        raise row.error(error) from error
    new: Any = made[0] if len(made) == 1 else nn.Sequential(*made)
    new.i, new.f, new.type = row.i, row.f, f"{cls.__module__}.{cls.__qualname__}".removeprefix("__main__.")
    new.np = sum(p.numel() for p in new.parameters())
    return new, [*args, named] if named else args


def _arguments(
    row: Row, slots: list[nn.Module], channels: Channels, given: heads.Record
) -> tuple[list[Any], dict[str, Any]]:
    """What the row's block is constructed with, the first of them if it is repeated."""
    block, rule = row.block, row.block.rule
    if block.parent is not None:
        if hasattr(block.parent, "legacy"):  # which form of the head the rows mean: said to the class
            block.cls.legacy = block.parent.legacy  # type: ignore[attr-defined]
        args, named = given[slots[0]]
        return [*args], dict(**named, **row.named)
    if block.is_c3k2:
        return [*given[slots[0]][0][:4], *row.options[1:]], row.named
    leading = rule.leading(channels.read(row), channels.given(row.i), len(slots))
    return [*leading, *row.options], row.named


def _activation(layers: nn.Sequential) -> Any:
    """The activation that native convolutions took, which is the one of the model YAML."""
    for module in layers.modules():
        if type(module) is Conv and not isinstance(module.act, nn.Identity):
            return module.act
    return Conv.default_act


@contextmanager
def _default_activation() -> Iterator[None]:
    """Restore the defaults afterwards; older versions of Ultralytics leave the YAML's to every later model."""
    before: Any = Conv.default_act, common.Conv.default_act
    try:
        yield
    finally:
        Conv.default_act, common.Conv.default_act = before
