"""The gates of grafts over a training: a line for every epoch, written beside ``results.csv``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from torch import nn

from yolomix import files
from yolomix.nn.gate import ZeroGate

FILE = "gates.jsonl"
DIGITS = 6  # of a gate, significant


class Gate(NamedTuple):
    """The gate of one graft at one time.

    Args:
        block: the block behind it, as a model YAML calls it.
        values: for every channel: 0 is shut, 1 is the block alone.
    """

    block: str
    values: tuple[float, ...]


Gates = dict[str, Gate]  # by module, as ``model.11``


def of(model: nn.Module) -> Gates:
    """The gates of a model as they are; none where it has no graft with one.

    >>> of(nn.Sequential(ZeroGate(4, "MLLABlock")))["0"]
    Gate(block='MLLABlock', values=(0.0, 0.0, 0.0, 0.0))
    """
    found = {}
    for name, module in model.named_modules():
        if isinstance(module, ZeroGate):
            values = (float(f"{value:.{DIGITS}g}") for value in module.gate.detach().float().cpu().tolist())
            found[name] = Gate(type(module.block).__name__, tuple(values))
    return found


def append(folder: str | Path, epoch: int, model: nn.Module) -> None:
    """Write the gates after an epoch, counted from 1; what an earlier try wrote of it and of later ones goes."""
    found = of(model)
    if not found:
        return
    file = Path(folder, FILE)
    kept = [line for line in _lines(file) if line[0] < epoch]
    lines = [json.dumps({"epoch": number, "gates": gates}) + "\n" for number, gates in (*kept, (epoch, found))]
    files.write_text(file, "".join(lines))


def read(folder: str | Path) -> dict[int, Gates]:
    """What a training wrote, by epoch; nothing where it wrote none."""
    found = dict[int, Gates]()
    for epoch, gates in _lines(Path(folder, FILE)):
        found[epoch] = {name: Gate(block, tuple(values)) for name, (block, values) in gates.items()}
    return found


def _lines(file: Path) -> list[tuple[int, Mapping[str, tuple[str, list[float]]]]]:
    if not file.exists():
        return []
    found = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
    return [(one["epoch"], one["gates"]) for one in found]
