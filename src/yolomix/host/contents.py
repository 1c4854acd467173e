"""What a checkpoint has to hold for Ultralytics to open it, and whether its bytes are those that were saved."""

from __future__ import annotations

import contextlib
import threading
import zipfile
from collections.abc import Iterator
from numbers import Real
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from ultralytics import cfg
from ultralytics.nn import tasks

from yolomix.host.fork_rows import shown

# One weights-only loading at a time: what PyTorch may construct in it is one list for the whole process.
LOADING = threading.RLock()
BLOCK = 1 << 20  # bytes that are read at once
SCALE = "a scale is [depth, width, max_channels], as in n: [0.33, 0.25, 1024]"
COUNTS = ("nc", "nl", "no", "reg_max")  # attributes of a detection head


def damaged(file: str | Path) -> str | None:
    """What in a zip file is not as it was saved, None where all is: an entry that does not fit its checksum, the start.

    PyTorch does not compare them, so that a bit that fell over on a disk is a weight that nobody knows to be wrong. And
    it reads the archive at the start of a file, where others read the one at its end.

    >>> with zipfile.ZipFile("whole.pt", "w") as archive:
    ...     archive.writestr("data/0", b"weights")
    >>> raw = Path("whole.pt").read_bytes()
    >>> _ = Path("rotten.pt").write_bytes(raw.replace(b"weights", b"wEights", 1))
    >>> damaged("whole.pt"), damaged("rotten.pt")
    (None, 'data/0 inside it')
    >>> _ = Path("twice.pt").write_bytes(2 * raw)
    >>> damaged("twice.pt")
    'what stands in front of its archive'
    """
    # Whatever else is wrong with it, who opens it says so.
    with contextlib.suppress(OSError, ValueError, RuntimeError, zipfile.BadZipFile), zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if entries and min(entry.header_offset for entry in entries) > 0:
            return "what stands in front of its archive"
        for entry in entries:
            # Without one, it is 0: torch.serialization.set_crc32_options(False).
            has_checksum = entry.CRC != 0 and entry.compress_type == zipfile.ZIP_STORED
            if has_checksum and not _is_whole(archive, entry):
                return f"{entry.filename} inside it"
    return None


def fault(checkpoint: dict[str, Any]) -> str | None:
    """What keeps a checkpoint from being used, or None.

    >>> model = tasks.DetectionModel("yolo11n.yaml", verbose=False)
    >>> fault({"model": model})
    >>> model.names = 80
    >>> fault({"model": model})
    'its names are 80, and have to map class indices to names'
    """
    args = checkpoint.get("train_args", {})
    if not isinstance(args, dict) or not all(isinstance(name, str) for name in args):
        return f"its train_args are {shown(args)}, and have to map names to values"
    if type(checkpoint.get("epoch", -1)) is not int:
        return f"its epoch is {shown(checkpoint['epoch'])}, and has to be a whole number"
    average = checkpoint.get("ema")
    if not isinstance(average, nn.Module | None):
        return f"its ema is {shown(average)}, and has to be a model or None"
    model = model_of(checkpoint)
    if type(model).__module__.startswith("torch.nn."):
        return f"it holds layers ({type(model).__name__}) and no model, as torch.save(model.model, ...) leaves them"
    if isinstance(model, tasks.BaseModel):
        return _model_fault(model)
    return None


def model_of(checkpoint: dict[str, Any]) -> Any:
    """The model of a checkpoint: its average, or itself; None where there is neither.

    >>> model_of({"ema": None, "model": 3})
    3
    """
    average = checkpoint.get("ema")
    return average if isinstance(average, nn.Module) else checkpoint.get("model")


def names_fault(names: object) -> str | None:
    """What is wrong with the class names of a model, or None.

    >>> names_fault({"a": 1})
    "its names are {'a': 1}, and have to map class indices to names"
    """
    fits = isinstance(names, dict) and all(type(i) is int and isinstance(name, str) for i, name in names.items())
    fits = fits or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    return None if fits else f"its names are {shown(names)}, and have to map class indices to names"


