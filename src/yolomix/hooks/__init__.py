"""What Ultralytics calls us for. This file does not import it: it joins the two packages once both are loaded.

``HOOKS`` is the complete list of what we replace in Ultralytics. Each replacement is a function of ours that gets the
native one as its first argument. It is looked up by name at every call: joining costs nothing, and a copy of yolomix
that is imported anew serves the wrappers that an earlier copy left.
"""

from __future__ import annotations

import functools
import importlib
import os
import sys
import warnings
from typing import TYPE_CHECKING, Any, NamedTuple

from yolomix.host import original

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
    Hook("ultralytics.nn.tasks", "DetectionModel.__init__", "first_pass.build", "errors that name the row"),
    Hook("ultralytics.nn.tasks", "BaseModel.fuse", "build.fuse", "fuse() of our blocks"),
    Hook("ultralytics.nn.tasks", "torch_safe_load", "checkpoint.torch_safe_load", "weights-only loading"),
    Hook("ultralytics.nn.tasks", "yaml_model_load", "names.yaml_model_load", "our model names"),
    Hook("ultralytics.engine.model", "yaml_model_load", "names.yaml_model_load", "our model names"),
    Hook("ultralytics.nn.tasks", "guess_model_task", "kinds.guess_model_task", "tasks of heads of one's own"),
    Hook("ultralytics.engine.model", "guess_model_task", "kinds.guess_model_task", "tasks of heads of one's own"),
    Hook("ultralytics.engine.model", "Model._new", "kinds.new", "RT-DETR under any file name"),
    Hook("ultralytics.engine.model", "Model._load", "kinds.load", "checkpoints of RT-DETR heads of one's own"),
    Hook("ultralytics.utils.checks", "check_model_file_from_stem", "names.model_file", "grafts named in a .pt name"),
    Hook("ultralytics.nn.tasks", "BaseModel.load", "load.load", "weights into a model with other layer indices"),
    Hook("ultralytics.engine.trainer", "BaseTrainer.setup_model", "load.setup_model", "the report of a transfer"),
    Hook("ultralytics.cfg", "check_cfg", "sample.check_cfg", "data=sample"),
    Hook("ultralytics.engine.trainer", "check_det_dataset", "dataset.check_train_dataset", "words about dataset YAMLs"),
    Hook("ultralytics.engine.validator", "check_det_dataset", "dataset.check_det_dataset", "words about dataset YAMLs"),
    Hook("ultralytics.engine.predictor", "load_inference_source", "dataset.load_inference_source", "words on sources"),
    Hook("ultralytics.engine.trainer", "BaseTrainer.build_optimizer", "optimizer.build_optimizer", "no_weight_decay"),
    Hook("ultralytics.engine.trainer", "BaseTrainer._setup_train", "nonfinite.setup_train", "naming a layer with NaN"),
    Hook("ultralytics.engine.trainer", "BaseTrainer._do_train", "ddp.do_train", "training over several nodes"),
    Hook("ultralytics.engine.trainer", "BaseTrainer.check_resume", "checkpoint.check_resume", "words on resuming"),
    Hook(
        "ultralytics.engine.trainer", "BaseTrainer.resume_training", "checkpoint.resume_training", "words on resuming"
    ),
    Hook("ultralytics.engine.trainer", "BaseTrainer.save_model", "saving.save_model", "whole checkpoint files"),
    Hook(
        "ultralytics.engine.trainer",
        "BaseTrainer.save_metrics",
        "saving.save_metrics",
        "one row an epoch; gates",
    ),
    Hook("ultralytics.engine.trainer", "strip_optimizer", "saving.strip_optimizer", "whole checkpoint files"),
    Hook("ultralytics.engine.model", "Model.save", "saving.save", "whole checkpoint files"),
    Hook("ultralytics.engine.exporter", "Exporter.__call__", "exports.export", "exported files that are whole"),
    Hook("ultralytics.engine.exporter", "Exporter.export_onnx", "exporting.export_onnx", "fast scans in ONNX files"),
    Hook("ultralytics.engine.exporter", "Exporter.export_openvino", "exporting.export_openvino", "fast scans there"),
    Hook("ultralytics.engine.exporter", "Exporter.export_engine", "exporting.export_engine", "precision in the graph"),
    Hook("ultralytics.engine.exporter", "Exporter.export_torchscript", "exporting.export_plain", "words on open sizes"),
    Hook("ultralytics.engine.exporter", "Exporter.export_coreml", "exporting.export_plain", "words on open sizes"),
    Hook("ultralytics.utils.torch_utils", "get_flops", "flops.get_flops", "GFLOPs with our scans in them"),
    Hook("ultralytics.utils.dist", "generate_ddp_file", "ddp.generate_ddp_file", "DDP from a model YAML"),
)


OWN = "__yolomix_wrapper__"

# What binds modules of Ultralytics when it is imported, and so has to be imported anew with them.
BOUND = ("host", "hooks", "transferring", "planning", "editing", "doctor", "verifying", "figures", "demo", "studying")


def join() -> None:
    """Teach Ultralytics our blocks, now if it is loaded, else as soon as it is. Doing it twice changes nothing."""
    names = {hook.module for hook in HOOKS}
    for name in names:
        module = _loaded(name)
        if module is not None:
            _install(module)
    # A watcher of an earlier copy of this module would ask this one for the module, and this one that, without end.
    sys.meta_path[:] = [finder for finder in sys.meta_path if not _is_watcher(finder)]
    sys.meta_path.insert(0, _AfterImport(names))


