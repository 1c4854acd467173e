"""The page about the last full run."""

from __future__ import annotations

from pathlib import Path

from tests.faults.campaign import Count


def write(file: Path, counts: list[Count], seconds: float) -> None:
    raise NotImplementedError
