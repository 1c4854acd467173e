"""Functions of Ultralytics that somebody unwraps after us, and what notices it."""

from __future__ import annotations

import functools
import sys
import warnings
from types import ModuleType, SimpleNamespace

import pytest
from ultralytics.nn import tasks

from yolomix import hooks
from yolomix.host import original

HOOK = next(hook for hook in hooks.HOOKS if hook.target == "BaseModel.fuse")


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(tasks.BaseModel, "fuse", tasks.BaseModel.fuse)
    monkeypatch.setitem(original.record(tasks), HOOK.target, original.record(tasks)[HOOK.target])


def test_the_next_call_of_any_hook_wraps_it_again(tiny):
    tasks.BaseModel.fuse = original.native(tasks, HOOK.target)
    assert not hooks.in_place(HOOK)
    tasks.yaml_model_load(tiny)
    assert hooks.in_place(HOOK)


@pytest.mark.parametrize("decorator", [lambda f: f, functools.wraps(tasks.BaseModel.fuse)], ids=["bare", "wraps"])
def test_a_wrapper_that_was_there_before_us_and_is_gone(decorator):
    """What we wrapped is then the stranger's, which stands nowhere any more."""
    native = original.native(tasks, HOOK.target)
    tasks.BaseModel.fuse = strangers = decorator(lambda *args: native(*args))
    del original.record(tasks)[HOOK.target]
    hooks.join()
    assert original.record(tasks)[HOOK.target].native is strangers
    tasks.BaseModel.fuse = native
    assert not hooks.in_place(HOOK)
    hooks.join()
    assert hooks.in_place(HOOK)
    assert original.native(tasks, HOOK.target) is native


def test_a_wrapper_around_ours_stays():
    ours = tasks.BaseModel.fuse
    tasks.BaseModel.fuse = around = lambda *args: ours(*args)
    hooks.join()
    assert tasks.BaseModel.fuse is around
    assert hooks.in_place(HOOK)


def test_a_module_that_is_being_imported_is_wrapped_when_it_is_there(tiny, monkeypatch):
    hook = next(hook for hook in hooks.HOOKS if hook.target == "generate_ddp_file")
    module = ModuleType(hook.module)
    module.__spec__ = SimpleNamespace(_initializing=True)
    monkeypatch.setitem(sys.modules, hook.module, module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        hooks.join()
    module.generate_ddp_file = native = lambda trainer: "a file"
    module.__spec__._initializing = False
    tasks.yaml_model_load(tiny)
    assert hooks.in_place(hook)
    assert original.native(module, hook.target) is native
