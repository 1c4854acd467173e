"""Checkpoints of the official Mamba-YOLO fork.

They pickle classes of the fork, which nobody else can import. They are read without running any of the file's code:
PyTorch's weights-only loader gets an inert stand-in for every class of a known package, and refuses all others. The
tensors and the model YAML that remain are enough to rebuild the model from our blocks.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import zipfile
import zlib
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn
from ultralytics.nn import tasks

from yolomix.host import contents, fork_rows

LOGGER = logging.getLogger("yolomix")

FORK = ("ultralytics.nn.modules.mamba_yolo", "ultralytics.nn.modules.common_utils_mbyolo")
KNOWN = ("ultralytics.", "timm.", "torch.nn.", "numpy.", "pathlib.")  # packages whose classes get a stand-in
KNOWN_NAMES = ("builtins.getattr", "functools.partial")  # how the fork pickles a bound method; never called
MODELS = ("DetectionModel", "SegmentationModel", "PoseModel", "OBBModel", "ClassificationModel")
MODEL_KEYS = ("nc", "ch", "scales", "scale", "depth_multiple", "width_multiple", "kpt_shape", "backbone", "head")
PLAIN = (str, int, float, bool, type(None))
DEPTH, MODULES = 30, 20_000  # modules inside modules, and in all; the largest model of the fork has 10 and 2,000
LONGEST = 1 << 26  # bytes of a pickle in which its name is looked for
SHOWN = 5  # tensors that do not fit, in an error


class RefusedError(pickle.UnpicklingError):
    """A file that wants to run something that no checkpoint of a model needs."""


class StandIn:
    """What stands for an object of a class that is not loaded: it keeps the object's attributes and does nothing.

    >>> stand_in = StandIn("whatever")
    >>> stand_in.__setstate__({"yaml": {"nc": 80}})
    >>> stand_in.yaml
    {'nc': 80}
    """

    def __init__(self, *args: object) -> None:
        """Arguments are accepted and forgotten."""

    def __setstate__(self, state: object) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


@dataclass(frozen=True)
class Foreign:
    """What a checkpoint of the fork holds.

    Attributes:
        file: where it was read.
        kind: the class of its model, one of ``MODELS``.
        model: the model dictionary, as its model YAML had it.
        tensors: its state dict.
        names: class names by class index.
        train_args: those arguments of the training that are plain values.
        stand_ins: the classes that were not loaded.
    """

    file: str
    kind: str
    model: dict[str, Any]
    tensors: dict[str, Tensor]
    names: dict[int, str]
    train_args: dict[str, Any]
    stand_ins: list[str]


def is_foreign(file: str | Path) -> bool:
    """Whether a file says that it is a checkpoint of the fork: a pickle in it names its modules. Nothing is loaded.

    However it is packed: what ``torch.save`` does not write is refused by :func:`read`, not taken for an ordinary file.
    """
    with contextlib.suppress(OSError), open(file, "rb") as whole:
        if _is_marked(whole):
            return True
    # What a reader of archives says to a damaged one is of no interest: PyTorch reads it in its own way.
    with contextlib.suppress(OSError, ValueError, RuntimeError, zipfile.BadZipFile, zlib.error):
        return _is_marked_inside(file)
    return False


def _is_marked_inside(file: str | Path) -> bool:
    """Whether an entry says so that is compressed, or far behind the beginning."""
    with zipfile.ZipFile(file) as archive:
        for name in archive.namelist():
            if name.endswith("data.pkl"):
                with archive.open(name) as entry:
                    if _is_marked(entry):
                        return True
    return False


def _is_marked(stream: IO[bytes]) -> bool:
    content = stream.read(LONGEST)
    return any(mark.encode() in content for mark in FORK)


def checkpoint(file: str | Path) -> dict[str, Any]:
    """A checkpoint of the fork as one of ours, in the form of ``torch_safe_load``; says in the log what was done.

    Raises:
        RefusedError: the file names something outside of ``KNOWN``; nothing of it was run.
        TypeError: it holds no model of the fork.
        ValueError: its weights do not fit the model that its YAML describes.
    """
    found = read(file)
    model = rebuild(found)
    LOGGER.info(
        "%s is a checkpoint of the Mamba-YOLO fork: %s rebuilt from its YAML with yolomix's blocks, %d tensors loaded "
        "by name, none missing, none left over; %d classes of the file were not loaded (%s)",
        file,
        found.kind,
        len(found.tensors),
        len(found.stand_ins),
        ", ".join(name.rpartition(".")[2] for name in found.stand_ins),
    )
    return {"model": model, "ema": None, "train_args": found.train_args, "epoch": -1, "optimizer": None}


def read(file: str | Path) -> Foreign:
    """The tensors and plain data of a checkpoint of the fork; arguments and errors as in :func:`checkpoint`."""
    _check_packing(file)
    with _nothing_allowed():
        return _read(file)


def _read(file: str | Path) -> Foreign:
    with _reading(file):
        unsafe = sorted(torch.serialization.get_unsafe_globals_in_checkpoint(str(file)))
    if refused := [name for name in unsafe if not name.startswith(KNOWN) and name not in KNOWN_NAMES]:
        raise RefusedError(
            f"{file} is refused: loading it would run {', '.join(refused)}, which no checkpoint of a model needs. "
            "Nothing was run. Do not open it with torch.load unless you know who made it"
        )
    stand_ins = {name: type(name.rpartition(".")[2], (StandIn,), {}) for name in unsafe}
    with _reading(file), torch.serialization.safe_globals([(cls, name) for name, cls in stand_ins.items()]):
        content = torch.load(file, map_location="cpu", weights_only=True)
    model = contents.model_of(content) if isinstance(content, dict) else content
    kind = type(model).__name__
    if kind not in MODELS or not isinstance(model, StandIn):
        raise TypeError(
            f"{file} holds no model of the Mamba-YOLO fork but {kind}; it has to be a {' or '.join(MODELS)}"
        )
    names = getattr(model, "names", {})
    if wrong := contents.names_fault(names):
        raise RefusedError(f"{file} is refused: {wrong}")
    tensors = dict(_tensors(file, model))
    if sum(t.numel() for t in tensors.values()) > Path(file).stat().st_size:  # no element takes less than a byte
        raise RefusedError(f"{file} is refused: its tensors have more elements than the file has bytes")
    return Foreign(
        file=str(file),
        kind=kind,
        model=_model_dictionary(file, getattr(model, "yaml", None)),
        tensors=tensors,
        names=dict(names) if isinstance(names, dict) else dict(enumerate(names)),
        train_args=_plain_items(content.get("train_args") if isinstance(content, dict) else None),
        stand_ins=unsafe,
    )


def _check_packing(file: str | Path) -> None:
    """Refuse what torch.save does not write: entries that grow while they are read, or two of one name."""
    with _reading(file), zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise ValueError("entries are compressed")
        if len({entry.filename for entry in entries}) < len(entries):
            raise ValueError("two entries have one name")


@contextlib.contextmanager
def _nothing_allowed() -> Iterator[None]:
    """Take back, for a while, what this process has allowed weights-only loading to construct.

    Ultralytics' safe loading allows its classes for the life of the process, and an allowed class gets no stand-in.
    """
    with contents.LOADING:
        allowed = torch.serialization.get_safe_globals()
        torch.serialization.clear_safe_globals()
        try:
            yield
        finally:
            torch.serialization.add_safe_globals(allowed)


@contextlib.contextmanager
def _reading(file: str | Path) -> Iterator[None]:
    """Say in words whatever a damaged or forged pickle makes of the reader."""
    try:
        yield
    except Exception as error:  # any opcode may be wrong, and so any exception come
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise RefusedError(
            f"{file} is refused: it is no pickle that torch.save writes ({reason[:200]}). Nothing was run. Copy it "
            "again from where it came from"
        ) from error


def rebuild(found: Foreign) -> nn.Module:
    """The model of a checkpoint of the fork, built from its YAML with our blocks and loaded strictly."""
    d = found.model
    channels = d.get("ch", 3)
    if misfits := _misfits(found, channels):
        more = f" and {len(misfits) - SHOWN} more" if len(misfits) > SHOWN else ""
        raise ValueError(
            f"the weights in {found.file} do not fit the model that its YAML describes: {'; '.join(misfits[:SHOWN])}"
            f"{more}. (The fork does not scale a width that equals the number of classes; such models have to be "
            "trained anew.)"
        )
    model: nn.Module = getattr(tasks, found.kind)(d, ch=channels, verbose=False)
    model.load_state_dict(found.tensors)
    model.names = found.names  # type: ignore[assignment]
    return model


def _misfits(found: Foreign, channels: int) -> list[str]:
    """Tensors that the model of the YAML and the file do not share, with their shapes.

    The layers are built on the meta device: a YAML may describe a model that no memory holds.
    """
    with torch.device("meta"):
        layers, _ = tasks.parse_model(deepcopy(found.model), ch=channels, verbose=False)
    wanted = {f"model.{name}": tuple(tensor.shape) for name, tensor in layers.state_dict().items()}
    held = {name: tuple(tensor.shape) for name, tensor in found.tensors.items()}
    wrong = []
    for name in sorted(wanted.keys() | held.keys()):
        if wanted.get(name) != held.get(name):
            in_file, in_model = held.get(name, "missing"), wanted.get(name, "unknown")
            wrong.append(f"{name} is {in_file} in the file and {in_model} in the model")
    return wrong


def _plain_items(args: object) -> dict[str, Any]:
    if not isinstance(args, dict):
        return {}
    # A dataset at an address would be fetched by the first validation, and may name code that prepares it.
    return {k: v for k, v in args.items() if isinstance(k, str) and isinstance(v, PLAIN) and "://" not in str(v)}


def _model_dictionary(file: str | Path, given: object) -> dict[str, Any]:
    """The model dictionary inside a checkpoint, reduced to what describes layers and nothing else."""
    if not isinstance(given, dict) or not {"backbone", "head"} <= given.keys():
        raise TypeError(f"{file} holds no YAML of its model, from which it could be rebuilt")
    kept = {key: given[key] for key in MODEL_KEYS if key in given}
    if wrong := fork_rows.fault(kept):
        raise RefusedError(
            f"{file} is refused: in the YAML inside it {wrong}. Nothing was built; what a row may name is listed in "
            "yolomix/host/fork_rows.py"
        )
    return {**kept, "yaml_file": Path(file).name}


def _tensors(file: str | Path, model: StandIn) -> Iterator[tuple[str, Tensor]]:
    """The state dict of a tree of stand-ins."""
    todo, count = [("", 0, model)], 0
    while todo:
        prefix, depth, module = todo.pop()
        count += 1
        state = {name: vars(module).get(name, {}) for name in ("_parameters", "_buffers", "_modules")}
        if depth > DEPTH or count > MODULES or not all(isinstance(part, dict) for part in state.values()):
            raise RefusedError(f"{file} is refused: its modules are no tree of parameters, buffers and modules")
        left_out = vars(module).get("_non_persistent_buffers_set", ())
        for name, tensor in {**state["_parameters"], **state["_buffers"]}.items():
            if isinstance(tensor, Tensor) and name not in left_out:
                yield f"{prefix}{name}", tensor.detach()
        for name, child in state["_modules"].items():
            if isinstance(child, StandIn):
                todo.append((f"{prefix}{name}.", depth + 1, child))
