"""What a run of a study is told, and what is left of it: one small file from which every report is made."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from yolomix import files
from yolomix.showing import Shown

Array = npt.NDArray[Any]

SPEC = "spec.json"  # names inside a run's folder
RECORD = "record.npz"
FORMAT = 1  # counts up whenever a record written before could be misread
THRESHOLDS = 10  # IoU 0.50 to 0.95, as Ultralytics matches
STATUSES = ("finished", "failed", "diverged")
SPLITS = ("test", "val")
WEIGHTS = ("last", "best")


@dataclass(frozen=True)
class RunSpec:
    """Everything that one run needs; it stands as ``spec.json`` in the run's folder.

    >>> spec = RunSpec("base", "yolo11n.yaml", 0, "data.yaml", "test", "last", {"epochs": 1}, "runs/base-0", "k", {})
    >>> RunSpec.read(spec.write(".")) == spec
    True

    Attributes:
        arm: its name in the plan.
        model: what ``YOLO()`` takes: a checkpoint of initial weights, any other checkpoint, or a model YAML; among the
            specs of a study relative to its folder.
        seed: of everything random.
        data: the path of the dataset YAML; of a classifier the dataset's folder; among the specs of a study its name.
        split: the split of the verdict, one of ``SPLITS``.
        weights: which are evaluated there, one of ``WEIGHTS``.
        arguments: of the training, as Ultralytics takes them.
        folder: where it runs, relative to the study's folder.
        key: hash of all that the run depends on.
        facts: what the report needs of arm and dataset, and ``threads``, how many the run may use.

    Raises:
        ValueError: an unknown split or other weights.
    """

    arm: str
    model: str
    seed: int
    data: str
    split: str
    weights: str
    arguments: Mapping[str, Any]
    folder: str
    key: str
    facts: Mapping[str, Any]

    def __post_init__(self) -> None:
        for name, value, choices in (("split", self.split, SPLITS), ("weights", self.weights, WEIGHTS)):
            if value not in choices:
                raise ValueError(f"a run needs {name} {' or '.join(choices)}, got {value!r}")

    def write(self, folder: str | Path) -> Path:
        """Put it into the run's folder, which exists; returns the file.

        Raises:
            OSError: the file cannot be written.
        """
        return files.write_text(Path(folder) / SPEC, json.dumps(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, file: str | Path) -> RunSpec:
        """The spec in a file that :meth:`write` wrote.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is no such file, or fields are missing or unknown.
        """
        try:
            found = json.loads(Path(file).read_text("utf-8"))
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{file} has to be JSON as the study wrote it, got: {error}; start the study again"
            ) from error
        return cls.from_dict(found, str(file))

    @classmethod
    def from_dict(cls, found: object, where: str) -> RunSpec:
        """The spec in plain values.

        Raises:
            ValueError: fields are missing or unknown; the text names them and ``where`` they stood.
        """
        wanted = {each.name for each in fields(cls)}
        names = set(found) if isinstance(found, dict) else set()
        if not isinstance(found, dict) or names != wanted:
            wrong = f"missing {sorted(wanted - names)}, unknown {sorted(names - wanted)}"
            raise ValueError(f"{where} has to hold the fields of a run, got {wrong}; start the study again")
        return cls(**found)


_NO_TP = partial(np.zeros, (0, THRESHOLDS), np.bool_)
_NO_CONFIDENCE = partial(np.zeros, 0, np.float32)
_NO_CLASS = partial(np.zeros, 0, np.int64)
_NO_IMAGE = partial(np.zeros, 0, np.int32)
_NO_CORRECT = partial(np.zeros, (0, 2), np.bool_)


@dataclass(frozen=True, eq=False, repr=False)
class ImageStatistics(Shown):
    """Detections of one split, matched to labels within each image; of a classifier what it got right.

    n detections, m labels, T = 10 IoU thresholds from 0.50 to 0.95.

    >>> ImageStatistics(images=("a.jpg", "b.jpg"), classes=("cat",))
    <ImageStatistics 2 images, 1 classes, 0 detections, 0 labels>

    Attributes:
        images: file names, in the order of evaluation.
        classes: names by class index.
        tp: (n, T) bool: the detection is a true positive at that IoU of boxes (of rotated ones: probabilistic IoU).
        confidence: (n,) float32.
        predicted: (n,) int, class index.
        image: (n,) int32, index into ``images``.
        target: (m,) int, class index of every label.
        target_image: (m,) int32, index into ``images``.
        target_area: (m,) float32, area of the label's box in pixels of the image as given.
        other_tp: (n, T) bool by the letter that Ultralytics gives the metrics: ``M`` masks, ``P`` keypoints.
        correct: (images, 2) bool: the class is the first, or among the first five; empty of a detector.

    Raises:
        ValueError: shapes that do not belong together, or an index outside.
    """

    images: tuple[str, ...]
    classes: tuple[str, ...]
    tp: Array = field(default_factory=_NO_TP)
    confidence: Array = field(default_factory=_NO_CONFIDENCE)
    predicted: Array = field(default_factory=_NO_CLASS)
    image: Array = field(default_factory=_NO_IMAGE)
    target: Array = field(default_factory=_NO_CLASS)
    target_image: Array = field(default_factory=_NO_IMAGE)
    target_area: Array = field(default_factory=_NO_CONFIDENCE)
    other_tp: Mapping[str, Array] = field(default_factory=dict)
    correct: Array = field(default_factory=_NO_CORRECT)

    def __post_init__(self) -> None:
        n, m = len(self.tp), len(self.target)
        shapes = {"tp": (n, THRESHOLDS), "confidence": (n,), "predicted": (n,), "image": (n,), "target": (m,)}
        shapes |= {"target_image": (m,), "target_area": (m,)}
        found = {name: getattr(self, name).shape for name in shapes}
        for letter, tp in self.other_tp.items():
            shapes[f"other_tp[{letter!r}]"], found[f"other_tp[{letter!r}]"] = (n, THRESHOLDS), tp.shape
        if len(self.correct):
            shapes["correct"], found["correct"] = (len(self.images), 2), self.correct.shape
        for name, shape in shapes.items():
            if found[name] != shape:
                raise ValueError(f"statistics need {name} of shape {shape}, got {found[name]}")
        for name, size in (("image", len(self.images)), ("target_image", len(self.images))):
            self._check_index(name, size)
        for name in ("predicted", "target"):
            self._check_index(name, len(self.classes))

    def _check_index(self, name: str, size: int) -> None:
        index: Array = getattr(self, name)
        if len(index) and not (index.min() >= 0 and index.max() < size):
            raise ValueError(f"statistics need {name} from 0 to {size - 1}, got {index.min()} to {index.max()}")

    def in_short(self) -> str:
        """How much of everything."""
        counts = f"{len(self.images)} images, {len(self.classes)} classes"
        return f"{counts}, {len(self.tp)} detections, {len(self.target)} labels"

    def arrays(self) -> dict[str, Array]:
        """Every array by its name, those of ``other_tp`` as ``other_tp.M``."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        found = {name: value for name, value in found.items() if isinstance(value, np.ndarray)}
        return found | {f"other_tp.{letter}": tp for letter, tp in self.other_tp.items()}

    @classmethod
    def from_arrays(cls, images: Sequence[str], classes: Sequence[str], arrays: Mapping[str, Array]) -> ImageStatistics:
        """What :meth:`arrays` took apart."""
        start = "other_tp."
        other = {name.removeprefix(start): value for name, value in arrays.items() if name.startswith(start)}
        own = {name: value for name, value in arrays.items() if not name.startswith(start)}
        return cls(tuple(images), tuple(classes), other_tp=other, **own)


