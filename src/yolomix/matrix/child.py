"""The process of a cell: writes a file in its format and precision, verifies it, and leaves what it found.

It is started with one line of JSON on stdin: the cell, the dataset, modules to import, and a folder, in which it works
and leaves ``found.json`` after the export and again after verifying. It ends with whoever started it.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

from yolomix import files, processes

FOUND = "found.json"
LENGTH = 300  # characters of a reason
UNRUN = {} if sys.platform == "darwin" else {"coreml": "runs on macOS alone"}
Row = dict[str, str]


def main() -> int:
    """Do what stdin says."""
    request = json.loads(sys.stdin.readline())
    processes.watch()
    from yolomix.host import offline

    offline.prepare()
    from yolomix.nn import origins

    for module in request["imports"]:
        origins.bring(module)
    folder, data = Path(request["folder"]), request["data"]
    model = within(request["model"], folder)
    data = str(Path(data).resolve()) if data and Path(data).exists() else data
    os.chdir(folder)
    fill(model, request["format"], request["bits"], request["imgsz"], data)
    return 0


def within(name: str, folder: Path) -> str:
    """The name by which a process that works in a folder opens a model, and writes no file beside the model itself."""
    from yolomix.host import names

    found = names.resolve(name)
    if found.file is None or found.kind is names.Kind.PACKAGED:
        return name
    if found.kind is names.Kind.CHECKPOINT:  # beside which Ultralytics writes its files
        shutil.copy(found.file, folder / found.file.name)
        return name.replace(found.base, found.file.name, 1)
    return name.replace(found.base, str(Path(found.base).absolute()), 1)


def fill(name: str, form: str, bits: int, size: int, data: str | None) -> None:
    """Export and verify in the working folder.

    Args:
        name: of the model.
        form: what ``format=`` says.
        bits: 32, 16 or 8.
        size: side of the images in pixels.
        data: a dataset YAML: calibrates INT8, and of a model with weights the mAP is compared on it; or None.
    """
    from yolomix.host import precisions, tools
    from yolomix.host.exported import megabytes
    from yolomix.verifying.verifying import verify

    # What a package declares is not what it does, so it is tried: the row says with which versions.
    tools.another_pytorch = tools.another_version = lambda requirement: None
    model, has_weights = opened(name)
    row: Row = {"converts": "False"}
    given: dict[str, Any] = {"format": form, "imgsz": size, "device": "cpu", **precisions.arguments(bits)}
    if data is not None and bits == 8:
        given["data"] = data
    started = _cpu_seconds()
    try:
        written = Path(model.export(**given, verify=False))
    except Exception as error:  # noqa: BLE001, a converter raises whatever it likes
        _leave(row | {"reason": _short(f"{type(error).__name__}: {error}")})
        return
    exported = _cpu_seconds()
    row |= {"converts": "True", "mb": f"{megabytes(written):.1f}", "export_cpu_s": f"{exported - started:.0f}"}
    _leave(row | {"reason": UNRUN.get(form, "")})
    if form in UNRUN:
        return
    found = verify(model, written, data=data if has_weights else None)
    _leave(row | verified(found) | {"verify_cpu_s": f"{_cpu_seconds() - exported:.0f}"})


def verified(found: Any) -> Row:
    """The columns of a ``Verification``."""
    why = "; ".join(f"{check.name}: {check.found}" for check in found.failed) or found.refusal
    agrees = "" if found.verified is None else str(found.verified)
    row: Row = {"agrees": agrees, "delivered": found.precision, "reason": _short(why)}
    row["threads"] = str(found.conditions.threads)
    for numbers in (check.numbers for check in found.checks):
        for part in ("boxes", "scores"):
            if part in numbers.get("differences", ()):
                row[part] = f"{numbers['differences'][part]:.1e}"
            if part in numbers.get("allowed", ()):
                row[f"{part}_allowed"] = f"{numbers['allowed'][part]:.1e}"
        if {"file", "pytorch"} <= {*numbers}:
            row |= {"map": f"{numbers['file']:.4f}", "map_pytorch": f"{numbers['pytorch']:.4f}"}
    for name, cost in zip(("cpu_ms", "cpu_ms_pytorch"), found.costs, strict=False):
        if cost.latency is not None:
            row[name] = f"{cost.latency.cpu_median:.1f}"
    return row


def opened(name: str) -> tuple[Any, bool]:
    """A ``YOLO``, and whether its weights are its own.

    One without has random weights whose norms, scores and routes are not those of a new one, which are nearly equal.
    """
    import torch
    from torch import nn

    from yolomix.host import names
    from yolomix.verifying.yolo import YOLO

    torch.manual_seed(0)
    model: Any = YOLO(name)
    if names.resolve(name).has_weights:
        return model, True
    for path, module in model.model.named_modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None and module.running_var is not None:
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.Linear) and ".route." in path:
            module.weight.data.normal_()
    for branch in getattr(model.model.model[-1], "cv3", ()):
        branch[-1].bias.data.normal_()
    return model, False


def _cpu_seconds() -> float:
    """CPU time of this process and of its processes that have ended."""
    return sum(os.times()[:4])


def _short(text: str) -> str:
    """A line of a message that may have hundreds.

    >>> _short("no such layer:  17")
    'no such layer: 17'
    """
    return " ".join(text.split())[:LENGTH]


def _leave(row: Row) -> None:
    files.write_text(FOUND, json.dumps(row), flush=False)


if __name__ == "__main__":
    sys.exit(main())
