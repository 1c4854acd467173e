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

# Who may import whom, by first folder or file of the package; torch and the standard library are everybody's.
ALLOWED = {
    "ops": {"ops"},
    "nn": {"ops", "nn"},
    "models": {"models"},
    "data": {"data"},
    "host": {"host", "nn", "ops", "models", "data", "surgery", "grafting"},
    "surgery": {"surgery", "nn"},
}

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


def imported(file: Path) -> list[tuple[str, bool]]:
    """The modules that a file imports, and whether it does so at module level and for real."""
    tree = ast.parse(file.read_text())
    typing_only = {
        node
        for test in ast.walk(tree)
        if isinstance(test, ast.If) and getattr(test.test, "id", "") == "TYPE_CHECKING"
        for node in ast.walk(test)
    }
    found = []
    for node in ast.walk(tree):
        if node in typing_only:
            continue
        if isinstance(node, ast.Import):
            found += [(alias.name, node in tree.body) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            found += [(f"{node.module}.{alias.name}", node in tree.body) for alias in node.names]
    return found


@pytest.mark.parametrize("part", ALLOWED)
def test_import_direction(part: str) -> None:
    for file in (ROOT / part).rglob("*.py"):
        for module, _ in imported(file):
            package, _, rest = module.partition(".")
            if package == "yolomix" and rest:
                assert rest.split(".")[0] in ALLOWED[part] | {"__version__"}, f"{file} imports {module}"


def test_only_the_host_imports_ultralytics() -> None:
    for file in ROOT.rglob("*.py"):
        if file.parent.name != "host":
            for module, _ in imported(file):
                assert module.split(".")[0] != "ultralytics", f"{file} imports {module}"


def test_the_table_of_hooks_in_the_docs_is_complete() -> None:
    written = (ROOT.parents[1] / "docs" / "hooks.md").read_text("utf-8")
    for hook in hooks.HOOKS:
        assert f"`{hook.module.removeprefix('ultralytics.')}.{hook.target}`" in written
