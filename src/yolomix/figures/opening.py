"""Models and images as every figure takes them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from torch import Tensor, nn

from yolomix import data
from yolomix.host import datasets, names, predicting, weights
from yolomix.host.exported import Contents
from yolomix.host.names import Kind
from yolomix.host.survey import image_size, survey, with_scale
from yolomix.host.yolo import YOLO
from yolomix.records import Conditions
from yolomix.surgery import insertion
from yolomix.surgery.graph import Layer

SAMPLE = 4  # images of the packaged sample, where no source is given
OTHERS = ("heic", "heif", "avif", "dng")  # that not every OpenCV reads
RANDOM = "random weights"


class Subject(NamedTuple):
    """A model to look into.

    Args:
        name: as it was given.
        module: a copy on the CPU, in float32 and eval mode, not fused, whose parameters ask for no gradient.
        layers: what is known of its layers.
        yolo: the model of Ultralytics around it.
    """

    name: str
    module: Any
    layers: tuple[Layer, ...]
    yolo: Any

    @property
    def stride(self) -> int:
        """The largest, in pixels."""
        return int(self.module.stride.max())


class Image(NamedTuple):
    """An image as the models see it.

    Args:
        name: of its file.
        pixels: (1, C, H, W), 0 to 1, with the border that Ultralytics adds.
    """

    name: str
    pixels: Tensor


def opened(models: Any) -> list[Subject]:
    """Models by name, checkpoint, folder of a training, or ``YOLO``; one, or several.

    >>> [subject.layers[0].module for subject in opened("yolov8n-cls.yaml")]
    ['Conv']

    Raises:
        ValueError: none is given, or one is no PyTorch model.
        FileNotFoundError: there is no such model.
    """
    given = list(models) if isinstance(models, list | tuple) else [models]
    if not given:
        raise ValueError("a figure needs a model: models=best.pt, or several")
    return [_opened(one) for one in given]


def _opened(model: Any) -> Subject:
    if isinstance(model, Subject):
        return model
    if isinstance(model, str | Path):
        best = Path(model, "weights", "best.pt")  # of a training whose folder is given
        file = str(best if best.exists() else model)
        if names.resolve(file).kind is Kind.EXPORTED:
            raise ValueError(f"{model} is a file of another runtime, and a figure looks inside: give a .pt or a .yaml")
        yolo: Any = YOLO(file)
    else:
        yolo = model
    module: Any = yolo if weights.is_layered(yolo) else getattr(yolo, "model", None)
    if not weights.is_layered(module):
        raise ValueError(f"a figure needs a model name or a YOLO, got {type(model).__name__}")
    copied = deepcopy(module).cpu().float().eval().requires_grad_(False)
    return Subject(name(model), copied, survey(with_scale(dict(module.yaml))), yolo)


def name(model: Any) -> str:
    """What a model is called: as it was given, or by its file."""
    if isinstance(model, str | Path):
        return str(model)
    return str(getattr(model, "ckpt_path", None) or getattr(model, "model_name", None) or type(model).__name__)


def untrained(subject: Subject, seed: int = 0) -> Subject:
    """The same model with random weights: what of a figure is there without any training."""
    module = weights.like(subject.module, dict(subject.module.yaml), seed).requires_grad_(False)
    if getattr(subject.module, "end2end", False):
        module.end2end = True  # the same branch of its head, which no YAML says
    return subject._replace(name=f"{subject.name}, {RANDOM}", module=module)


def images(subjects: Sequence[Subject], source: str | Path | None, imgsz: int | Sequence[int] | None) -> list[Image]:
    """Images in their letterbox, as predict shows them to a model of one size.

    Args:
        subjects: the models that see them; the task of the first decides how an image is prepared.
        source: an image file or a folder; None takes four images of the packaged sample.
        imgsz: height and width in pixels, or one number for both; None takes that of the first model's training, else
            640.

    Raises:
        FileNotFoundError: there is no image there.
        ValueError: a file is no image, or the size is none.
    """
    first, stride = subjects[0], max(subject.stride for subject in subjects)
    size = whole(trained_at(first.module) if imgsz is None else imgsz, stride)
    contents = Contents(first.module.task, first.module.names, size, stride=stride)
    with tempfile.TemporaryDirectory(prefix="yolomix-figures-", ignore_cleanup_errors=True) as folder:
        given = _sample(Path(folder)) if source is None else found(source)
        shown = predicting.shown(first.yolo, given, contents)
        return [Image(file.name, pixels) for file, pixels in zip(given, shown, strict=True)]


def whole(imgsz: int | Sequence[int], stride: int) -> tuple[int, int]:
    """Height and width in pixels, of whole strides.

    >>> whole(100, 32), whole((64, 70), 32)
    ((128, 128), (64, 96))
    """
    height, width = image_size(imgsz)
    return -(-height // stride) * stride, -(-width // stride) * stride


def trained_at(module: Any) -> int:
    """The image size of a model's training; 640 where it does not say."""
    args = getattr(module, "args", {})
    found = args.get("imgsz") if isinstance(args, dict) else getattr(args, "imgsz", None)
    return found if isinstance(found, int) else 640


