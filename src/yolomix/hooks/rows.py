"""Reading the rows of a model YAML: which are ours, and what is wrong with one, in words that name it."""

from __future__ import annotations

import ast
import difflib
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ultralytics.nn import tasks

from yolomix.hooks.reserved import is_module_class
from yolomix.nn import registry
from yolomix.nn.registry import Block

LOGGER = logging.getLogger("yolomix")
WIDTH = 64  # a first argument this large looks like the channels that rows of Ultralytics begin with
CONSTRUCTION = (TypeError, ValueError, IndexError, KeyError, AttributeError, AssertionError, RuntimeError)


class RowError(ValueError):
    """A row of a model YAML that cannot be built."""


@dataclass(frozen=True)
class Row:
    """One of our rows.

    Attributes:
        i: its layer.
        f: the layer it reads, or several.
        block: its block.
        args: what follows the channels that Ultralytics works out; for ``c1 c2`` and ``c1 c2 n`` the first is c2.
        named: arguments by name.
        raw: the row in the model dictionary, ``[f, n, name, args]``.
        where: file, index and text of the row, for messages.
    """

    i: int
    f: int | list[int]
    block: Block
    args: list[Any]
    named: dict[str, Any]
    raw: list[Any]
    where: str

    @property
    def sources(self) -> list[int]:
        """The layers that it reads."""
        return self.f if isinstance(self.f, list) else [self.f]

    @property
    def width(self) -> int | None:
        """The channels of its output before width scaling, for a rule that takes them."""
        return self.args[0] if self.block.rule.takes_width else None

    @property
    def options(self) -> list[Any]:
        """The arguments after the channels."""
        return self.args[1:] if self.block.rule.takes_width else self.args

    def error(self, why: object) -> RowError:
        """What the block takes, what came, and why that is wrong."""
        got = [*self.args, self.named] if self.named else self.args
        return RowError(f"{self.where}: {self.block.name} takes {self.block.signature}, got {got}: {why}")


def read(d: dict[str, Any]) -> dict[int, Row]:
    """Our rows by layer index, after a check of all rows of the model dictionary.

    >>> rows = read({"backbone": [[-1, 1, "MLLABlock", [{"num_heads": 2}]]], "head": []})
    >>> rows[0].block.name, rows[0].named
    ('MLLABlock', {'num_heads': 2})

    Raises:
        RowError: the model lacks a part, or a row is malformed, names no block or gives it what it does not take.
    """
    file = d.get("yaml_file", "model YAML")
    if not isinstance(d.get("backbone"), list) or not isinstance(d.get("head"), list):
        raise RowError(f"{file} is no model: it needs 'backbone' and 'head', each a list of rows, and has {[*d]}")
    scales, scale = d.get("scales"), d.get("scale")
    if scales and scale and scale not in scales:
        raise RowError(f"{file}: no scale {scale!r}; its scales are {', '.join(map(str, scales))}")
    ours = {}
    for i, raw in enumerate(d["backbone"] + d["head"]):
        row = _row(i, raw, d, f"{file}, row {i} {_shown(raw)}")
        if row is not None:
            ours[i] = row
    return ours


@contextmanager
def located(d: dict[str, Any]) -> Iterator[None]:
    """Errors that Ultralytics raises while it builds ``d`` name the file and the row."""
    file = d.get("yaml_file", "model YAML")
    texts = [_shown(raw) for raw in d["backbone"] + d["head"]]
    try:
        yield
    except CONSTRUCTION as error:
        at = _row_of(error.__traceback__)
        if at is None or isinstance(error, RowError):
            raise
        i, m = at
        takes = f": {m.__name__}{inspect.signature(m)}" if isinstance(m, type) else ""
        raise RowError(f"{file}, row {i} {texts[i]}{takes}: {type(error).__name__}: {error}") from error


def _row(i: int, raw: Any, d: dict[str, Any], where: str) -> Row | None:
    """The checked row if it is one of ours, None if it is Ultralytics'."""
    if not (isinstance(raw, list) and len(raw) == 4 and isinstance(raw[2], str) and isinstance(raw[3], list)):
        raise RowError(f"{where}: a row is [from, repeats, name, [arguments]]")
    f, n, name, args = raw
    if name not in registry.BLOCKS:
        _check_name(name, where)
        return None
    args = [d.get("nc") if a == "nc" else _literal(a) for a in args]
    named = args.pop() if args and isinstance(args[-1], dict) else {}
    row = Row(i, f, registry.BLOCKS[name], args, named, raw, where)
    if row.block.parent is not None:  # Ultralytics checks the row as one of the parent
        return row
    _check_from(row, n)
    _normalise(row)
    return row


def _check_name(name: str, where: str) -> None:
    if "." in name or name in vars(tasks):
        return
    theirs = [name for name, value in vars(tasks).items() if is_module_class(value)]
    known = [*registry.BLOCKS, *theirs]
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.5)
    hint = f"; did you mean {', '.join(near)}?" if near else ""
    raise RowError(
        f"{where}: no block {name!r} in yolomix or Ultralytics{hint or '.'} "
        "A block of your own needs yolomix.register(YourBlock) before the model is built"
    )


def _check_from(row: Row, n: int) -> None:
    """Raise unless the row reads layers before it, as many as its rule says."""
    several = row.block.rule.reads_several
    if several != isinstance(row.f, list) or not row.sources:
        raise row.error(f"it reads {'a list of layers' if several else 'one layer'}, from is {row.f}")
    if several and n != 1:
        raise row.error(f"a block with several inputs cannot be repeated, repeats is {n}")
    before = range(-max(row.i, 1), row.i)  # the first row reads the image, -1
    if wrong := [f for f in row.sources if not isinstance(f, int) or f not in before]:
        raise row.error(f"from {wrong} is no layer before layer {row.i}")


def _normalise(row: Row) -> None:
    """Let the block turn older spellings into its own, then check the arguments against its constructor."""
    rule = row.block.rule
    if rule.takes_width and not (row.args and isinstance(row.args[0], int)):
        raise row.error("the first argument is c2, an integer: the channels that come out, before width scaling")
    translate = getattr(row.block.cls, "row_arguments", list)
    try:
        row.args[:] = translate(row.args)
        inspect.signature(row.block.cls).bind(*rule.leading(0, row.width), *row.options, **row.named)
    except (TypeError, ValueError) as error:
        raise row.error(error) from error
    if rule.keeps_channels and row.args and isinstance(row.args[0], int) and row.args[0] >= WIDTH:
        LOGGER.warning(
            "%s: %s has as many channels as the layer before it and takes no width; %d is its %s",
            row.where,
            row.block.name,
            row.args[0],
            row.block.options[0].name,
        )


def _literal(a: Any) -> Any:
    try:
        return ast.literal_eval(a) if isinstance(a, str) else a
    except (ValueError, SyntaxError):
        return a


def _shown(raw: Any) -> str:
    """A row as its YAML has it: names without quotes."""
    return f"[{', '.join(map(str, raw))}]" if isinstance(raw, list) else repr(raw)


def _row_of(traceback: TracebackType | None) -> tuple[int, Any] | None:
    """Index and module of the row that the native parser was at, from its frame."""
    while traceback is not None:
        local = traceback.tb_frame.f_locals
        if traceback.tb_frame.f_code.co_name == "parse_model" and {"i", "m", "args", "c2"} <= set(local):
            return local["i"], local["m"]
        traceback = traceback.tb_next
    return None
