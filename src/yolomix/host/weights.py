"""Models of Ultralytics in memory and on disk: read, build, load by name, write."""

from __future__ import annotations

import hashlib
import io
from copy import deepcopy
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
import ultralytics
from torch import nn
from ultralytics.nn import tasks

from yolomix import files
from yolomix.host import original

Record = dict[str, str]
RECORD = "yolomix"  # the key of a checkpoint that holds it

Model = Any  # a model of Ultralytics: an nn.Module that keeps its layers in ``model``

# What a model made by `like` has of its own: its rows, what follows from them, what belongs to a file or a training.
OWN = ("yaml", "save", "stride", "training", "criterion", "pt_path")

# The model's class in ``ultralytics.nn.tasks``: of a head that has one of its own, else of the task.
OF_HEAD = {
    "RTDETRDecoder": "RTDETRDetectionModel",
    "WorldDetect": "WorldModel",
    "YOLOEDetect": "YOLOEModel",
    "YOLOESegment": "YOLOESegModel",
}
OF_TASK = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "classify": "ClassificationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
}


def read(file: str | Path) -> Model:
    """The model of a checkpoint, in float32 and eval mode, its training arguments in ``model.args``."""
    return _loaded(file)[0]


def is_finished(file: str | Path) -> bool:
    """Whether a checkpoint has no state of a training any more, as Ultralytics leaves it at the end."""
    found = _loaded(file)[1]
    return found.get("epoch", -1) < 0 or found.get("optimizer") is None


def version_of(file: str | Path) -> str:
    """The version of Ultralytics that wrote a checkpoint; empty if it does not say."""
    return str(_loaded(file)[1].get("version") or "")


def from_yaml(name: str | Path) -> Model:
    """A new model from the name of a model YAML.

    >>> from_yaml("yolov8n-cls.yaml").task
    'classify'

    Raises:
        ValueError: the name means no model YAML, but a folder or an exported file.
    """
    model = ultralytics.YOLO(str(name)).model
    if not isinstance(model, nn.Module):
        raise ValueError(f"{name} is no model YAML; such a file ends in .yaml and has backbone and head")
    return model


def from_rows(model: dict[str, Any]) -> Model:
    """A new model from a model dictionary, in eval mode; no random state changes.

    >>> rows = {"nc": 2, "backbone": [[-1, 1, "Conv", [16, 3, 2]]], "head": [[[0], 1, "Detect", ["nc"]]]}
    >>> type(from_rows(rows)).__name__
    'DetectionModel'
    """
    head = [*model["backbone"], *model["head"]][-1][2]
    kind = OF_HEAD.get(head) or OF_TASK[tasks.guess_model_task(model)]
    with torch.random.fork_rng(devices=[]):
        made = getattr(tasks, kind)(deepcopy(model), ch=model.get("channels", model.get("ch", 3)), verbose=False)
    return made.eval()


def like(source: Model, model: dict[str, Any], seed: int) -> Model:
    """A model of the source's kind, in eval mode, with other rows and with everything else that the source holds.

    >>> source = from_yaml("yolov8n-cls.yaml")
    >>> source.names = {0: "cat"}
    >>> made = like(source, {**source.yaml, "nc": 1}, seed=0)
    >>> type(made).__name__, made.names, made.yaml["nc"]
    ('ClassificationModel', {0: 'cat'}, 1)

    Args:
        source: a model of Ultralytics.
        model: the model dictionary to build.
        seed: for the init of the new model; no other random state changes.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        target = type(source)(deepcopy(model), ch=model.get("channels", model.get("ch", 3)), verbose=False)
    for name, value in vars(source).items():
        if not name.startswith("_") and name not in OWN:
            setattr(target, name, value)
    return target.eval()


def load_by_name(target: Model, source: Model) -> None:
    """Ultralytics' own loading, by name and shape, without its line in the log."""
    original.native(tasks, "BaseModel.load")(target, source, verbose=False)


def write(model: Model, file: str | Path, record: Record | None = None) -> Path:
    """Save a model as a checkpoint that stock Ultralytics predicts with and trains from.

    >>> file = write(from_yaml("yolov8n-cls.yaml"), "start.pt", {"base": "of what"})
    >>> is_finished(file), read(file).task, record_of(file)["base"]
    (True, 'classify', 'of what')

    Args:
        model: what is saved.
        file: its name.
        record: what :func:`record_of` will find in the file, as long as its weights are these.

    Raises:
        OSError: the file cannot be written; what stood there is untouched.
    """
    args = getattr(model, "args", {})
    settings = args if isinstance(args, dict) else vars(args)
    content = {
        "epoch": -1,
        "best_fitness": None,
        "model": model,
        "ema": None,
        "updates": None,
        "optimizer": None,
        "train_args": {**settings, "task": model.task},
        "date": datetime.now(UTC).isoformat(),
        "version": ultralytics.__version__,
    }
    if record is not None:
        content[RECORD] = {**record, "weights": _digest(model)}
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return files.write(file, buffer.getvalue())


def record_of(file: str | Path) -> Record | None:
    """What :func:`write` recorded in a checkpoint; None without a record, or if its weights have changed since."""
    model, content = _loaded(file)
    record = content.get(RECORD)
    if not isinstance(record, dict) or record.get("weights") != _digest(model):
        return None
    return record


def is_layered(model: Any) -> bool:
    """Whether a model keeps its layers as Ultralytics does.

    >>> is_layered(from_yaml("yolov8n-cls.yaml")), is_layered(nn.Linear(2, 2))
    (True, False)
    """
    return isinstance(getattr(model, "model", None), nn.Sequential)


def _digest(model: Model) -> str:
    """The SHA-256 of a model's tensors, as they are in float32."""
    found = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        found.update(name.encode())
        found.update(tensor.detach().cpu().contiguous().float().numpy().tobytes())
    return found.hexdigest()


def _loaded(file: str | Path) -> Any:
    """The model, and everything that the checkpoint holds."""
    # The second name is that of Ultralytics 8.3.
    loader = getattr(tasks, "load_checkpoint", None) or tasks.attempt_load_one_weight
    return loader(str(file))