def _sample(folder: Path) -> list[Path]:
    data.render(folder, {"val": SAMPLE})
    return sorted((folder / "images" / "val").iterdir())


def found(source: str | Path) -> list[Path]:
    """The images of a source, in order.

    Raises:
        FileNotFoundError: there is no such file or folder, or no image in it.
        ValueError: a file is no image.
    """
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"source={source}: there is no such image or folder")
    files = datasets.images(path) if path.is_dir() else [path]
    for file in files:
        _check_image(file)
    return files


def _check_image(file: Path) -> None:
    """Raise where Ultralytics would look for a package that reads HEIC files."""
    content = np.fromfile(file, np.uint8)
    if file.suffix[1:].lower() in OTHERS:
        return
    if not content.size or cv2.imdecode(content, cv2.IMREAD_GRAYSCALE) is None:
        raise ValueError(f"{file} is no image that can be read")


def at_layers(subject: Subject, at: insertion.At) -> list[int]:
    """The layer indices that ``at`` names, as everywhere in yolomix.

    Raises:
        ValueError: no such layer, or one without a feature map; the message has those that there are.
    """
    points = at.split(",") if isinstance(at, str) else [at] if isinstance(at, int) else at
    numbered = [int(point) if str(point).strip().isdecimal() else str(point).strip() for point in points]
    return insertion.resolve(numbered, subject.layers)


def said(models: Sequence[Subject | str], shown: Sequence[Image], **settings: Any) -> dict[str, Any]:
    """What was done, for the JSON beside a figure."""
    size = "x".join(map(str, shown[0].pixels.shape[2:])) if shown else ""
    return {
        "models": [one if isinstance(one, str) else one.name for one in models],
        "images": [image.name for image in shown],
        "imgsz": size,
        **settings,
        "conditions": Conditions.here().to_dict(),
    }


def layer_of(name: str) -> int | None:
    """The layer that a module is in.

    >>> layer_of("model.4.m.0"), layer_of("")
    (4, None)
    """
    parts = name.split(".")
    return int(parts[1]) if parts[0] == "model" and len(parts) > 1 and parts[1].isdecimal() else None


def check_places(subject: Subject, name: str, size: Sequence[int]) -> None:
    """Raise unless a module's map, of a height and width, has places to point at."""
    if max(size) == 1:
        raise ValueError(
            f"{subject.layers[layer_of(name) or 0]} of {subject.name} has a map of one position, which points nowhere; "
            "a larger imgsz= gives more, and so do layers of a smaller stride: at=p3"
        )


def maps(subject: Subject, x: Tensor, layers: Sequence[int]) -> dict[int, Tensor]:
    """The feature maps (B, C, H, W) that layers give for images (B, C, H, W), with what gradients need."""
    with keeping(subject, layers) as found:
        subject.module(x)
    return found


@contextmanager
def keeping(subject: Subject, layers: Sequence[int]) -> Iterator[dict[int, Tensor]]:
    """What layers give while the model runs inside the block, by their index."""
    found = dict[int, Tensor]()
    handles = []
    for index in layers:
        handles.append(subject.module.model[index].register_forward_hook(partial(_keep, found, index)))
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def _keep(found: dict[int, Tensor], index: int, module: nn.Module, inputs: Any, output: Tensor) -> None:
    found[index] = output
