"""What is said of a block: a line in the listing, or a page with its arguments, a row and a graft."""

from __future__ import annotations

import inspect
import logging
import shlex
from typing import Any, NamedTuple

import yaml

from yolomix.cli.answer import Answer, Listing, Table, paragraph
from yolomix.cli.docstrings import Told, told
from yolomix.nn import origins
from yolomix.nn.registry import BLOCKS, Block
from yolomix.nn.rules import KINDS
from yolomix.surgery import insertion, writing
from yolomix.surgery.graph import Layer

WIDTH = 256  # channels in an example, before width scaling
BEFORE = Layer(0, (-1,), 1, "Conv", channels=64, stride=8, parameters=0, tensors=0, backbone=True)  # of a trial graft
NO_GRAFT = "No graft: that takes a block which keeps channels and size and is not the identity at init."


def listing() -> Answer:
    """All blocks: name, what each is; for programs also arguments, channel rule, source.

    >>> listing().data[0]["block"]
    'ASSG'
    """
    rows = [_facts(block, told(block.cls)) for _, block in sorted(BLOCKS.items())]
    shown = [(row["block"], row["about"].rstrip(".")) for row in rows]
    records = [[row[key] for key in ("block", "arguments", "channels", "source", "about")] for row in rows]
    hint = "`yolomix blocks NAME` explains one: its arguments, a row of a model YAML, a graft, its source."
    return Answer(rows, [Listing(Table(("block", "what it is"), shown), hint, records)])


def page(block: Block) -> Answer:
    """One block.

    >>> from yolomix.nn.registry import find
    >>> page(find("HaloAttention")).data["graft"]
    'yolomix graft model=yolo11n.pt block=HaloAttention args=2,1 at=p5'
    """
    said = told(block.cls)
    arguments = [_argument(parameter, said) for parameter in _parameters(block)]
    if block.rule.takes_width:
        meaning = f"{said.meanings.get('c2', 'output channels.')} In a row: before width scaling."
        arguments.insert(0, {"name": "c2", "default": None, "meaning": meaning})
    data = {
        **_facts(block, said),
        "details": " ".join(said.details),
        "parameters": arguments,
        "row": _row(block, said),
        "graft": _graft(block, said),
    }
    return Answer(data, _shown(block, data, said))


def _facts(block: Block, said: Told) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "block": block.name,
        "about": said.about,
        "arguments": block.signature,
        "channels": str(block.rule),
        "source": block.source,
        "class": f"{block.cls.__module__}.{block.cls.__qualname__}",
    }


def _shown(block: Block, data: dict[str, Any], said: Told) -> list[str | Table]:
    lines: list[str | Table] = [paragraph(said.about or f"{data['class']} has no docstring.")]
    lines += [paragraph(text) for text in said.details]
    rows = []
    for argument in data["parameters"]:
        default = "needed" if argument["default"] is None else argument["default"]
        rows.append((argument["name"], default, argument["meaning"]))
    if rows:
        lines += ["", Table(("argument", "default", "meaning"), rows)]
    meaning = KINDS.get(" ".join(block.rule.words))
    channels = f"{block.rule} {meaning}" if meaning and block.parent is None else ""
    facts = [("channels", channels), ("source", block.source), ("class", data["class"])]
    lines += ["", Table((), [fact for fact in facts if fact[1]]), ""]
    if block.parent is not None:
        return [*lines, paragraph(f"A head: its row is that of {block.parent.__name__}, with its own name.")]
    lines.append(f"  - {data['row']}")
    return [*lines, f"  {data['graft']}"] if data["graft"] else [*lines, "", paragraph(NO_GRAFT)]


def _parameters(block: Block) -> list[inspect.Parameter]:
    """What a row can give beside a width: of a head what its parent does not have, since that is its parent's row."""
    found = block.options
    if block.parent is not None:
        parents = inspect.signature(block.parent).parameters
        found = [p for p in inspect.signature(block.cls).parameters.values() if p.name not in parents]
    return [p for p in found if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]


def _argument(parameter: inspect.Parameter, said: Told) -> dict[str, Any]:
    default = None if parameter.default is parameter.empty else repr(parameter.default)
    return {"name": parameter.name, "default": default, "meaning": said.meanings.get(parameter.name, "")}


class Needed(NamedTuple):
    """The arguments without a default.

    Attributes:
        args: what follows the channels in a row: values of the example in the docstring, else names in capitals.
        open: those names.
    """

    args: list[Any]
    open: list[str]


def _needed(block: Block, said: Told) -> Needed:
    parameters = [p for p in _parameters(block) if p.default is p.empty]
    values = {p.name: said.example.get(p.name, p.name.upper()) for p in parameters}
    args = [values[p.name] for p in parameters if p.kind is not p.KEYWORD_ONLY]
    if named := {p.name: values[p.name] for p in parameters if p.kind is p.KEYWORD_ONLY}:
        args.append(named)
    return Needed(args, [values[p.name] for p in parameters if p.name not in said.example])


def _row(block: Block, said: Told) -> str | None:
    """A row of a model YAML; None of a head, whose row is its parent's."""
    if block.parent is not None:
        return None
    source = [-1, 6] if block.rule.reads_several else -1
    width = [WIDTH] if block.rule.takes_width else []
    row = [source, 1, block.name, [*width, *_needed(block, said).args]]
    return yaml.safe_dump(row, default_flow_style=True, width=10**6).strip()


def _graft(block: Block, said: Told) -> str | None:
    """A command that grafts the block; None where it cannot be grafted."""
    needed = _needed(block, said)
    if block.parent is not None or block.rule.reads_several or not (needed.open or _goes_behind(block, needed.args)):
        return None
    args = writing.arguments(needed.args)
    for name in needed.open:
        args = args.replace(repr(name), name)
    words = [f"block={block.name}", *([f"args={args}"] if args else []), "at=p5"]
    if not (block.is_ours or origins.is_dotted(block.name)):
        words.insert(0, f"import={block.home}")
    return shlex.join(["yolomix", "graft", "model=yolo11n.pt", *words])


def _goes_behind(block: Block, args: list[Any]) -> bool:
    """Whether a trial of the block behind a layer goes well."""
    logging.disable()  # what computes the trial is of no interest
    try:
        insertion.row_behind(block, [BEFORE], args, n=1, gate=True)
    except Exception:  # noqa: BLE001, anybody's block
        return False
    finally:
        logging.disable(logging.NOTSET)
    return True
