"""The model zoo: YAML files that Ultralytics reads, and where to find them."""

from __future__ import annotations

import re
from pathlib import Path

FOLDER = Path(__file__).parent
_AFTER_DIGITS = re.compile(r"(yolo(?:e-)?v?\d+)[nslmx]")
_AT_THE_END = re.compile(r"(\D+)-([a-z])")


def names() -> list[str]:
    """The packaged models, without scale letters and suffix: ``yolo11-mlla``."""
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))


def find(name: str) -> Path | None:
    """The packaged file for a bare name with or without its scale letter (``yolo11n-mlla.yaml``), or None."""
    if not name.endswith((".yaml", ".yml")) or Path(name).name != name:
        return None
    stem = Path(name).stem
    candidates = (FOLDER / f"{s}.yaml" for s in (stem, without_scale(stem)))
    return next((file for file in candidates if file.is_file()), None)


def without_scale(stem: str) -> str:
    """``yolo11n-mlla`` -> ``yolo11-mlla``, ``mamba-yolo-t`` -> ``mamba-yolo``.

    The letter stands where Ultralytics looks for it, after ``yolo<digits>``, and at the end of a name without digits.
    """
    if end := _AT_THE_END.fullmatch(stem):
        return end[1]
    return _AFTER_DIGITS.sub(r"\1", stem, count=1)


def scale_at_the_end(stem: str) -> str:
    """The ``t`` of ``mamba-yolo-t``, which Ultralytics does not find; empty where the name has none there."""
    end = _AT_THE_END.fullmatch(stem)
    return end[2] if end else ""
