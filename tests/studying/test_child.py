"""A run of a study: cut and continued with the same bits, evaluated image by image, and recorded however it ends."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml

from tests import fresh
from tests.full import FULL, cases
from tests.studying import runs
from yolomix.host import resuming, training
from yolomix.statistics.average_precision import average_precision, has_ramp, mean_over_classes
from yolomix.statistics.matches import Matches
from yolomix.studying import child, running
from yolomix.studying.record import RECORD, SPEC, ImageStatistics, Record, RunSpec

BACKBONE = """nc: 2
scales:
  n: [1.0, 1.0, 64]
backbone:
  - [-1, 1, Conv, [16, 3, 2]]
  - [-1, 1, Conv, [32, 3, 2]]
head:
"""
HEADS = {
    "detect": "  - [[1], 1, Detect, [nc]]\n",
    "segment": "  - [-1, 1, Conv, [32, 3, 2]]\n  - [[2], 1, Segment, [nc, 4, 8]]\n",  # prototypes: half its stride
    "pose": "  - [[1], 1, Pose, [nc, [2, 3]]]\n",
    "obb": "  - [[1], 1, OBB, [nc, 1]]\n",
    "classify": "  - [-1, 1, Classify, [nc]]\n",
}
OBJECTS = ((0, (8, 8, 24, 24)), (1, (24, 28, 32, 44)))  # class and corners of a square and of a bar, in pixels


def small_model(folder: Path, task: str) -> Path:
    file = folder / f"yolo0n-{task}.yaml"
    extra = "kpt_shape: [2, 3]\n" if task == "pose" else ""
    file.write_text(extra + BACKBONE + HEADS[task])
    return file


def small_data(folder: Path, task: str, train: int = 6) -> Path:
    """Bright squares and dark bars, of which the second image has none; the test split differs from the others."""
    rng = np.random.default_rng(0)
    for split, count in (("train", train), ("val", 3), ("test", 5)):
        for i in range(count):
            height = 48 if i % 3 == 2 else 64
            image = rng.integers(64, 192, (height, 64, 3), dtype=np.uint8)
            image[8:24, 8:24], image[28:44, 24:32] = 255, 0
            where = folder / split / "ab"[i % 2] if task == "classify" else folder / "images" / split
            where.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(where / f"{i}.png"), image)
            if task != "classify":
                labels = folder / "labels" / split
                labels.mkdir(parents=True, exist_ok=True)
                (labels / f"{i}.txt").write_text("" if i == 1 else "".join(label(task, height)))
    if task == "classify":
        return folder
    content = {"path": str(folder), "names": {0: "square", 1: "bar"}}
    content |= {split: f"images/{split}" for split in ("train", "val", "test")}
    if task == "pose":
        content["kpt_shape"] = [2, 3]
    (folder / "data.yaml").write_text(yaml.safe_dump(content))
    return folder / "data.yaml"


def label(task: str, height: int) -> list[str]:
    lines = []
    for index, (x0, y0, x1, y1) in OBJECTS:
        left, right, top, bottom = x0 / 64, x1 / 64, y0 / height, y1 / height
        box = [(left + right) / 2, (top + bottom) / 2, right - left, bottom - top]
        if task in ("segment", "obb"):
            box = [left, top, right, top, right, bottom, left, bottom]
        elif task == "pose":
            box += [left, top, 2, right, bottom, 2]
        lines.append(f"{index} {' '.join(map(str, box))}\n")
    return lines


@pytest.fixture
def spec_of(tmp_path: Path, tiny: Path, dataset: Path) -> Callable[..., Any]:
    """A run of the tiny model in a folder of that name."""

    def make(name: str, **changes: Any) -> tuple[Any, Path]:
        return runs.write_spec(tmp_path / name, tiny, dataset, **changes), tmp_path / name

    return make


FORKED = """
from pathlib import Path
from tests.studying import killing
print(killing.{call})
"""


def forked(call: str) -> str:
    """What a call of ``killing`` returns in a fresh process."""
    done = fresh.run(FORKED.format(call=call))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done.stdout


class Interrupt:
    """Ends a run after an epoch, as a signal would; keeps what it said."""

    def __init__(self, epoch: int | None = None) -> None:
        self.epoch, self.said = epoch, list[dict[str, Any]]()

    def __call__(self, line: dict[str, Any]) -> None:
        self.said.append(line)
        if "epoch" in line and line["epoch"] == self.epoch:
            raise KeyboardInterrupt


def interrupted(spec: Any, folder: Path, epoch: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        running.run(spec, folder, Interrupt(epoch))
    assert (folder / "state.pt").exists()
    assert not (folder / RECORD).exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Path, dataset: Path) -> dict[str, Any]:
    """The numbers of a run that nothing disturbs."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    said = Interrupt()
    running.run(runs.write_spec(folder, tiny, dataset), folder, said)
    assert [(line["epoch"], line["of"]) for line in said.said] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    return runs.numbers(folder)


