"""Specs and records: what is written is read, and what is wrong is said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yolomix.studying.record import FORMAT, ImageStatistics, Record, RunSpec

SPEC = RunSpec(
    "mlla", "inits/0.pt", 7, "data.yaml", "test", "last", {"epochs": 3}, "runs/mlla-7", "a1b2", {"threads": 1}
)


def statistics(**changes: Any) -> ImageStatistics:
    values = {
        "images": ("a/1.jpg", "b/1.jpg"),
        "classes": ("cat", "dog"),
        "tp": np.eye(3, 10, dtype=bool),
        "confidence": np.array([0.1, 0.2, 1 / 3], np.float32),
        "predicted": np.array([0, 1, 1]),
        "image": np.array([0, 0, 1], np.int32),
        "target": np.array([1, 0]),
        "target_image": np.array([0, 1], np.int32),
        "target_area": np.array([12.5, 3.25], np.float32),
        "other_tp": {"M": np.zeros((3, 10), bool)},
    }
    return ImageStatistics(**values | changes)


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    record = Record(
        spec=SPEC,
        status="finished",
        reason="größer",
        epochs=[{"epoch": 1, "train/box_loss": 0.1 + 0.2}, {"epoch": 2, "train/box_loss": float("inf")}],
        arguments={"lr0": 0.01, "device": None},
        conditions={"threads": 1},
        seconds=1.5,
        cpu_seconds=2.5,
        metrics={"metrics/mAP50-95(B)": 1 / 3},
        statistics=statistics(),
    )
    read = Record.load(record.save(tmp_path / "record.npz"))
    for name in ("spec", "status", "reason", "epochs", "arguments", "conditions", "seconds", "cpu_seconds", "metrics"):
        assert getattr(read, name) == getattr(record, name), name
    assert read.statistics is not None
    assert read.statistics.images == ("a/1.jpg", "b/1.jpg")
    assert read.statistics.classes == ("cat", "dog")
    arrays = read.statistics.arrays()
    assert arrays.keys() == statistics().arrays().keys()
    for name, array in statistics().arrays().items():
        assert arrays[name].dtype == array.dtype, name
        assert np.array_equal(arrays[name], array), name


def test_a_record_without_statistics(tmp_path: Path) -> None:
    record = Record(SPEC, "failed", "OSError: no space left")
    read = Record.load(record.save(tmp_path / "record.npz"))
    assert (read.status, read.reason, read.statistics) == ("failed", "OSError: no space left", None)
    assert repr(read) == "<Record mlla seed 7: failed (OSError: no space left), 0 epochs>"


def test_a_classifier_has_what_it_got_right(tmp_path: Path) -> None:
    right = np.array([[True, True], [False, True]])
    held = ImageStatistics(("a.jpg", "b.jpg"), ("cat",), correct=right)
    read = Record.load(Record(SPEC, "finished", statistics=held).save(tmp_path / "record.npz"))
    assert read.statistics is not None
    assert np.array_equal(read.statistics.correct, right)
    assert read.statistics.tp.shape == (0, 10)


@pytest.mark.parametrize("cut", [0, 10, 400])
def test_a_record_that_is_not_whole(tmp_path: Path, cut: int) -> None:
    file = Record(SPEC, "finished", statistics=statistics()).save(tmp_path / "record.npz")
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(ValueError, match=r"record.npz has to be the record of a run, got: .*; delete it and run again"):
        Record.load(file)


def test_a_record_of_another_format(tmp_path: Path) -> None:
    file = tmp_path / "record.npz"
    text = json.dumps({"format": FORMAT + 1}).encode()
    np.savez(file, json=np.frombuffer(text, np.uint8))
    with pytest.raises(ValueError, match=f"needs a yolomix that reads records of format {FORMAT + 1}, this one reads"):
        Record.load(file)


def test_a_record_with_pickled_objects_is_not_read(tmp_path: Path) -> None:
    file = tmp_path / "record.npz"
    np.savez(file, json=np.array([{"format": FORMAT}], dtype=object))
    with pytest.raises(ValueError, match=r"has to be the record of a run, got: Object arrays cannot be loaded"):
        Record.load(file)


def test_an_unknown_status() -> None:
    with pytest.raises(ValueError, match=r"a record needs a status out of finished, failed, diverged, got 'done'"):
        Record(SPEC, "done")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"tp": np.zeros((3, 9), bool)}, r"tp of shape \(3, 10\), got \(3, 9\)"),
        ({"confidence": np.zeros(2)}, r"confidence of shape \(3,\), got \(2,\)"),
        ({"target_area": np.zeros(1)}, r"target_area of shape \(2,\), got \(1,\)"),
        ({"other_tp": {"M": np.zeros((2, 10), bool)}}, r"other_tp\['M'\] of shape \(3, 10\), got \(2, 10\)"),
        ({"correct": np.zeros((3, 2), bool)}, r"correct of shape \(2, 2\), got \(3, 2\)"),
        ({"image": np.array([0, 1, 2])}, r"image from 0 to 1, got 0 to 2"),
        ({"target_image": np.array([-1, 0])}, r"target_image from 0 to 1, got -1 to 0"),
        ({"predicted": np.array([0, 1, 5])}, r"predicted from 0 to 1, got 0 to 5"),
        ({"target": np.array([2, 0])}, r"target from 0 to 1, got 0 to 2"),
    ],
)
def test_statistics_that_do_not_belong_together(changes: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=f"statistics need {text}"):
        statistics(**changes)


def test_a_spec_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert RunSpec.read(SPEC.write(tmp_path)) == SPEC


@pytest.mark.parametrize(
    ("changes", "text"),
    [({"split": "train"}, "split test or val, got 'train'"), ({"weights": "ema"}, "weights last or best, got 'ema'")],
)
def test_a_spec_with_a_wrong_value(changes: dict[str, str], text: str) -> None:
    with pytest.raises(ValueError, match=f"a run needs {text}"):
        RunSpec(**vars(SPEC) | changes)


def test_a_spec_with_other_fields(tmp_path: Path) -> None:
    file = SPEC.write(tmp_path)
    found = json.loads(file.read_text())
    del found["seed"]
    file.write_text(json.dumps(found | {"colour": "red"}))
    with pytest.raises(
        ValueError, match=r"spec.json has to hold .* missing \['seed'\], unknown \['colour'\]; start the"
    ):
        RunSpec.read(file)


def test_a_spec_that_is_no_json(tmp_path: Path) -> None:
    file = tmp_path / "spec.json"
    file.write_text('{"arm": ')
    with pytest.raises(
        ValueError, match=r"spec.json has to be JSON as the study wrote it, got: .*; start the study again"
    ):
        RunSpec.read(file)
