"""The two packages find each other in whatever order they are imported, and importing costs nothing."""

from __future__ import annotations

import importlib
import subprocess
import sys
import types
from functools import reduce

import pytest

from tests.fresh import STRICT
from yolomix import hooks
from yolomix.host import original

BUILD = """
from ultralytics import YOLO
YOLO("yolo11n-mlla.yaml")
import importlib, yolomix
from yolomix.host import original
for hook in yolomix.hooks.HOOKS:
    assert yolomix.hooks.in_place(hook), hook
    native = original.native(importlib.import_module(hook.module), hook.target)
    assert not hasattr(native, yolomix.hooks.OWN), f"wrapped twice: {hook}"
"""

ORDERS = {
    "yolomix first, then one module": """
import yolomix, inspect, ultralytics.nn.tasks as tasks
assert tasks.__spec__.loader is tasks.__loader__ and "exec_module" not in vars(tasks.__loader__)
assert "def parse_model(d, ch" in inspect.getsource(tasks)
assert [*inspect.signature(tasks.parse_model).parameters] == ["d", "ch", "verbose"]
""",
    "a look for a module before its import": """
import yolomix, importlib.util
assert importlib.util.find_spec("ultralytics.engine.trainer") is not None
""",
    "a part, then yolomix": """
import sys, ultralytics.cfg, yolomix
assert not {"yolomix.hooks.sample", "yolomix.hooks.ddp"} & set(sys.modules), "imported before it is needed"
yolomix.hooks.join()
""",
    "everything, then yolomix": "from ultralytics import YOLO\nimport ultralytics.engine.trainer\nimport yolomix\n",
    "a block, as unpickling does": "import yolomix.nn.mlla\n",
}


@pytest.mark.parametrize("order", ORDERS)
def test_any_order_of_imports(order, python):
    python(STRICT + ORDERS[order] + BUILD)


def test_joining_without_ultralytics_is_quiet_and_free():
    code = "import yolomix, sys; assert not {'ultralytics', 'torch', 'numpy', 'yaml'} & set(sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("hook", hooks.HOOKS, ids=lambda hook: hook.target)
def test_every_hook_has_a_function_of_ours_and_one_of_theirs(hook):
    module = importlib.import_module(hook.module)
    theirs, native = reduce(getattr, hook.target.split("."), module), original.native(module, hook.target)
    file, function = hook.ours.split(".")
    ours = getattr(importlib.import_module(f"yolomix.hooks.{file}"), function)
    assert callable(ours)
    assert hooks.in_place(hook)
    assert theirs is not native
    assert theirs.__name__ == native.__name__


@pytest.mark.parametrize(
    ("name", "lacks"),
    [
        ("ultralytics.cfg", ".check_cfg: without it yolomix lacks data=sample"),
        ("ultralytics.engine.trainer", ".BaseTr"),
    ],
)
def test_a_version_without_a_hooked_function_is_said(name, lacks):
    module = types.ModuleType(name)
    with pytest.warns(RuntimeWarning, match=rf"this Ultralytics has no {name}{lacks}"):
        hooks._install(module)


@pytest.mark.parametrize("file", ["build", "checkpoint", "reserved"])  # imports Ultralytics, ours and it, neither
def test_every_file_of_ours_may_be_imported_first(file, python):
    python(f"{STRICT}import yolomix.hooks.{file}\n{BUILD}")
