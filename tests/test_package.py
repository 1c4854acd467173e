"""What importing the package does and does not do, and which part may import which."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import yolomix
from yolomix import hooks

ROOT = Path(yolomix.__file__).parent

# The floors of the house, from the ground up: each may import itself and what is named. torch and the standard library
# are everybody's; Ultralytics belongs to host and hooks.
FLOORS = {
    "_version": set(),
    "files": set(),
    "nearest": set(),
    "processes": set(),
    "progress": set(),
    "showing": set(),
    "statistics": set(),
    "ops": {"showing"},
    "nn": {"ops"},
    "models": set(),
    "data": {"files", "progress"},
    "records": {"ops", "_version", "showing"},
    "surgery": {"nn", "files", "showing"},
    "host": {"files", "ops", "surgery", "nn", "models"},
    "profiling": {"ops", "host", "records", "showing", "surgery", "files"},
    "transferring": {"files", "host", "surgery", "nn"},
    "planning": {"files", "_version", "transferring", "host", "profiling", "surgery", "showing"},
    "editing": {"planning", "host", "surgery", "nn", "showing"},
    "kit": {"files", "host"},
    "hooks": {"files", "kit", "editing", "ops", "profiling", "transferring", "host", "surgery", "nn", "models", "data"},
    "verifying": {
        "files",
        "progress",
        "showing",
        "statistics",
        "ops",
        "nn",
        "data",
        "records",
        "surgery",
        "host",
        "profiling",
        "kit",
        "hooks",
    },
    "matrix": {
        "files",
        "processes",
        "progress",
        "showing",
        "nn",
        "models",
        "records",
        "host",
        "verifying",
    },
    "figures": {
        "_version",
        "nearest",
        "files",
        "showing",
        "ops",
        "nn",
        "data",
        "records",
        "surgery",
        "host",
        "profiling",
    },
    "doctor": {"hooks", "host", "records", "data", "ops"},
    "demo": {"files", "progress", "profiling", "verifying", "showing", "host", "records", "data", "ops"},
    "studying": {
        "nearest",
        "files",
        "processes",
        "progress",
        "showing",
        "statistics",
        "ops",
        "nn",
        "data",
        "records",
        "surgery",
        "host",
        "profiling",
        "transferring",
        "planning",
        "editing",
    },
    "cli": {
        "nearest",
        "progress",
        "studying",
        "profiling",
        "verifying",
        "matrix",
        "demo",
        "doctor",
        "planning",
        "editing",
        "transferring",
        "hooks",
        "figures",
        "host",
        "surgery",
        "models",
        "data",
        "records",
        "nn",
    },
    "__init__": {"hooks", "_version"},
    "__main__": {"cli"},
}
WITH_ULTRALYTICS = {"host", "hooks"}

CHECK = """
import os, sys, threading, warnings
before = dict(os.environ), threading.active_count(), list(warnings.filters)
import yolomix
assert (dict(os.environ), threading.active_count(), list(warnings.filters)) == before, "import had an effect"
heavy = {"torch", "ultralytics", "numba", "triton", "rich", "cv2"} & set(sys.modules)
assert not heavy, f"import loaded {heavy}"
"""


def test_import_is_silent_cheap_and_without_effect() -> None:
    done = subprocess.run([sys.executable, "-c", CHECK], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_threads_stay_as_they_are() -> None:
    code = "import torch; n = torch.get_num_threads(); import yolomix; assert torch.get_num_threads() == n"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_public_names_resolve() -> None:
    for name in yolomix.__all__:
        assert getattr(yolomix, name) is not None
    assert set(yolomix.__all__) == set(dir(yolomix))


def test_unknown_name_lists_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"no attribute 'yolo'; it has YOLO"):
        yolomix.yolo  # noqa: B018


def imported(file: Path) -> set[str]:
    """Everything that a file imports anywhere, inside functions and for type checking too."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def floor(name: str) -> str:
    """``yolomix.ops.ss2d`` -> ``ops``; names of the package itself, which loads them on use, -> ``yolomix``."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FLOORS else "yolomix"


FILES = {file: file.relative_to(ROOT).parts[0].removesuffix(".py") for file in ROOT.rglob("*.py")}


def test_every_part_of_the_package_has_a_floor() -> None:
    assert set(FILES.values()) == set(FLOORS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_file_imports_from_its_own_floor_and_those_below(file: Path) -> None:
    own = FILES[file]
    for name in imported(file):
        if name.split(".")[0] == "yolomix" and own != "__init__":
            assert floor(name) in FLOORS[own] | {own}, f"{file} imports {name}"
        assert name.split(".")[0] != "ultralytics" or own in WITH_ULTRALYTICS, f"{file} imports {name}"


def test_the_floors_are_a_stair() -> None:
    above: set[str] = set()
    for name in reversed(FLOORS):
        assert not FLOORS[name] & above - {name}, f"{name} imports from above"
        above.add(name)


def test_no_file_imports_itself_over_others() -> None:
    """Circles, imports inside functions counted: a hidden one still runs."""
    modules = {".".join(("yolomix", *file.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__"): file
               for file in FILES}  # fmt: skip
    edges = {}
    for name, file in modules.items():
        targets = {found if found in modules else found.rpartition(".")[0] for found in imported(file)}
        edges[name] = (targets & modules.keys()) - {name, "yolomix"}
    for name in modules:
        reached, todo = set(), [*edges[name]]
        while todo:
            at = todo.pop()
            if at not in reached:
                reached.add(at)
                todo += edges[at]
        assert name not in reached, f"{name} is in an import circle of {sorted(m for m in reached if name in edges[m])}"


def test_the_table_of_hooks_in_the_docs_is_complete() -> None:
    written = (ROOT.parents[1] / "docs" / "hooks.md").read_text("utf-8")
    for hook in hooks.HOOKS:
        assert f"`{hook.module.removeprefix('ultralytics.')}.{hook.target}`" in written
