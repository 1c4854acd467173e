"""Modules imported again, failing first, forgotten, or wrapped by somebody else: each in a process of its own."""

from __future__ import annotations

import pytest

from tests.fresh import STRICT

BUILT = """
import ultralytics
model = ultralytics.YOLO("yolov8n-cls+MLLABlock@p5.yaml")
assert any(type(m).__name__.startswith("MLLA") for m in model.model.modules())
stock = ultralytics.YOLO("yolov8n-cls.yaml").model
import yolomix
assert all(map(yolomix.hooks.in_place, yolomix.hooks.HOOKS))
assert yolomix.transfer(stock, model).complete
print("built")
"""

FORGET = """
import sys
for name in [name for name in sys.modules if name.split(".")[0] in {names}]:
    del sys.modules[name]
"""
OURS, THEIRS = FORGET.format(names="('yolomix',)"), FORGET.format(names="('ultralytics',)")
USED = "from ultralytics import YOLO; YOLO('yolov8n-cls.yaml')\n"
RELOAD = "import importlib, {name} as module; importlib.reload(module)\n"

FAILS_ONCE = """
import sys
class Fails:
    def find_spec(self, name, path, target=None):
        if name == {name!r} and sys.meta_path.remove(self) is None:
            raise ImportError("the first time")
sys.meta_path.insert(0, Fails())
try:
    import ultralytics.nn.tasks, ultralytics.engine.trainer
    from ultralytics import YOLO; YOLO
except ImportError as error:
    print(error)
"""

FAILS_WHILE_IT_RUNS = """
import torch
good = torch.load
del torch.load
try:
    import ultralytics.nn.tasks
    from ultralytics.utils.patches import torch_load
except (ImportError, AttributeError) as error:
    print(error)
torch.load = good
for name in [name for name in sys.modules if name.split(".")[0] == "ultralytics"]:
    del sys.modules[name]
"""

WRAPPED = """
import functools, ultralytics.nn.tasks as tasks, ultralytics.engine.trainer as trainer
native, build, load = tasks.parse_model, trainer.BaseTrainer.build_optimizer, tasks.BaseModel.load
{decorator}
def parse_model(*args, **kwargs):
    return native(*args, **kwargs)
def build_optimizer(*args, **kwargs):
    return build(*args, **kwargs)
def loaded(*args, **kwargs):
    return load(*args, **kwargs)
tasks.parse_model, trainer.BaseTrainer.build_optimizer, tasks.BaseModel.load = parse_model, build_optimizer, loaded
"""
BARE, WRAPS = WRAPPED.format(decorator=""), WRAPPED.format(decorator="@functools.wraps(native)")

WAYS = {
    "ours again, before Ultralytics": "import yolomix\n" + OURS + "import yolomix\n",
    "ours again, three times": "import yolomix\n" + 3 * (OURS + "import yolomix\n"),
    "ours again, after Ultralytics was used": "import yolomix\n" + USED + OURS + "import yolomix\n",
    "ours forgotten and not imported": "import yolomix\n" + USED + OURS,
    "theirs again": "import yolomix\n" + USED + THEIRS,
    "theirs again, before use": "import yolomix, ultralytics.nn.tasks\n" + THEIRS,
    "a part of theirs that is in use, forgotten before us": USED
    + "import sys; del sys.modules['ultralytics.engine.model']\nimport yolomix\n",
    "both again": "import yolomix\n" + USED + OURS + THEIRS + "import yolomix\n",
    "tasks reloaded": "import yolomix\n" + RELOAD.format(name="ultralytics.nn.tasks"),
    "tasks reloaded after use": "import yolomix\n" + USED + RELOAD.format(name="ultralytics.nn.tasks"),
    "trainer reloaded": "import yolomix\n" + USED + RELOAD.format(name="ultralytics.engine.trainer"),
    "yolomix reloaded": "import yolomix\n" + USED + RELOAD.format(name="yolomix"),
    "hooks reloaded": "import yolomix\n" + RELOAD.format(name="yolomix.hooks") + USED,
    "tasks are not found at first": "import yolomix\n" + FAILS_ONCE.format(name="ultralytics.nn.tasks"),
    "trainer is not found at first": "import yolomix\n" + FAILS_ONCE.format(name="ultralytics.engine.trainer"),
    "it fails while it runs": "import sys, yolomix\n" + FAILS_WHILE_IT_RUNS,
    "wrapped after us": "import yolomix\n" + BARE,
    "wrapped after us, with wraps": "import yolomix\n" + WRAPS,
    "wrapped after us, ours again": "import yolomix\n" + BARE + OURS + "import yolomix\n",
    "wrapped after us, joined again": "import yolomix\n" + BARE + "yolomix.hooks.join()\n",
    "wrapped before us": BARE + "import yolomix\n",
    "wrapped before us, with wraps": WRAPS + "import yolomix\n",
    "put back by somebody": "import yolomix, ultralytics.nn.tasks as tasks\n"
    "tasks.parse_model = tasks.parse_model.__wrapped__\nyolomix.hooks.join()\n",
}


@pytest.mark.parametrize("way", WAYS)
def test_hooks_are_complete_and_models_are_built(way, python):
    said = python(STRICT + WAYS[way] + BUILT)
    assert said.splitlines()[-1] == "built"