def test_a_run_goes_on_after_every_epoch_with_the_same_numbers(
    spec_of: Callable[..., Any], whole: dict[str, Any]
) -> None:
    spec, folder = spec_of("cut")
    for epoch in (1, 2, 3, 4):  # each goes on from the one before, and the last has an evaluation left to do
        interrupted(spec, folder, epoch)
    last = Interrupt()
    running.run(spec, folder, last)
    assert last.said == []
    assert runs.numbers(folder) == whole
    assert not (folder / "state.pt").exists()
    assert {file.name for file in (folder / "weights").iterdir()} == {"last.pt", "best.pt"}
    rows = (folder / "results.csv").read_text().splitlines()
    assert [row.split(",")[0].strip() for row in rows] == ["epoch", "1", "2", "3", "4"]


def without_truth(trainer: Any) -> int:
    return trainer._accumulate


def without_optimizer(put: Callable[..., None]) -> Callable[..., None]:
    def planted(trainer: Any, state: dict[str, Any]) -> None:
        put(trainer, state)
        trainer.optimizer.state.clear()

    return planted


PLANTED = {
    "steps": (training._Resumable, "accumulate", property(without_truth, training._Resumable.accumulate.fset)),
    "gradients": (resuming, "put_gradients", lambda model, state: None),
    "optimizer": (resuming, "put", without_optimizer(resuming.put)),
}
"""What only a run that goes on can lack."""


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory, tiny: Path, dataset: Path) -> Path:
    """The folder of a run that ended after two of four epochs."""
    folder = tmp_path_factory.mktemp("cut") / "run"
    interrupted(runs.write_spec(folder, tiny, dataset), folder, 2)
    return folder


@pytest.mark.parametrize("planted", PLANTED)
def test_what_is_not_put_back_is_noticed(
    whole: dict[str, Any], cut: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, planted: str
) -> None:
    folder = shutil.copytree(cut, tmp_path / "cut")
    monkeypatch.setattr(*PLANTED[planted])
    running.run(RunSpec.read(folder / SPEC), folder, Interrupt())
    assert runs.numbers(folder) != whole


def test_seeds_that_are_not_put_back_are_noticed(spec_of: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resuming, "seed_epoch", lambda loader, seed, epoch: loader.reset())
    _, whole = spec, folder = spec_of("whole", epochs=2, close_mosaic=0)
    running.run(spec, folder, Interrupt())
    spec, folder = spec_of("cut", epochs=2, close_mosaic=0)
    interrupted(spec, folder, 1)
    running.run(spec, folder, Interrupt())
    assert runs.numbers(folder) != runs.numbers(whole)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system kills in another way")
@pytest.mark.parametrize(("optimizer", "workers"), cases([("SGD", 0), ("AdamW", 1)], always=[("AdamW", 1)]))
def test_killed_at_random_moments(tmp_path: Path, tiny: Path, dataset: Path, optimizer: str, workers: int) -> None:
    """Ten times with ``YOLOMIX_TEST_FULL=1``; otherwise once, as soon as there is something to go on from."""
    places = f"Path({str(tmp_path)!r}), {str(tiny)!r}, {str(dataset)!r}"
    said = forked(f"main({places}, {workers}, 1, {10 if FULL else 1}, optimizer={optimizer!r})")
    assert "killed 0 times" not in said
    assert "went on 0 times" not in said


@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_a_state_that_was_cut_is_not_used(spec_of: Callable[..., Any], share: float) -> None:
    spec, folder = spec_of("cut", epochs=2, close_mosaic=0)
    interrupted(spec, folder, 1)
    content = (folder / "state.pt").read_bytes()
    (folder / "state.pt").write_bytes(content[: int(len(content) * share)])
    again = Interrupt()
    running.run(spec, folder, again)
    assert "state.pt is no whole state of a training: " in again.said[0]["said"]
    assert again.said[0]["said"].endswith("; the training starts anew")
    assert [line["epoch"] for line in again.said[1:]] == [1, 2]


def test_a_state_of_another_run_is_not_used(spec_of: Callable[..., Any]) -> None:
    spec, folder = spec_of("one", epochs=2, close_mosaic=0)
    interrupted(spec, folder, 1)
    other, elsewhere = spec_of("other", epochs=2, close_mosaic=0, key="other")
    (folder / "state.pt").rename(elsewhere / "state.pt")
    said = Interrupt(1)
    with pytest.raises(KeyboardInterrupt):
        running.run(other, elsewhere, said)
    assert said.said[0]["said"].endswith("state.pt is of another run (k); the training starts anew")


