"""Reading the rows of a model YAML: which are ours, and what is wrong with one, in words that name it."""

from __future__ import annotations

import ast
import difflib
import importlib
import inspect
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

from ultralytics.nn import tasks

from yolomix.hooks import top
from yolomix.hooks.reserved import is_module_class
from yolomix.nn import origins, registry
from yolomix.nn.registry import Block
from yolomix.surgery import csp

LOGGER = logging.getLogger("yolomix")
SAID = "said"  # the key under which `chain` gives the texts of the rows, of which it makes others
REPEATS = 200  # of a row; no YAML that Ultralytics 8.4.190 ships has more than 18
WIDTH = 64  # a first argument this large looks like the channels that rows of Ultralytics begin with
# OverflowError and ZeroDivisionError are ArithmeticErrors: a scale of infinity, groups of 0.
CONSTRUCTION = (
    *(TypeError, ValueError, LookupError, ArithmeticError, AttributeError, AssertionError, RuntimeError),
    SyntaxError,  # of a text among the arguments
)


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

    >>> rows = read({"backbone": [[-1, 1, "MLLABlock", [{"num_heads": 2}]]], "head": [[-1, 1, "Detect", ["nc"]]]})
    >>> rows[0].block.name, rows[0].named
    ('MLLABlock', {'num_heads': 2})

    Raises:
        RowError: the model lacks a part, or a row is malformed, names no block or gives it what it does not take.
    """
    top.check(d, RowError)
    ours = {}
    for i, (raw, text) in enumerate(zip(d["backbone"] + d["head"], texts(d), strict=True)):
        row = _row(i, raw, d, text)
        if row is not None:
            ours[i] = row
    return ours


def texts(d: dict[str, Any]) -> list[str]:
    """File, index and text of every row, for messages; of the rows inside a chain those of the chain."""
    said = d.get(SAID)
    if said is not None:
        return said
    file = d.get("yaml_file", "model YAML")
    return [f"{file}, row {i} {_shown(raw)}" for i, raw in enumerate(d["backbone"] + d["head"])]


@contextmanager
def located(d: dict[str, Any]) -> Iterator[None]:
    """Errors that Ultralytics raises while it builds ``d`` name the file and the row."""
    said = texts(d)
    try:
        yield
    except CONSTRUCTION as error:
        if isinstance(error, RowError):
            raise
        at = _row_of(error.__traceback__)
        if at is None:
            file = d.get("yaml_file", "model YAML")
            raise RowError(f"{file} cannot be built: {type(error).__name__}: {error}") from error
        i, m = at
        takes = f": {m.__name__}{inspect.signature(m)}" if isinstance(m, type) else ""
        raise RowError(f"{said[i]}{takes}: {type(error).__name__}: {error}") from error


def _row(i: int, raw: Any, d: dict[str, Any], where: str) -> Row | None:
    """The checked row if it is one of ours, None if it is Ultralytics'."""
    if not (isinstance(raw, list) and len(raw) == 4 and isinstance(raw[2], str) and isinstance(raw[3], list)):
        raise RowError(f"{where}: a row is [from, repeats, name, [arguments]]")
    f, n, name, args = raw
    if isinstance(n, int) and n > REPEATS:
        raise RowError(f"{where}: it repeats its layer {n} times, and {REPEATS} is the most")
    if name not in registry.BLOCKS and (is_native(name) or known(name, where) is None):
        return None
    args = [d.get("nc") if a == "nc" else _literal(a) for a in args]
    named = args.pop() if args and isinstance(args[-1], dict) else {}
    row = Row(i, f, registry.find(name), args, named, raw, where)
    if row.block.parent is not None:  # Ultralytics checks the row as one of the parent
        return row
    _check_from(row, n)
    _normalise(row)
    return row


def is_native(name: str) -> bool:
    """Whether a row of that name is Ultralytics' to build.

    >>> is_native("Conv"), is_native("nn.Upsample"), is_native("C2f(MLLABlock)"), is_native("MLLABlock")
    (True, True, True, False)
    >>> is_native("attempt_load_weights"), is_native("nn.init")  # which a row would call
    (False, False)
    """
    if name.startswith(origins.NATIVE):
        package, attribute = _package(name)
        return is_module_class(getattr(package, attribute, None))
    return is_module_class(vars(tasks).get(name)) or csp.split(name) is not None


def _package(name: str) -> tuple[ModuleType, str]:
    """The package of a name with a dot that Ultralytics takes, and what is looked for in it."""
    prefix = next(prefix for prefix in origins.NATIVE if name.startswith(prefix))
    return importlib.import_module({"nn.": "torch.nn"}.get(prefix, prefix[:-1])), name.removeprefix(prefix)


def known(name: str, where: str) -> Block:
    """The block of that name.

    Raises:
        RowError: nobody has it; the text has the near names, and what to do about a block of the user's own.
    """
    try:
        block = registry.known(name)
    except (TypeError, ValueError) as error:
        raise RowError(f"{where}: {error}") from error
    if block is not None:
        return block
    if name.startswith(origins.NATIVE):
        package, attribute = _package(name)
        near = difflib.get_close_matches(attribute, dir(package), n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ""
        raise RowError(f"{where}: {name} is no layer{hint}")
    if origins.is_dotted(name):
        module = name.rpartition(".")[0]
        raise RowError(
            f"{where}: {name} is not known, and a model dictionary that no file says imports nothing by itself. Import "
            f"it first: import {module}, or import={module} on the command line"
        )
    theirs = [name for name, value in vars(tasks).items() if is_module_class(value)]
    near = difflib.get_close_matches(name, [*registry.BLOCKS, *theirs], n=5)
    hint = f"; did you mean {', '.join(near)}?" if near else "."
    raise RowError(
        f"{where}: no block {name!r} in yolomix or Ultralytics{hint} A block of your own is said with its module, "
        f"myblocks.{name}, or its module is imported before: yolomix.register({name}) in it, and import=myblocks on "
        "the command line"
    )


def _check_from(row: Row, n: int) -> None:
    """Raise unless the row reads layers before it, as many as its rule says."""
    rule, is_list = row.block.rule, isinstance(row.f, list)
    if not row.sources or (is_list != rule.reads_several and not rule.reads_any):
        raise row.error(f"it reads {'a list of layers' if rule.reads_several else 'one layer'}, from is {row.f}")
    if is_list and n != 1 and not rule.takes_repeats:
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
        read: Any = [0] * len(row.sources) if isinstance(row.f, list) else 0
        inspect.signature(row.block.cls).bind(*rule.leading(read, row.width), *row.options, **row.named)
    except IndexError as error:
        raise row.error(f"its rule {rule} needs more layers than the {len(row.sources)} that it reads") from error
    except (TypeError, ValueError) as error:
        raise row.error(error) from error
    if rule.keeps_channels and row.options and isinstance(row.options[0], int) and row.options[0] >= WIDTH:
        taken = [*row.block.options, None][0]
        LOGGER.warning(
            "%s: %s has as many channels as the layer before it and takes no width; %d is its %s",
            row.where,
            row.block.name,
            row.options[0],
            "first argument" if taken is None else taken.name,
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