def scale_fault(model: dict[str, Any]) -> str | None:
    """What is wrong with the scale that a model dictionary uses, its first one where it names none, or None.

    >>> scale_fault({"scales": {"n": [0.5, 0.25]}})
    'scales: n is [0.5, 0.25]; a scale is [depth, width, max_channels], as in n: [0.33, 0.25, 1024]'
    """
    scales = model.get("scales") or {}
    if not isinstance(scales, dict):
        return f"scales is {shown(scales)}; it maps letters to scales, and {SCALE}"
    used = model.get("scale") or next(iter(scales), None)
    if used not in list(scales):  # what is no key has no hash
        return f"no scale {shown(used)}; its scales are {', '.join(map(str, scales))}" if scales else None
    scale = scales[used]
    if not isinstance(scale, list | tuple) or len(scale) < 3 or not all(map(is_number, scale[:3])):
        return f"scales: {used} is {shown(scale)}; {SCALE}"
    return None


def is_number(value: object) -> bool:
    """Whether it is a real number, which True is not."""
    return isinstance(value, Real) and not isinstance(value, bool)


def _is_whole(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bool:
    try:
        with archive.open(entry) as file:
            while file.read(BLOCK):
                pass
    except zipfile.BadZipFile:
        return False
    return True


def _model_fault(model: Any) -> str | None:
    for owner in _owners(model):
        for name, child in owner._modules.items():
            if not isinstance(child, nn.Module | None):
                return f"its part {name!r} of a {type(owner).__name__} is {shown(child)}, and has to be a module"
        for name, tensor in {**owner._parameters, **owner._buffers}.items():
            if not isinstance(tensor, Tensor | None):
                return f"its {name!r} of a {type(owner).__name__} is {shown(tensor)}, and has to be a tensor"
    layers = vars(model).get("_modules", {}).get("model")
    if not isinstance(layers, nn.Sequential) or not len(layers):
        return f"its layers are {shown(layers)}, and have to be a Sequential"
    return _rows_fault(model) or _layers_fault(model) or _head_fault(layers[-1])


def _owners(model: nn.Module) -> Iterator[Any]:
    """The modules that can be reached, each once; children that are none are not entered."""
    todo: list[Any] = [model]
    seen = set[int]()
    while todo:
        owner = todo.pop()
        if id(owner) not in seen:
            seen.add(id(owner))
            todo += [child for child in owner._modules.values() if isinstance(child, nn.Module)]
            yield owner


def _rows_fault(model: Any) -> str | None:
    rows = getattr(model, "yaml", None)
    if not isinstance(rows, dict) or not all(isinstance(rows.get(part), list) for part in ("backbone", "head")):
        return f"its yaml is {shown(rows)}, and has to be a model dictionary with backbone and head"
    for row in [*rows["backbone"], *rows["head"]]:
        if not isinstance(row, list | tuple) or len(row) != 4:
            return f"a row of its yaml is {shown(row)}, and a row is [from, repeats, name, [arguments]]"
    if wrong := scale_fault(rows) or names_fault(getattr(model, "names", {})):
        return wrong
    task = getattr(model, "task", "detect")
    if task not in cfg.TASKS:
        return f"its task is {shown(task)}, and has to be one of {', '.join(sorted(cfg.TASKS))}"
    if not isinstance(stride := getattr(model, "stride", None), Tensor | None):
        return f"its stride is {shown(stride)}, and has to be a tensor"
    return None


def _layers_fault(model: Any) -> str | None:
    for index, layer in enumerate(model.model):
        reads = getattr(layer, "f", -1)
        sources = reads if isinstance(reads, list | tuple) else [reads]
        if not sources or not all(type(j) is int and -index - 1 <= j < index for j in sources):
            return f"layer {index} ({type(layer).__name__}) reads {shown(reads)}, and has to read layers before it"
        if getattr(layer, "i", index) != index:
            return f"layer {index} ({type(layer).__name__}) says that it is layer {shown(layer.i)}"
    save = getattr(model, "save", None)
    if not isinstance(save, list | set | tuple) or not all(type(j) is int for j in save):
        return f"its save is {shown(save)}, and has to be a list of layer indices"
    return None


def _head_fault(head: nn.Module) -> str | None:
    for name in COUNTS:
        value = getattr(head, name, 1)
        if type(value) is not int or value < 1:
            return f"{name} of its {type(head).__name__} is {shown(value)}, and has to be a whole number from 1 on"
    stride = getattr(head, "stride", None)
    if not isinstance(stride, Tensor | None):
        return f"stride of its {type(head).__name__} is {shown(stride)}, and has to be a tensor"
    return None