def test_seeds_decide_the_first_batches(tmp_path: Path, tiny: Path, settings: dict[str, Any]) -> None:
    def first(seed: int, name: str) -> dict[str, Any]:
        arguments = {**settings, "seed": seed, "epochs": 3, "project": str(tmp_path), "name": name}
        return training.probe(str(tiny), arguments)

    one, again, other = first(0, "one"), first(0, "again"), first(1, "other")
    assert one == again
    assert one["batches"] != other["batches"]
    assert (one["batch"], len(one["rates"])) == (3, 3)
    assert {group["lr"] for group in one["groups"]} == {one["groups"][0]["lr"]}


def test_a_run_that_diverges(spec_of: Callable[..., Any]) -> None:
    spec, folder = spec_of("wild", box=1e39)
    record = running.run(spec, folder, Interrupt())
    assert record.status == "diverged"
    assert record.reason.startswith("epoch ")
    assert "is not finite" in record.reason
    assert record.statistics is None
    assert Record.load(folder / RECORD).reason == record.reason
    assert not (folder / "state.pt").exists()


def test_a_run_that_fails(spec_of: Callable[..., Any], tmp_path: Path, tiny: Path) -> None:
    spec = runs.write_spec(tmp_path / "fails", tiny, tmp_path / "no-data.yaml")
    record = running.run(spec, tmp_path / "fails", Interrupt())
    assert record.status == "failed"
    assert "no-data.yaml" in record.reason
    assert "\n" not in record.reason
    assert "Traceback" in (tmp_path / "fails" / "error.txt").read_text()
    assert Record.load(tmp_path / "fails" / RECORD).reason == record.reason


def test_what_failed_later_goes_on(spec_of: Callable[..., Any]) -> None:
    spec, folder = spec_of("lacking", epochs=2, close_mosaic=0)

    def lacking(line: dict[str, Any]) -> None:
        raise RuntimeError("not enough memory")

    record = running.run(spec, folder, lacking)
    assert (record.status, len(record.epochs)) == ("failed", 1)
    again = Interrupt()
    assert running.run(spec, folder, again).status == "finished"
    assert [line["epoch"] for line in again.said] == [2]


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_a_full_disk_is_told_and_the_next_call_goes_on(tmp_path: Path) -> None:
    """Of the state and of the record; in the full run of the checkpoint, of what it becomes, and of everything too."""
    model, data = small_model(tmp_path, "detect"), small_data(tmp_path / "data", "detect")
    files = ["state.pt", "last.pt", "stripped.pt", "record.npz", "room"] if FULL else ["state.pt", "record.npz"]
    named = {"stripped.pt": "last.pt", "room": ""}
    lines = forked(f"full(Path({str(tmp_path)!r}), {str(model)!r}, {str(data)!r}, *{files})").splitlines()
    said = [line for line in lines if not line.startswith("{")]
    for line, name in zip(said, files, strict=True):
        assert "ended with exit code 1 and without a record; it said last: OSError: " in line
        assert named.get(name, name) in line
        assert "No space left on device" in line or "File too large" in line or "is the disk full?" in line


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no forks")
def test_a_run_whose_queue_is_gone_leaves_no_record(tmp_path: Path) -> None:
    model, data = small_model(tmp_path, "detect"), small_data(tmp_path / "data", "detect")
    said = forked(f"unread(Path({str(tmp_path)!r}), {str(model)!r}, {str(data)!r})")
    assert said.splitlines()[-1].split() == ["1", "record.npz", "False", "state.pt", "True", "0"]
    assert "Traceback" not in (tmp_path / "unread" / "log.txt").read_text()


def test_a_classifier_and_an_early_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ultralytics.utils.torch_utils import EarlyStopping

    # Versions differ in whether an epoch as good as the best one counts.
    monkeypatch.setattr(EarlyStopping, "__call__", lambda stopper, epoch, fitness: epoch >= 2)
    data, model = small_data(tmp_path / "data", "classify"), small_model(tmp_path, "classify")
    changes = {"epochs": 6, "patience": 1, "close_mosaic": 0, "lr0": 0.0, "optimizer": "SGD"}
    spec = runs.write_spec(tmp_path / "run", model, data, split="test", **changes)
    record = running.run(spec, tmp_path / "run", Interrupt())
    assert record.status == "finished"
    assert len(record.epochs) == 2
    assert record.reason == "ended after epoch 2 of 6: no better one in patience=1 epochs"
    found = record.statistics
    assert found is not None
    assert found.images == ("a/0.png", "a/2.png", "a/4.png", "b/1.png", "b/3.png")
    top1, top5 = found.correct.mean(axis=0)
    assert record.metrics["metrics/accuracy_top1"] == pytest.approx(top1, abs=1e-6)
    assert record.metrics["metrics/accuracy_top5"] == pytest.approx(top5, abs=1e-6)