def in_place(hook: Hook) -> bool:
    """Whether a function of Ultralytics is wrapped by ours, perhaps with somebody else's wrapper around it.

    Raises:
        ImportError: the module cannot be imported.
    """
    module = importlib.import_module(hook.module)
    placed = original.record(module).get(hook.target)
    return placed is not None and not _is_bare(_found(module, hook.target), placed)


class _AfterImport:
    """Lets the import system find the named modules as ever, and installs our hooks whenever one has run.

    It stays in ``sys.meta_path``: a module may be imported again after it failed, was forgotten or is reloaded.
    """

    is_watcher_of_yolomix = True  # whichever copy of this module made it

    def __init__(self, names: set[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        """The native spec of one of the named modules, with our installation behind its execution."""
        if name not in self.names:
            return None
        for finder in sys.meta_path:
            spec = None if _is_watcher(finder) else finder.find_spec(name, path, target)
            if spec is not None:
                if spec.loader is not None:
                    _install_after(spec.loader)
                return spec
        return None


def _is_watcher(finder: object) -> bool:
    return getattr(finder, "is_watcher_of_yolomix", False)


def _install_after(loader: Any) -> None:
    """Let a loader execute its module as ever, and then install our hooks in it."""
    native = loader.exec_module

    def _exec_module(module: ModuleType) -> None:
        del loader.exec_module  # the instance's attribute, which hides the method of its class
        original.record(module).clear()  # a reload puts fresh functions in place of wrapped ones
        native(module)
        _forget_bound(module)
        _install(module)

    loader.exec_module = _exec_module


def _forget_bound(module: ModuleType) -> None:
    """Drop those of our modules that are bound to an earlier module of that name, which was forgotten."""
    build = sys.modules.get(f"{__name__}.build")
    if module.__name__ != "ultralytics.nn.tasks" or build is None or getattr(build, "tasks", module) is module:
        return
    for name in [name for name in sys.modules if name.startswith("yolomix.") and name != __name__]:
        if name.split(".")[1] in BOUND:
            del sys.modules[name]


def _install(module: ModuleType) -> None:
    """Put our wrappers into one module of Ultralytics; doing it twice changes nothing."""
    for hook in HOOKS:
        if hook.module == module.__name__:
            _wrap(module, hook)
    if module.__name__ == "ultralytics.nn.tasks":
        _ours("reserved.watch_names")(module)


def _wrap(module: ModuleType, hook: Hook) -> None:
    native: Any = _found(module, hook.target)
    placed = original.record(module).get(hook.target)
    if native is None:
        text = f"this Ultralytics has no {hook.module}.{hook.target}: without it yolomix lacks {hook.purpose}"
        warnings.warn(text, RuntimeWarning, stacklevel=2)
    elif _is_ours(native):  # imported by name from a module that was wrapped before
        original.record(module)[hook.target] = original.Wrapped(native.__wrapped__, native)
    elif placed is None or _is_bare(native, placed):  # else it is somebody else's around ours
        *parents, name = hook.target.split(".")
        wrapper = _wrapper(native, hook.ours)
        setattr(_found(module, ".".join(parents)), name, wrapper)
        original.record(module)[hook.target] = original.Wrapped(native, wrapper)


def _found(module: ModuleType, target: str) -> Any:
    """What a dotted name means inside a module; None if it is not there."""
    found: Any = module
    for part in filter(None, target.split(".")):
        found = getattr(found, part, None)
    return found


def _wrapper(native: Callable[..., Any], ours: str) -> Callable[..., Any]:
    @functools.wraps(native)
    def _call(*args: Any, **kwargs: Any) -> Any:
        function = _ours(ours)
        sys.modules[__name__]._put_back()
        return function(native, *args, **kwargs)

    setattr(_call, OWN, _call)  # functools.wraps of somebody else copies it, and it is not that function's own
    return _call


def _put_back() -> None:
    """Wrap what is bare: somebody replaced it for a while and began before us, or was importing it when we came."""
    for hook in HOOKS:
        module = _loaded(hook.module)
        native = _found(module, hook.target) if module is not None else None
        placed = getattr(module, original.RECORD, {}).get(hook.target)
        if module is not None and native is not None and (placed is None or _is_bare(native, placed)):
            _wrap(module, hook)


def _loaded(name: str) -> ModuleType | None:
    """A module that has been imported; None also while it is running, when it lacks what it will define.

    A module that was forgotten is still an attribute of its package, and what was imported from it before is in use.
    """
    package, _, attribute = name.rpartition(".")
    module = sys.modules.get(name) or getattr(sys.modules.get(package), attribute, None)
    return None if getattr(getattr(module, "__spec__", None), "_initializing", False) else module


def _is_ours(function: Any) -> bool:
    return getattr(function, OWN, None) is function


def _is_bare(function: Any, placed: original.Wrapped) -> bool:
    """Whether a function is what we wrapped, or Ultralytics' own, with nobody's wrapper around it."""
    file = getattr(getattr(function, "__code__", None), "co_filename", "")
    theirs = os.path.join(os.path.dirname(str(sys.modules["ultralytics"].__file__)), "")
    return function is placed.native or file.startswith(theirs)


def _ours(name: str) -> Callable[..., Any]:
    """``"build.fuse"`` -> ``yolomix.hooks.build.fuse``."""
    file, function = name.split(".")
    return getattr(importlib.import_module(f"{__name__}.{file}"), function)