@dataclass(frozen=True, eq=False, repr=False)
class Record(Shown):
    """What is left of a run, and enough for every report: weights may be deleted.

    Attributes:
        spec: what it was told.
        status: one of ``STATUSES``.
        reason: why it failed or diverged; of a finished run empty, or that it ended early.
        epochs: the metrics of every epoch, under the names of Ultralytics' ``results.csv``.
        arguments: of the training, as Ultralytics saved them.
        conditions: :class:`yolomix.records.Conditions` as plain values.
        seconds: wall-clock time of all its processes.
        cpu_seconds: CPU time of all its processes.
        metrics: Ultralytics' own numbers on the split.
        statistics: None unless it finished.

    Raises:
        ValueError: an unknown status.
    """

    spec: RunSpec
    status: str
    reason: str = ""
    epochs: Sequence[Mapping[str, float]] = ()
    arguments: Mapping[str, Any] = field(default_factory=dict)
    conditions: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    metrics: Mapping[str, float] = field(default_factory=dict)
    statistics: ImageStatistics | None = None

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"a record needs a status out of {', '.join(STATUSES)}, got {self.status!r}")

    def in_short(self) -> str:
        """Which run it was, and how it ended."""
        why = f" ({self.reason})" if self.reason else ""
        return f"{self.spec.arm} seed {self.spec.seed}: {self.status}{why}, {len(self.epochs)} epochs"

    def save(self, path: str | Path) -> Path:
        """Write it, whole or not at all: an ``.npz`` of the arrays and one text in JSON.

        Raises:
            OSError: the file cannot be written.
        """
        plain: dict[str, Any] = {each.name: getattr(self, each.name) for each in fields(self)}
        plain |= {"spec": asdict(self.spec), "statistics": None, "format": FORMAT}
        arrays: dict[str, Any] = {}
        if self.statistics is not None:
            arrays = self.statistics.arrays()
            plain["statistics"] = {"images": self.statistics.images, "classes": self.statistics.classes}
        arrays["json"] = np.frombuffer(json.dumps(plain).encode("utf-8"), np.uint8)
        content = io.BytesIO()
        np.savez_compressed(content, **arrays)
        return files.write(path, content.getvalue())

    @classmethod
    def load(cls, path: str | Path) -> Record:
        """The record in a file; nothing in it is executed.

        Raises:
            FileNotFoundError: it is not there.
            ValueError: it is not whole, or of another version of yolomix.
        """
        try:
            with np.load(path, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            plain = json.loads(arrays.pop("json").tobytes())
            version = plain.pop("format")
        except (zipfile.BadZipFile, ValueError, KeyError, EOFError, AttributeError, TypeError) as error:
            raise ValueError(f"{path} has to be the record of a run, got: {error}; delete it and run again") from error
        if version != FORMAT:
            raise ValueError(f"{path} needs a yolomix that reads records of format {version}, this one reads {FORMAT}")
        names = plain["statistics"]
        if names is not None:
            plain["statistics"] = ImageStatistics.from_arrays(names["images"], names["classes"], arrays)
        return cls(**plain | {"spec": RunSpec.from_dict(plain["spec"], str(path))})
