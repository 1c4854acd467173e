"""What Ultralytics' files say about its command line, read as text: importing Ultralytics takes seconds."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import NamedTuple


class Declared(NamedTuple):
    """One argument, as Ultralytics' default.yaml declares it.

    Attributes:
        default: its default value as the file has it, in YAML.
        meaning: type and meaning, in Ultralytics' words; empty where it says none.
    """

    default: str
    meaning: str


def arguments() -> dict[str, Declared]:
    """Every argument of Ultralytics by name, in Ultralytics' order.

    >>> arguments()["epochs"].default
    '100'

    Raises:
        FileNotFoundError: Ultralytics is not installed.
    """
    found = re.findall(r"^(\w+): *([^#\n]*?) *(?:# *(.*))?$", _text("cfg/default.yaml"), re.MULTILINE)
    return {name: Declared(default, meaning) for name, default, meaning in found}


def export_formats() -> list[str]:
    """What ``format=`` of an export can be, from the table at the head of Ultralytics' exporter.

    >>> "onnx" in export_formats()
    True

    Raises:
        FileNotFoundError: Ultralytics is not installed.
    """
    return re.findall(r"^[^|\n]+\| `(\w+)` +\|", _text("engine/exporter.py"), re.MULTILINE)


def _text(name: str) -> str:
    spec = importlib.util.find_spec("ultralytics")  # of a package without a dot, nothing is imported for it
    if spec is None or not spec.submodule_search_locations:
        raise FileNotFoundError("Ultralytics is not installed: pip install ultralytics")
    return Path(spec.submodule_search_locations[0], name).read_text("utf-8")