TASKS = [("detect", "last"), ("detect", "best"), ("segment", "last"), ("pose", "last"), ("obb", "last")]


@pytest.mark.parametrize(("task", "weights"), cases(TASKS, always=[("detect", "last"), ("segment", "last")]))
def test_the_metrics_follow_from_the_statistics(tmp_path: Path, task: str, weights: str) -> None:
    data, model = small_data(tmp_path / "data", task, train=60), small_model(tmp_path, task)
    changes = {"epochs": 3, "optimizer": "AdamW", "nbs": 2, "mosaic": 0.0, "close_mosaic": 0, "val": False}
    spec = runs.write_spec(tmp_path / "run", model, data, split="test", weights=weights, **changes)
    record = running.run(spec, tmp_path / "run", Interrupt())
    assert record.status == "finished", record.reason
    found = record.statistics
    assert found is not None
    assert sorted(found.images) == [f"{i}.png" for i in range(5)]
    assert found.tp.any(), "a test of nothing"
    empty = found.images.index("1.png")
    assert empty not in found.target_image
    for letter, tp in {"B": found.tp, **found.other_tp}.items():
        for metric, thresholds in (("mAP50", 1), ("mAP50-95", 10)):
            expected = record.metrics[f"metrics/{metric}({letter})"]
            assert ap_of_ultralytics(found, tp)[:, :thresholds].mean() == pytest.approx(expected, abs=1e-12)
            assert our_ap(found, tp, thresholds) == pytest.approx(expected, abs=1e-12)
    areas = dict(zip(found.target.tolist(), found.target_area.tolist(), strict=True))
    assert areas == pytest.approx({0: 256, 1: 128}, rel=1e-4)
    assert set(found.other_tp) == {"segment": {"M"}, "pose": {"P"}}.get(task, set())


def ap_of_ultralytics(found: ImageStatistics, tp: Any) -> Any:
    from ultralytics.utils.metrics import ap_per_class

    return ap_per_class(tp, found.confidence, found.predicted, found.target)[5]  # (classes, 10)


def our_ap(found: ImageStatistics, tp: Any, thresholds: int) -> float:
    from ultralytics.utils.metrics import compute_ap

    matches = Matches(tp, found.confidence, found.predicted, found.image, found.target, found.target_image)
    ones = np.ones((1, len(found.images)))
    ap = average_precision(matches, ones, len(found.classes), ramp=has_ramp(compute_ap))
    return float(mean_over_classes(ap[..., :thresholds])[0])


def test_threads_are_those_of_the_spec(spec_of: Callable[..., Any]) -> None:
    spec, folder = spec_of("threads", epochs=1, close_mosaic=0)
    training.pin_threads(2)  # as the child does
    try:
        record = running.run(spec, folder, Interrupt())
        assert torch.get_num_threads() == 2
    finally:
        training.pin_threads(1)
    assert record.conditions["threads"] == 2
    assert record.conditions["versions"]["ultralytics"]
    assert (record.arguments["seed"], record.arguments["optimizer"]) == (3, "SGD")
    assert record.cpu_seconds > 0
    assert record.seconds > 0


def test_the_process_ends_quietly_when_told_to(spec_of: Callable[..., Any]) -> None:
    _, folder = spec_of("told", epochs=1000, close_mosaic=0)
    command = [sys.executable, "-m", "yolomix.studying.child", str(folder)]
    with subprocess.Popen(command, stdout=-1, stderr=-1, text=True) as process:
        assert process.stdout is not None
        line = json.loads(process.stdout.readline())
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=120)
    assert (line["epoch"], line["of"]) == (1, 1000)
    assert process.returncode == 128 + signal.SIGTERM
    assert err == ""
    assert all("epoch" in json.loads(other) for other in out.splitlines())
    assert "Traceback" not in (folder / "log.txt").read_text()
    assert (folder / "state.pt").exists()
    assert not (folder / RECORD).exists()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "has to hold spec.json with facts.threads: "),
        ('{"facts": {}}', "has to hold spec.json with facts.threads: 'threads'"),
        ('{"facts": {"threads": 0}}', "threads must be at least 1, got 0; start the study again"),
    ],
)
def test_no_usable_spec(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str | None, text: str) -> None:
    if content is not None:
        (tmp_path / "spec.json").write_text(content)
    assert child.main([str(tmp_path)]) == 2
    assert text in capsys.readouterr().err


def test_no_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert child.main([]) == 2
    assert "a run needs one folder with spec.json in it, got []" in capsys.readouterr().err
