"""What Ultralytics calls us for. This file does not import it: it joins the two packages once both are loaded.

``HOOKS`` is the complete list of what we replace in Ultralytics. Each replacement is a function of ours that gets the
native one as its first argument; it is imported when it is first called, so joining costs nothing.
"""

from __future__ import annotations

import functools
import importlib
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class Hook(NamedTuple):
    """A function of Ultralytics, the function of ours that wraps it, and what would be lost without it.

    >>> HOOKS[0].target, HOOKS[0].ours
    ('parse_model', 'chain.parse_model')
    """

    module: str
    target: str
    ours: str
    purpose: str


HOOKS = (
    Hook("ultralytics.nn.tasks", "parse_model", "chain.parse_model", "our blocks in a model YAML"),
    Hook("ultralytics.nn.tasks", "BaseModel.fuse", "build.fuse", "fuse() of our blocks"),
    Hook("ultralytics.nn.tasks", "torch_safe_load", "checkpoint.torch_safe_load", "weights-only loading"),
    Hook("ultralytics.nn.tasks", "yaml_model_load", "names.yaml_model_load", "our model names"),
    Hook("ultralytics.engine.model", "yaml_model_load", "names.yaml_model_load", "our model names"),
    Hook("ultralytics.utils.checks", "check_model_file_from_stem", "names.model_file", "grafts named in a .pt name"),
    Hook("ultralytics.nn.tasks", "BaseModel.load", "load.load", "weights into a model with other layer indices"),
    Hook("ultralytics.engine.trainer", "BaseTrainer.setup_model", "load.setup_model", "the report of a transfer"),
    Hook("ultralytics.cfg", "check_cfg", "sample.check_cfg", "data=sample"),
    Hook("ultralytics.engine.trainer", "BaseTrainer.build_optimizer", "optimizer.build_optimizer", "no_weight_decay"),
    Hook("ultralytics.engine.trainer", "BaseTrainer._setup_train", "nonfinite.setup_train", "naming a layer with NaN"),
    Hook("ultralytics.engine.trainer", "BaseTrainer._do_train", "ddp.do_train", "training over several nodes"),
    Hook("ultralytics.utils.dist", "generate_ddp_file", "ddp.generate_ddp_file", "DDP from a model YAML"),
)


def join() -> None:
    """Teach Ultralytics our blocks, now if it is loaded, else as soon as it is. Doing it twice changes nothing."""
    waiting = {hook.module for hook in HOOKS}
    loaded = [name for name in waiting if name in sys.modules]
    for name in loaded:
        waiting.discard(name)
        _install(sys.modules[name])
    if waiting and not any(isinstance(finder, _AfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _AfterImport(waiting))


class _AfterImport:
    """Lets the import system find the named modules as ever, and installs our hooks right after each has run."""

    def __init__(self, waiting: set[str]) -> None:
        self.waiting = waiting

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The native spec of a module that is waited for, with our installation behind its execution."""
        if name not in self.waiting:
            return None
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, others), None)
        if spec is not None and spec.loader is not None:
            self._install_after(spec.loader, name)
        return spec

    def _install_after(self, loader: Any, name: str) -> None:
        native = loader.exec_module

        def _exec_module(module: ModuleType) -> None:
            del loader.exec_module  # the instance's attribute, which hides the method of its class
            self.waiting.discard(name)
            native(module)
            _install(module)

        loader.exec_module = _exec_module


def _install(module: ModuleType) -> None:
    """Put our wrappers into one module of Ultralytics; doing it twice changes nothing."""
    for hook in HOOKS:
        if hook.module == module.__name__:
            _wrap(module, hook)
    if module.__name__ == "ultralytics.nn.tasks":
        _ours("reserved.watch_names")(module)


def _wrap(module: ModuleType, hook: Hook) -> None:
    *parents, name = hook.target.split(".")
    owner: Any = module
    for part in parents:
        owner = getattr(owner, part, None)
    native = getattr(owner, name, None)
    if native is None:
        text = f"this Ultralytics has no {hook.module}.{hook.target}: without it yolomix lacks {hook.purpose}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    elif not hasattr(native, "native"):
        setattr(owner, name, _wrapper(native, hook.ours))


def _wrapper(native: Callable[..., Any], ours: str) -> Callable[..., Any]:
    @functools.wraps(native)
    def _call(*args: Any, **kwargs: Any) -> Any:
        return _ours(ours)(native, *args, **kwargs)

    _call.native = native  # type: ignore[attr-defined]
    return _call


@functools.cache
def _ours(name: str) -> Callable[..., Any]:
    """``"build.fuse"`` -> ``yolomix.hooks.build.fuse``."""
    file, function = name.split(".")
    return getattr(importlib.import_module(f"{__name__}.{file}"), function)
