"""All kinds, by name, and what their parents import before they fork."""

from __future__ import annotations

import gc
import importlib
import pkgutil
import sys
from pathlib import Path

from tests.faults import judge
from tests.faults.kind import Kind

FOLDER = Path(__file__).parent


def load(name: str) -> Kind:
    """The kind of that name."""
    kind = importlib.import_module(f"tests.faults.{name}").KIND
    assert isinstance(kind, Kind)
    return kind


def names() -> list[str]:
    """All kinds, one for each file; bare ones first, whose parent must not have imported what the others need."""
    found = [file.stem for file in FOLDER.glob("*.py") if "\nKIND = " in file.read_text("utf-8")]
    return sorted(found, key=lambda name: (not load(name).bare, name))


def import_bare() -> None:
    """Import what is slow and neither Ultralytics nor yolomix."""
    for name in (
        "torch",
        "torch.ao.quantization",
        "torchvision",
        "cv2",
        "numba",
        "yaml",
        "PIL.Image",
        "matplotlib.pyplot",
        "rich",
    ):
        importlib.import_module(name)
    _ready_to_fork()


def import_all() -> None:
    """Import everything that a case may need, and run nothing."""
    import_bare()
    import yolomix

    for found in pkgutil.walk_packages(yolomix.__path__, "yolomix."):
        if not found.name.endswith(("__main__", "triton_gpu")) and "_triton" not in found.name:
            importlib.import_module(found.name)
    for name in ("engine.trainer", "engine.exporter", "models.yolo", "models.rtdetr", "utils.benchmarks"):
        importlib.import_module(f"ultralytics.{name}")
    from numba.core.registry import cpu_target

    for context in (cpu_target.typing_context, cpu_target.target_context):
        context.refresh()  # as the first compilation of a process does, half a second long
    _ready_to_fork()


def is_bare() -> bool:
    """Whether this process has imported neither Ultralytics nor yolomix."""
    return not {"ultralytics", "yolomix"} & set(sys.modules)


def _ready_to_fork() -> None:
    if (count := judge.threads()) > 1:
        raise RuntimeError(f"after the imports this process runs {count} threads; it must not fork")
    gc.freeze()  # children do not write to the pages of what is here
