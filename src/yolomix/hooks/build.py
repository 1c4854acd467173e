"""Rows of a model YAML -> modules, around ``ultralytics.nn.tasks.parse_model``.

Ultralytics does all the arithmetic of channels, width, depth and the save list. A row with one of our names is given to
it as a native stand-in of the same arithmetic; afterwards our block takes the stand-in's place:

===================  ========================  ====================================================================
rule of the block    stand-in row              what is read from it
===================  ========================  ====================================================================
keeps its channels   ``BlockSlot, [ch, f]``    c; Ultralytics resolves the two names to its own locals
takes a width        ``Conv, [c2, 1]``         c1, c2 after width scaling, and the repeats after depth scaling
reads several        ``CBFuse, [ch]``          the channels of all layers; its output has those of the last input
a head               its parent                everything that Ultralytics gives it, see ``yolomix.hooks.heads``
===================  ========================  ====================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

from torch import nn
from ultralytics.nn import tasks
from ultralytics.nn.modules import Conv

from yolomix.hooks import csp, heads, layer_table, rows
from yolomix.hooks.rows import Row
from yolomix.nn import common, registry

Layers = tuple[nn.Sequential, list[int]]


def parse_model(native: Callable[..., Layers], d: dict[str, Any], ch: int, verbose: bool = True) -> Layers:
    """The layers of the model dictionary ``d`` with our blocks in them, ``(layers, save)`` as the native function.

    Raises:
        RowError: a row cannot be built; the text names file, row, block, what it takes and what came.
    """
    d = deepcopy(d)
    ours = rows.read(d)
    parents = [row.block.parent for row in ours.values() if row.block.parent is not None]
    with (
        rows.located(d),
        layer_table.corrected(tasks.LOGGER) as lines,
        _default_activation(),
        heads.recorded(parents) as given,
    ):
        inside = csp.taken(d)
        for row in ours.values():
            row.raw[2:] = _stand_in(row)
        layers, save = native(d, ch=ch, verbose=verbose)
        if d.get("activation"):
            Conv.default_act = common.Conv.default_act = _activation(layers)
        for i, row in ours.items():
            slots = _slots(layers[i])
            layers[i] = _replacement(row, slots, layers[i], given)
            lines[i] = layer_table.line(layers[i], len(slots), row.args)
        for i, mix in inside.items():
            mix.put(layers[i])
            lines[i] = layer_table.line(layers[i], mix.n, mix.args)
    return layers, save


def fuse(native: Callable[..., nn.Module], model: nn.Module, *args: Any, **kwargs: Any) -> nn.Module:
    """``BaseModel.fuse``, which also fuses what our blocks, or modules inside them, can fuse themselves."""
    classes = tuple({block.cls for block in registry.BLOCKS.values()})
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


def _stand_in(row: Row) -> list[Any]:
    """Name and arguments of the native row with the same channel arithmetic."""
    rule = row.block.rule
    if row.block.parent is not None:
        args = row.raw[3]
        return [row.block.parent.__name__, args[:-1] if row.named else args]
    if rule.reads_several:
        return ["CBFuse", ["ch"]]
    if rule.takes_width:
        return ["Conv", [row.width, 1]]
    return ["BlockSlot", ["ch", "f"]]


def _slots(layer: nn.Module) -> list[nn.Module]:
    """The stand-ins of one row, as many as its repeats after depth scaling."""
    return list(layer) if type(layer) is nn.Sequential else [layer]


def _replacement(row: Row, slots: list[nn.Module], old: nn.Module, given: heads.Record) -> nn.Module:
    """Our module for a row, with the four attributes that Ultralytics keeps on every layer."""
    try:
        if row.block.parent is not None:
            args, named = given[old]
            made = [row.block.cls(*args, **named, **row.named)]
        else:
            made = _made(row, slots[0], len(slots))
    except rows.CONSTRUCTION as error:
        raise row.error(error) from error
    new: Any = made[0] if len(made) == 1 else nn.Sequential(*made)
    cls = row.block.cls
    new.i, new.f, new.type = old.i, old.f, f"{cls.__module__}.{cls.__qualname__}".removeprefix("__main__.")
    new.np = sum(p.numel() for p in new.parameters())
    return new


def _made(row: Row, slot: Any, n: int) -> list[nn.Module]:
    """The row's blocks, constructed by its channel rule; ``slot`` is the first stand-in of ``n``."""
    block, rule = row.block, row.block.rule
    if rule.reads_several:
        before = slot.idx[: max(row.i, 1)]
        return [block.make([before[f] for f in row.sources], args=row.options, named=row.named)]
    c1, c2 = slot.c if rule.keeps_channels else slot.conv.in_channels, None
    if rule.takes_width:
        c2 = slot.conv.out_channels
    if rule.takes_repeats:
        return [block.make(c1, c2, n, row.options, row.named)]
    blocks = [block.make(c1, c2, args=row.options, named=row.named)]
    for _ in range(n - 1):  # a repeated block reads the one before it
        blocks.append(block.make(c2 or c1, c2, args=row.options, named=row.named))
    return blocks


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
