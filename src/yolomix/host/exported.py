"""Exported files: what they say about themselves, and the PyTorch model that has to give the same as one of them."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ultralytics.nn.modules import Classify, RTDETRDecoder
from ultralytics.utils import checks

from yolomix.host.weights import Model

PRECISIONS = {16: "FP16", "16": "FP16", 8: "INT8", "8": "INT8", "w8a16": "INT8", "w8a32": "INT8"}


@dataclass(frozen=True)
class Contents:
    """What an exported file says about itself.

    Attributes:
        task: what the model does.
        names: of its classes, by index.
        imgsz: height and width of the images that it takes, in pixels.
        batch: how many it takes at once.
        stride: the largest, in pixels.
        channels: of an image.
        nms: whether suppression is part of it.
        end2end: whether its head needs no suppression; None where the version of Ultralytics does not write it.
        dynamic: whether it takes other sizes and batches.
        precision: ``FP32``, ``FP16`` or ``INT8``.
    """

    task: str
    names: Mapping[int, str]
    imgsz: tuple[int, int]
    batch: int = 1
    stride: int = 32
    channels: int = 3
    nms: bool = False
    end2end: bool | None = None
    dynamic: bool = False
    precision: str = "FP32"

    @classmethod
    def of(cls, metadata: Mapping[str, Any], *, dynamic: bool = False, half: bool = False) -> Contents:
        """From the metadata that Ultralytics wrote.

        >>> Contents.of({"task": "detect", "names": {"0": "cat"}, "imgsz": [64, 96], "args": {"quantize": 8}}).precision
        'INT8'

        Args:
            metadata: values may have passed through JSON, which has texts for keys.
            dynamic: what the graph itself says; older Ultralytics writes none.
            half: the same.

        Raises:
            ValueError: task, names or image size are missing.
        """
        missing = [name for name in ("task", "names", "imgsz") if not metadata.get(name)]
        if missing:
            raise ValueError(f"it does not say its {', '.join(missing)}, as every file does that Ultralytics exports")
        size = metadata["imgsz"]
        height, width = (size, size) if isinstance(size, int) else size
        args = metadata.get("args") or {}
        nms = bool(args.get("nms"))
        fallback = "FP16" if half or args.get("half") else "INT8" if args.get("int8") else "FP32"
        return cls(
            task=metadata["task"],
            names={int(index): str(name) for index, name in dict(metadata["names"]).items()},
            imgsz=(int(height), int(width)),
            batch=int(metadata.get("batch", 1)),
            stride=int(metadata.get("stride", 32)),
            channels=int(metadata.get("channels", 3)),
            nms=nms,
            end2end=bool(metadata["end2end"]) and not nms if "end2end" in metadata else None,
            dynamic=bool(args.get("dynamic", dynamic)),
            precision=PRECISIONS.get(args.get("quantize"), fallback),
        )


def as_exported(model: Model, contents: Contents, rows: int | None = None) -> Model:
    """The model as the exporter had it: a copy in float32, fused, whose head gives what the file gives.

    Args:
        model: of Ultralytics.
        contents: what the file says.
        rows: how many detections a head without suppression gives; None leaves its own number.
    """
    made = deepcopy(model).cpu().float().eval()
    if contents.end2end is not None and hasattr(made, "end2end"):
        made.end2end = contents.end2end
    for parameter in made.parameters():
        parameter.requires_grad_(False)  # before it is fused, so that what is made of them can be copied
    made = made.fuse(verbose=False)
    for module in made.modules():
        if hasattr(type(module), "export"):
            module.export, module.format = True, "onnx"  # nothing that is done for one runtime alone
        if hasattr(type(module), "shape"):
            module.shape = None  # of the anchors that are kept
        if rows is not None and hasattr(type(module), "max_det"):
            module.max_det = rows
    return made


def layout(model: Model, contents: Contents) -> str:
    """How the outputs of a model are laid out, in a word.

    ``grid`` is (B, 4 + classes + more, positions), boxes by centre and size in pixels. ``rows`` is (B, detections, 6 +
    more) in the order of scores, boxes by corners in pixels. ``queries`` is (B, queries, 4 + classes), boxes by centre
    and size in fractions of the image, and ``ranked queries`` (B, queries, 6) the same in the order of scores.
    ``classes`` is (B, classes), and ``other`` anything else.
    """
    head = model.model[-1]
    if contents.end2end or (contents.end2end is None and getattr(head, "end2end", False)):
        return "rows"
    if isinstance(head, RTDETRDecoder):
        return "ranked queries" if hasattr(type(head), "max_det") else "queries"
    if isinstance(head, Classify):
        return "classes"
    return "grid" if contents.task in ("detect", "segment", "pose", "obb") else "other"


def rounded(imgsz: Any, stride: int) -> tuple[int, int]:
    """Height and width as Ultralytics rounds them up to the stride.

    >>> rounded(100, 32)
    (128, 128)
    """
    height, width = checks.check_imgsz(imgsz, stride=stride, min_dim=2)
    return int(height), int(width)


def megabytes(file: Path) -> float:
    """The size of an exported file, or of all that is in its folder, in megabytes of a million bytes."""
    parts = [one for one in file.rglob("*") if one.is_file()] if file.is_dir() else [file]
    return sum(one.stat().st_size for one in parts) / 1e6
