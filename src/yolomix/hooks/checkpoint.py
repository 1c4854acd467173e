"""Checkpoints: our classes allowed under weights-only loading, and clear errors about files that are none.

Around ``ultralytics.nn.tasks.torch_safe_load``, through which every checkpoint goes.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pickle
import pkgutil
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks

import yolomix.nn
from yolomix.host import contents, entry, foreign
from yolomix.nn import origins
from yolomix.nn.registry import BLOCKS

NEEDED = "a checkpoint is a file that training wrote (last.pt, best.pt) or model.save(...)"


def torch_safe_load(
    native: Callable[..., tuple[dict[str, Any], str]], weight: str | Path, *args: Any, **kwargs: Any
) -> tuple[dict[str, Any], str]:
    """Load a checkpoint as ever: ``(contents, file)``; one of the Mamba-YOLO fork becomes a model of our blocks.

    Raises:
        TypeError: the file is no checkpoint, or is damaged; the text says what it is instead.
        ModuleNotFoundError: a block's own module cannot be imported.
    """
    if os.path.isdir(weight):
        raise TypeError(f"{weight} is a folder; {NEEDED}")
    entry.check_there(weight)
    if (part := contents.damaged(weight)) is not None:
        raise TypeError(
            f"{weight} is damaged: {part} is not what was saved. Copy it again from where it came from, or use another "
            "checkpoint of the training"
        )
    if foreign.is_foreign(weight):
        return foreign.checkpoint(weight), str(weight)
    nothing_is_called: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
    if any(args) or kwargs.get("safe_only") or getattr(tasks, "SAFE_LOAD", False):
        nothing_is_called = _restricted()
    try:
        with nothing_is_called:
            checkpoint, file = native(weight, *args, **kwargs)
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            f"{weight} has a block from the module {error.name!r}, which is not found here: start where it can be "
            "imported, or name its folder in PYTHONPATH",
            name=error.name,
        ) from error
    except FileNotFoundError:
        raise
    except ConnectionError as error:
        address = re.search(r"https?://\S+[^\s.]", str(error))
        raise ConnectionError(
            f"{weight} is not on disk and cannot be downloaded; fetch {address[0] if address else 'it'} on a machine "
            "with a connection and give the path of the file"
        ) from error
    except Exception as error:
        raise TypeError(f"{weight} cannot be read as a checkpoint: {_reason(error)}; {NEEDED}") from error
    if not isinstance(contents.model_of(checkpoint), nn.Module):
        raise TypeError(f"{weight} holds no model but {_contents(checkpoint)}; {NEEDED}")
    if wrong := contents.fault(checkpoint):
        raise TypeError(f"{weight} cannot be used: {wrong}; {NEEDED}")
    return checkpoint, file


@contextlib.contextmanager
def _restricted() -> Iterator[None]:
    """Allow our classes, and refuse to construct a module while a checkpoint is read in this thread.

    ``torch.save`` writes the state of a module, never a call of its class. PyTorch's weights-only loading makes such a
    call for any class that is allowed, and some classes fetch weights or evaluate text in their constructor.
    """
    with contents.LOADING:
        allow_classes()
        native, thread = nn.Module.__init__, threading.get_ident()

        def _init(module: nn.Module, *args: Any, **kwargs: Any) -> None:
            if threading.get_ident() == thread:
                raise pickle.UnpicklingError(f"it calls {type(module).__name__}, which no checkpoint of a model does")
            native(module, *args, **kwargs)

        nn.Module.__init__ = _init  # type: ignore[method-assign,assignment]
        try:
            yield
        finally:
            nn.Module.__init__ = native  # type: ignore[method-assign]


def check_resume(native: Callable[..., Any], trainer: Any, *args: Any) -> Any:
    """``BaseTrainer.check_resume``, which calls every checkpoint not found that it cannot open.

    One that is not there it replaces by the newest ``last.pt`` below the working folder, of whatever training.

    Raises:
        TypeError: the checkpoint is damaged; as :func:`torch_safe_load` says it.
        FileNotFoundError: there is none.
        ValueError: a setting of its training has a value that cannot be used.
    """
    asked = trainer.args.resume
    if isinstance(asked, (str, Path)) and asked and not os.path.exists(asked):
        raise FileNotFoundError(f"{asked} cannot be resumed, it is not there; {NEEDED}")
    try:
        return native(trainer, *args)
    except (FileNotFoundError, TypeError, ValueError, SyntaxError) as error:
        reason = error.__cause__ if isinstance(error, FileNotFoundError) else error
        if not isinstance(reason, (TypeError, ValueError, SyntaxError)):
            raise
        if isinstance(reason, TypeError) and str(asked) in str(reason):  # of the file itself
            raise reason from None
        file = asked if asked is not True else trainer.args.model
        raise ValueError(f"{file} cannot be resumed, the settings of its training cannot be used: {reason}") from reason


def resume_training(native: Callable[..., Any], trainer: Any, ckpt: dict[str, Any] | None) -> Any:
    """``BaseTrainer.resume_training``, which names no file when the state of a training does not fit.

    Raises:
        ValueError: the state of the optimiser, of the average or of the scaler is not one of this model.
    """
    try:
        return native(trainer, ckpt)
    except AssertionError:  # Ultralytics' own: the training is finished
        raise
    except Exception as error:
        file = trainer.args.model
        raise ValueError(
            f"{file} cannot be resumed, the state of its training does not fit: {_reason(error)}. Start a new training "
            f"from its weights: train model={file} without resume"
        ) from error


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
        if called := re.search(r"it calls \w+, which no checkpoint of a model does", str(error.__cause__)):
            return called[0]
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
    inner = next((checkpoint[key] for key in ("ema", "model") if checkpoint.get(key) is not None), checkpoint)
    tensors = []
    if isinstance(inner, dict):
        tensors = [value for value in inner.values() if isinstance(value, Tensor)]
    if tensors:
        return (
            f"{len(tensors)} tensors (a state dict): build the model from its YAML and give them to "
            "model.model.load_state_dict(...)"
        )
    return f"{type(inner).__name__} with {', '.join(map(str, checkpoint)) or 'nothing'}"
