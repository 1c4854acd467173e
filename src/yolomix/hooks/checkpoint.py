"""Checkpoints: our classes allowed under weights-only loading, and clear errors about files that are none.

Around ``ultralytics.nn.tasks.torch_safe_load``, through which every checkpoint goes.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks

import yolomix.nn
from yolomix.host import foreign
from yolomix.nn import origins
from yolomix.nn.registry import BLOCKS

NEEDED = "a checkpoint is a file that training wrote (last.pt, best.pt) or model.save(...)"


def torch_safe_load(
    native: Callable[..., tuple[dict[str, Any], str]], weight: str | Path, *args: Any, **kwargs: Any
) -> tuple[dict[str, Any], str]:
    """Load a checkpoint as ever: ``(contents, file)``; one of the Mamba-YOLO fork becomes a model of our blocks.

    Raises:
        TypeError: the file is no checkpoint; the text says what it is instead.
        ModuleNotFoundError: a block's own module cannot be imported.
    """
    if Path(weight).is_dir():
        raise TypeError(f"{weight} is a folder; {NEEDED}")
    if foreign.is_foreign(weight):
        return foreign.checkpoint(weight), str(weight)
    if any(args) or kwargs.get("safe_only") or getattr(tasks, "SAFE_LOAD", False):
        allow_classes()
    try:
        checkpoint, file = native(weight, *args, **kwargs)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{weight} has a block from the module {error.name!r}, which is not found here: start where it can be "
            "imported, or name its folder in PYTHONPATH",
            name=error.name,
        ) from error
    except FileNotFoundError:
        raise
    except Exception as error:
        raise TypeError(f"{weight} cannot be read as a checkpoint: {_reason(error)}; {NEEDED}") from error
    if not isinstance(checkpoint.get("ema") or checkpoint.get("model"), nn.Module):
        raise TypeError(f"{weight} holds no model but {_contents(checkpoint)}; {NEEDED}")
    return checkpoint, file


def allow_classes() -> None:
    """Tell ``torch.load(weights_only=True)`` that our modules, and those in files of registered blocks, are known.

    Nothing of the file's is imported for it: what installed packages announce is, and what the user named has been.
    """
    origins.enter_installed()
    torch.serialization.add_safe_globals(list(module_classes()))


def module_classes() -> Iterator[type[nn.Module]]:
    """Every ``nn.Module`` class that a pickled block of ours, or of the user, can refer to.

    >>> "MLLABlock" in {cls.__name__ for cls in module_classes()}
    True
    """
    ours = (f"yolomix.nn.{info.name}" for info in pkgutil.iter_modules(yolomix.nn.__path__))
    for name in {*ours, *origins.BROUGHT, *(block.cls.__module__ for block in BLOCKS.values())}:
        for value in vars(importlib.import_module(name)).values():
            is_module = isinstance(value, type) and issubclass(value, nn.Module)
            if is_module and value.__module__ == name:  # not what the file imports
                yield value


def _reason(error: BaseException) -> str:
    """What is wrong with a file, without the advice of others to download another model."""
    text = str(error)
    if "is not a loadable checkpoint" in text and error.__cause__ is not None:
        return _reason(error.__cause__)
    if isinstance(error, TypeError) and "types outside the supported" in text:
        named = re.search(r"GLOBAL (\S+)", str(error.__cause__))
        return (
            f"it refers to {named[1] if named else 'a class'}, which weights-only loading does not know. If you trust "
            f"the module, name it: {_how(named[1] if named else 'MODULE.Class')}; or unset ULTRALYTICS_SAFE_LOAD if "
            "you trust who made the file"
        )
    if isinstance(error, AttributeError) and "Can't get attribute" in text:
        return f"{error}. The class was defined where it cannot be imported; move it to a module and import that first"
    if "TorchScript archive" in text:
        return "it is a TorchScript archive, which is opened as NAME.torchscript"
    if not text:
        return type(error).__name__
    first = text.splitlines()[0].removeprefix("ERROR ❌️ ")
    return f"{type(error).__name__}: {first.partition(' This is an internal miniz error')[0]}"


def _how(cls: str) -> str:
    """How a user names the module of a class."""
    module = cls.rpartition(".")[0]
    return f"import={module} on the command line, or yolomix.register(...) of its classes in a script"


def _contents(checkpoint: dict[str, Any]) -> str:
    """What a file without a model holds instead."""
    inner = checkpoint.get("ema") or checkpoint.get("model") or checkpoint
    tensors = []
    if isinstance(inner, dict):
        tensors = [value for value in inner.values() if isinstance(value, Tensor)]
    if tensors:
        return (
            f"{len(tensors)} tensors (a state dict): build the model from its YAML and give them to "
            "model.model.load_state_dict(...)"
        )
    return f"{type(inner).__name__} with {', '.join(map(str, checkpoint)) or 'nothing'}"
