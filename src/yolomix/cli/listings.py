"""The verbs that list what there is: models, blocks, version."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

from yolomix.cli.answer import Answer, Table


def models() -> Answer:
    """The model zoo: name, parameters of each scale, what it is.

    >>> models().data[0]["scales"]["t"]
    6131704
    """
    from yolomix import models as zoo

    rows = []
    shown = []
    for name in zoo.names():
        row = described(name, (zoo.FOLDER / f"{name}.yaml").read_text("utf-8"))
        rows.append(row)
        shown.append((row["model"], _parameters(row["scales"]), row["about"]))
    return Answer(rows, [Table(("model", "parameters of its scales (80 classes)", "what it is"), shown)])


def described(name: str, text: str) -> dict[str, Any]:
    r"""What the file of a model says about it: in its header, and in the comments of its ``scales:``.

    >>> described("tiny", "# A small model\nscales:\n  n: [1] # 1,234 parameters")["scales"]
    {'n': 1234}

    Args:
        name: of the file, without suffix.
        text: what is in it.
    """
    scales: dict[str, int] = {}
    for letter, count in re.findall(r"^\s+(\w+):\s*\[.*#\s*([\d,]+) parameters", text, re.MULTILINE):
        scales[letter] = int(count.replace(",", ""))
    about = re.search(r"^#[# ]*(.*)", text, re.MULTILINE)
    source = re.search(r"Source: (.*)", text)
    return {
        "model": f"{name}.yaml",
        "scales": scales,
        "about": about[1] if about else "",
        "source": source[1].rstrip(".;") if source else "",
    }


def _parameters(scales: dict[str, int]) -> str:
    return "  ".join(f"{letter} {count / 1e6:.2f} M" for letter, count in scales.items())


def blocks() -> Answer:
    """The blocks: name, arguments of a YAML row, channel rule, source.

    >>> next(row["channels"] for row in blocks().data if row["block"] == "C2PSAMLLA")
    '(c1, c2, n, ...)'
    """
    from yolomix.nn import origins  # this enters the blocks
    from yolomix.nn.registry import BLOCKS

    origins.enter_installed()
    rows = []
    for name, block in sorted(BLOCKS.items()):
        channels, home = str(block.rule), f"{block.cls.__module__}.{block.cls.__qualname__}"
        row = {"block": name, "arguments": block.signature, "channels": channels, "source": block.source}
        rows.append(row | {"class": home})
    shown = [(row["block"], row["arguments"], row["channels"], row["source"]) for row in rows]
    return Answer(rows, [Table(("block", "arguments in a row", "constructor", "source"), shown)])


def version() -> Answer:
    """The version of yolomix.

    >>> version().data
    {'yolomix': '0.1.0'}
    """
    installed = metadata.version("yolomix")
    return Answer({"yolomix": installed}, [installed])
