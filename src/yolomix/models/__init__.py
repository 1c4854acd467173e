"""The model zoo: YAML files that Ultralytics reads. What a model name means says :func:`yolomix.host.names.resolve`."""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).parent


def names() -> list[str]:
    """The packaged models, without scale letters and suffix.

    >>> "yolo11-mlla" in names()
    True
    """
    return sorted(file.stem for file in FOLDER.glob("*.yaml"))
