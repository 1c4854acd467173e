"""What is installed, what computes each operator here, and what would go wrong: the facts of ``yolomix doctor``."""

from __future__ import annotations

import importlib
import importlib.metadata
import os
import platform
import sys
from pathlib import Path
from typing import Any

import torch

from yolomix import data, hooks
from yolomix.host import offline
from yolomix.ops import selftest
from yolomix.ops.dispatch import ENVIRONMENT, NAMES

NEEDED = ("yolomix", "torch", "torchvision", "ultralytics", "numba", "numpy", "PyYAML", "rich")
OPTIONAL = ("triton", "onnx", "onnxruntime", "onnxscript", "onnxslim", "lap", "cloudpickle")


def facts() -> dict[str, Any]:
    """Everything worth knowing about this machine, as plain values; ``faults`` is empty when all is well."""
    offline.prepare()
    found = {
        "versions": versions(),
        "devices": devices(),
        "threads": threads(),
        "backends": backends(),
        "ultralytics": hooked(),
        "network": network(),
        "folders": folders(),
    }
    return {**found, "faults": faults(found)}


def versions() -> dict[str, str | None]:
    """Installed versions by package; None for one that is not installed."""
    return {"python": platform.python_version()} | {name: _version(name) for name in (*NEEDED, *OPTIONAL)}


def devices() -> list[dict[str, str]]:
    """What tensors can live on, with a name each."""
    found = [{"device": "cpu", "name": f"{platform.machine()}, {os.cpu_count()} cores"}]
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
    for status in selftest.report():
        row = {"backend": status.backend, "device": status.device, "automatic": status.automatic}
        found.setdefault(status.op, []).append(row | {"refusals": [*status.reasons]})
    return found


def hooked() -> dict[str, Any]:
    """What we replace in Ultralytics and whether it is in place, and where Ultralytics keeps its settings."""
    try:
        from yolomix.host.entry import SETTINGS
    except ImportError as error:
        return {"imports": str(error), "hooks": {}}
    names = {f"{hook.module}.{hook.target}": hook for hook in hooks.HOOKS}
    return {"imports": True, "settings": str(SETTINGS), "hooks": {n: _in_place(h) for n, h in names.items()}}


def network() -> dict[str, Any]:
    """Whether Ultralytics may look things up, and the variables that decide it."""
    names = ("YOLO_OFFLINE", "YOLO_AUTOINSTALL", "CI", ENVIRONMENT)
    switched_off = os.environ.get("YOLO_OFFLINE", "").lower() in ("true", "1")
    return {"offline": switched_off, "variables": {name: os.environ.get(name) for name in names}}


def folders() -> dict[str, Any]:
    """Where the sample dataset is kept, and whether it is there."""
    kept = data.cache_folder() / data.FOLDER
    return {"sample_data": str(kept), "rendered": (kept / "data.yaml").is_file(), "python": sys.prefix}


def faults(found: dict[str, Any]) -> list[str]:
    """What keeps yolomix from working, each with the next step; empty when all is well."""
    missing = [name for name in NEEDED if found["versions"][name] is None]
    wrong = [f"not installed: {', '.join(missing)}: pip install {' '.join(missing)}"] if missing else []
    if found["ultralytics"]["imports"] is not True:
        wrong.append(f"ultralytics does not import: {found['ultralytics']['imports']}")
    wrong += [f"{name} is not in place" for name, placed in found["ultralytics"]["hooks"].items() if not placed]
    forced = found["network"]["variables"][ENVIRONMENT]
    if forced and forced not in NAMES:
        wrong.append(f"{ENVIRONMENT}={forced} is no backend, and every model fails: choose from {', '.join(NAMES)}")
    for op, rows in found["backends"].items():
        if all(row["refusals"] for row in rows if row["automatic"]):
            wrong.append(f"nothing computes {op}: {[row['refusals'] for row in rows]}")
    if not os.access(_existing(Path(found["folders"]["sample_data"])), os.W_OK):
        wrong.append(
            f"cannot write {found['folders']['sample_data']}: set YOLOMIX_CACHE to a folder that can be written"
        )
    return wrong


def _in_place(hook: hooks.Hook) -> bool:
    try:
        found: Any = importlib.import_module(hook.module)
    except ImportError:
        return False
    for name in hook.target.split("."):
        found = getattr(found, name, None)
    return hasattr(found, "native")


def _existing(path: Path) -> Path:
    return next(p for p in (path, *path.parents) if p.exists())


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
