"""Dataset YAMLs and label files that are damaged, through training and validation as far as the first batch."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.faults import judge, modelfiles, mutate
from tests.faults.kind import Bad, Case, Kind
from tests.tiny import TINY, write_dataset

YAML = "path: data\ntrain: images/train\nval: images/val\nnames: {0: square, 1: bar}\n"
LABELS = "0 0.25 0.25 0.25 0.25\n1 0.4375 0.5625 0.125 0.25\n"
NUMBERS = ("nan", "inf", "-1", "2", "1e400", "0x1", "1,5", "", "a", "0.5", "99", "-0.0", "1_0", "½", "0 0", "1e-40")
KEYS = (
    "path",
    "train",
    "val",
    "test",
    "names",
    "nc",
    "channels",
    "kpt_shape",
    "flip_idx",
    "download",
    "yaml_file",
    "extra",
)
VALUES = (
    "images/train",
    "nowhere",
    "images/train/0.png",
    "../..",
    "/",
    "list.txt",
    "data",
    "labels/train",
    "it.zip",
    "~",
    "*",
)
ENTRIES = ("train", "val", "cli val")


def draw(random: Random) -> Case:
    """A dataset YAML or label files after accidents, and who reads them."""
    case: Case = {"yaml": YAML, "labels": {}, "list": None, "entry": random.choice(ENTRIES)}
    how = random.random()
    if how < 0.25:
        case["yaml"] = mutate.text(random, YAML).decode("latin-1")
    elif how < 0.6:
        case["yaml"] = _rewritten(random)
    if how > 0.55:
        for _ in range(random.choice((1, 2, 9))):
            case["labels"][f"{random.choice(('train', 'val'))}/{random.randrange(6)}"] = _labels(random)
    if random.random() < 0.1:
        case["list"] = mutate.text(random, "./images/train/0.png\n./images/train/1.png\n").decode("latin-1")
    return case


def _rewritten(random: Random) -> str:
    data: Any = yaml.safe_load(YAML)
    for _ in range(random.choice((1, 1, 2))):
        if random.random() < 0.5 and isinstance(data, dict):
            data = {**data, random.choice(KEYS): random.choice((*mutate.ODD, *VALUES, list(VALUES[:2])))}
        else:
            data = mutate.nested(random, data)
    return str(yaml.safe_dump(data, allow_unicode=True, sort_keys=False))


def _labels(random: Random) -> str:
    """The text of a label file, as Latin-1."""
    if random.random() < 0.5:
        return mutate.text(random, LABELS).decode("latin-1")
    rows = [line.split() for line in LABELS.splitlines()]
    for _ in range(random.choice((1, 1, 3))):
        row = random.choice(rows)
        row[random.randrange(len(row))] = random.choice(NUMBERS)
        if random.random() < 0.3:
            row += random.choices(NUMBERS, k=random.choice((1, 2, 3, 5)))
    return "\n".join(" ".join(row) for row in rows * random.choice((1, 1, 50)))


def check(case: Case) -> str:
    """Read the dataset as a training or a validation does, up to the first batch."""
    from yolomix.host import entry

    entry.no_lookups()
    os.environ["YOLOMIX_BACKEND"] = "eager"
    write_dataset(Path("data").resolve())
    Path("data.yaml").write_bytes(case["yaml"].encode("latin-1", "replace"))
    for name, text in case["labels"].items():
        Path(f"data/labels/{name}.txt").write_bytes(text.encode("latin-1", "replace"))
    if case["list"] is not None:
        Path("data/list.txt").write_bytes(case["list"].encode("latin-1"))
    Path("yolo0n-tiny.yaml").write_text(TINY)
    {"train": _train, "val": _val, "cli val": _cli_val}[case["entry"]]()
    if list(Path().rglob("it-ran*")) and "download" not in case["yaml"]:
        raise Bad("text of the file was run")
    return "read"


class _StopError(Exception):
    """Enough of a training."""


def _first_batch(trainer: Any) -> None:
    import torch

    batch = next(iter(trainer.train_loader))
    if not torch.isfinite(batch["bboxes"]).all() or (batch["bboxes"].abs() > 2).any():
        raise Bad(f"boxes of the first batch are {batch['bboxes']}")
    raise _StopError


def _train() -> None:
    import yolomix

    model = yolomix.YOLO("yolo0n-tiny.yaml")
    model.add_callback("on_train_start", _first_batch)
    with contextlib.suppress(_StopError):
        model.train(**modelfiles.SETTINGS, data="data.yaml", epochs=1)


def _val() -> None:
    import yolomix

    given = {name: value for name, value in modelfiles.SETTINGS.items() if name != "amp"}
    yolomix.YOLO("yolo0n-tiny.yaml").val(**given, data="data.yaml")


def _cli_val() -> None:
    from yolomix import cli

    def failed(error: BaseException, words: object, code: int) -> int:
        raise error

    cli._failed = failed
    cli.main(["val", "model=yolo0n-tiny.yaml", "data=data.yaml", "imgsz=64", "device=cpu", "workers=0", "plots=False"])


def theirs(error: BaseException) -> bool:
    """An error that Ultralytics raises itself, with the file or folder in its text and more than that."""
    text = str(error)
    names = ("data.yaml", str(Path().resolve()))
    return judge.raised_in(error, "ultralytics") and any(name in text for name in names) and len(text) > 24


def _take_any_value() -> None:
    from yolomix.hooks import dataset

    dataset.fault = lambda data: None


KIND = Kind(
    name="datafiles",
    tries="dataset YAMLs and label files after accidents, up to the first batch of a training or a validation",
    figure="read, or refused with the file and the reason, by us or by Ultralytics; 20 s, 4 GiB; nothing run",
    check=check,
    target=2000,
    draw=draw,
    share=2.0,
    small=8,
    theirs=theirs,
    first=({"yaml": YAML + "kpt_shape: null\n", "labels": {}, "list": None, "entry": "val"},),
    plants={"any value is taken": _take_any_value},
)
