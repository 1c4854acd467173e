"""What is installed, what computes each operator here, and what would go wrong: the facts of ``yolomix doctor``."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from yolomix import data, hooks, ops, records
from yolomix.host import offline
from yolomix.ops.forcing import ENVIRONMENT, NAMES
from yolomix.records import Processor

NEEDED = (
    *("yolomix", "torch", "torchvision", "ultralytics", "numba"),
    *("docstring_parser", "numpy", "scipy", "PyYAML", "platformdirs", "rich"),
)
OPTIONAL = ("triton", "onnx", "onnxruntime", "onnxscript", "onnxslim", "lap", "cloudpickle")


def facts() -> dict[str, Any]:
    """Everything worth knowing about this machine, as plain values; ``faults`` is empty when all is well."""
    offline.prepare()
    found = {
        "versions": versions(),
        "system": records.system(),
        "processor": Processor.here().to_dict(),
        "devices": devices(),
        "threads": threads(),
        "backends": backends(),
        "forced_backend": forced_backend(),
        "ultralytics": hooked(),
        "network": network(),
        "folders": folders(),
    }
    return {**found, "faults": [*faults(found)]}


def versions() -> dict[str, str | None]:
    """Installed versions by package; None for one that is not installed.

    >>> versions()["python"] == platform.python_version()
    True
    """
    return {"python": platform.python_version()} | records.versions((*NEEDED, *OPTIONAL))


def devices() -> list[dict[str, str]]:
    """What tensors can live on, with a name each.

    >>> devices()[0]["device"]
    'cpu'
    """
    processor = Processor.here()
    found = [{"device": "cpu", "name": f"{processor}, {processor.cores} cores"}]
    for i in range(torch.cuda.device_count()):
        found.append({"device": f"cuda:{i}", "name": torch.cuda.get_device_name(i)})
    if torch.backends.mps.is_available():
        found.append({"device": "mps", "name": "Apple GPU"})
    return found


def threads() -> dict[str, Any]:
    """Thread counts; Ultralytics sets its own when it trains or validates on a CPU."""
    cores = os.cpu_count() or 1
    return {
        "cores": cores,
        "torch": torch.get_num_threads(),
        "torch_in_ultralytics": min(8, max(1, cores - 1)),
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS"),
    }


def backends() -> dict[str, list[dict[str, Any]]]:
    """For every operator its backends, fastest first, each with the reasons why it cannot be used on this machine.

    Backends of other frameworks solve a small problem first, gradients included; a wrong answer is such a reason.
    """
    found: dict[str, list[dict[str, Any]]] = {}
    for status in ops.backends():
        row = {"backend": status.backend, "device": status.device, "automatic": status.automatic}
        found.setdefault(status.op, []).append(row | {"refusals": [*status.refusals]})
    return found


def forced_backend() -> dict[str, str | None]:
    """The backend that the environment forces wherever an operator has it, and by which variable.

    >>> forced_backend()["variable"]
    'YOLOMIX_BACKEND'
    """
    return {"variable": ENVIRONMENT, "backend": os.environ.get(ENVIRONMENT)}


def hooked() -> dict[str, Any]:
    """What we replace in Ultralytics and whether it is in place, and where Ultralytics keeps its settings."""
    try:
        from yolomix.host.entry import SETTINGS
    except ImportError as error:  # a broken Ultralytics is a finding, not the end of the examination
        return {"imports": str(error), "hooks": {}}
    placed = {f"{hook.module}.{hook.target}": _in_place(hook) for hook in hooks.HOOKS}
    return {"imports": True, "settings": str(SETTINGS), "hooks": placed}


def network() -> dict[str, Any]:
    """Whether Ultralytics may ask the network for anything, and the variables that decide it."""
    names = ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "CI")
    return {"offline": offline.switched_off(), "variables": {name: os.environ.get(name) for name in names}}


def folders() -> dict[str, Any]:
    """Where the sample dataset is kept, and whether it is there."""
    kept = data.cache_folder() / data.FOLDER
    return {"sample_dataset": str(kept), "rendered": (kept / "data.yaml").is_file(), "python": sys.prefix}


def faults(found: dict[str, Any]) -> Iterator[str]:
    """What keeps yolomix from working, each with the next step; nothing when all is well.

    Args:
        found: the facts.
    """
    yield from _faults_of_packages(found["versions"])
    yield from _faults_of_hooks(found["ultralytics"])
    yield from _faults_of_backends(found["backends"], found["forced_backend"]["backend"])
    kept = found["folders"]["sample_dataset"]
    if not os.access(_existing(Path(kept)), os.W_OK):
        yield f"cannot write {kept}: set YOLOMIX_CACHE to a folder that can be written"


def _faults_of_packages(found: dict[str, str | None]) -> Iterator[str]:
    missing = [name for name in NEEDED if found[name] is None]
    if missing:
        yield f"not installed: {', '.join(missing)}: pip install {' '.join(missing)}"


def _faults_of_hooks(found: dict[str, Any]) -> Iterator[str]:
    if found["imports"] is not True:
        yield f"ultralytics does not import: {found['imports']}"
    for name, placed in found["hooks"].items():
        if not placed:
            yield f"{name} is not in place"


def _faults_of_backends(found: dict[str, list[dict[str, Any]]], forced: str | None) -> Iterator[str]:
    if forced and forced not in NAMES:
        yield f"{ENVIRONMENT}={forced} is no backend, and every model fails: choose from {', '.join(NAMES)}"
    for op, rows in found.items():
        if all(row["refusals"] for row in rows if row["automatic"]):
            yield f"nothing computes {op}: {[row['refusals'] for row in rows]}"


def _in_place(hook: hooks.Hook) -> bool:
    """Whether a function of Ultralytics is wrapped by ours; not where its module cannot be imported."""
    try:
        return hooks.in_place(hook)
    except ImportError:
        return False


def _existing(path: Path) -> Path:
    """The nearest folder above that is there already."""
    return next(p for p in (path, *path.parents) if p.exists())
