"""The model zoo: YAML files that Ultralytics reads, and where to find them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

FOLDER = Path(__file__).parent


class Packaged(NamedTuple):
    """A packaged file and the scale that a name asked for, "" for none."""

    file: Path
    scale: str


def names() -> list[str]:
    """The packaged models, without scale letters and suffix: ``yolo11-mlla``."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find(name: str) -> Packaged | None:
    """What a bare name means: ``yolo11n-mlla.yaml`` is ``yolo11-mlla.yaml`` at scale n; None if it is not packaged."""
    if not name.endswith((".yaml", ".yml")) or Path(name).name != name:
        return None
    readings = (Packaged(FOLDER / f"{stem}.yaml", scale) for stem, scale in readings_of(Path(name).stem.lower()))
    return next((found for found in readings if found.file.is_file()), None)


def readings_of(stem: str) -> Iterator[tuple[str, str]]:
    """The name without its scale letter, and the letter, in every way that it can be read.

    The letter stands after the digits of a version (``yolo11n-mlla``) or alone (``mamba-yolo-t``).
    """
    yield stem, ""
    if match := re.fullmatch(r"(yolo(?:e-)?v?\d+)([a-z])(-.*)?", stem):
        yield match[1] + (match[3] or ""), match[2]
    parts = stem.split("-")
    for k, part in enumerate(parts):
        if len(part) == 1:
            yield "-".join(parts[:k] + parts[k + 1 :]), part
