"""What a training writes is whole or not there, whatever happens while it is written."""

from __future__ import annotations

import logging
import os
import pickle
import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import yolomix
from yolomix import files
from yolomix.hooks import saving


def trainer_in(folder: Path) -> SimpleNamespace:
    paths = {"last": folder / "last.pt", "best": folder / "best.pt", "wdir": folder}
    model = torch.nn.BatchNorm2d(2)
    optimizer = torch.optim.AdamW(model.parameters())
    model.weight.sum().backward()
    optimizer.step()
    average = SimpleNamespace(ema=torch.nn.BatchNorm2d(2))
    return SimpleNamespace(**paths, model=model, optimizer=optimizer, ema=average, epoch=2)


def native(trainer) -> None:
    for file in (trainer.last, trainer.best, trainer.wdir / "epoch3.pt"):
        file.write_bytes(b"new")


def test_every_checkpoint_is_replaced_in_one_step(tmp_path, monkeypatch):
    written = []
    monkeypatch.setattr(files.os, "replace", lambda a, b: written.append(Path(b).name) or os.rename(a, b))
    trainer = trainer_in(tmp_path)
    saving.save_model(native, trainer)
    assert written == ["last.pt", "best.pt", "epoch3.pt"]
    assert type(trainer.last) is type(trainer.wdir) is type(tmp_path)
    assert pickle.loads(pickle.dumps(trainer.last)) == tmp_path / "last.pt"


def test_a_full_disk_leaves_the_last_good_checkpoint(tmp_path, monkeypatch):
    (tmp_path / "last.pt").write_bytes(b"good")
    monkeypatch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
    trainer = trainer_in(tmp_path)
    with pytest.raises(OSError, match=r"cannot write .*last\.pt: No space left on device"):
        saving.save_model(native, trainer)
    assert (tmp_path / "last.pt").read_bytes() == b"good"
    assert type(trainer.last) is type(tmp_path)


def square(trainer) -> torch.Tensor:
    return trainer.optimizer.state[trainer.model.weight]["exp_avg_sq"]


SPOILS = {
    "the weight running_mean": lambda trainer: trainer.model.running_mean.fill_(torch.inf),
    "the weight bias": lambda trainer: trainer.model.bias.data.fill_(torch.nan),
    "the optimizer's exp_avg_sq": lambda trainer: square(trainer).fill_(-torch.inf),
}


@pytest.mark.parametrize("wrong", SPOILS)
def test_what_is_not_finite_does_not_replace_the_last_good_checkpoint(tmp_path, wrong, caplog):
    trainer = trainer_in(tmp_path)
    SPOILS[wrong](trainer)
    said = f"after epoch 3 {wrong} is not finite, so there is no checkpoint to keep or to go on from; lower"
    with pytest.raises(RuntimeError, match=re.escape(said)):
        saving.save_model(native, trainer)
    (tmp_path / "last.pt").write_bytes(b"good")
    with caplog.at_level(logging.WARNING):
        assert saving.save_model(native, trainer) is False
    assert f"{wrong} is not finite after epoch 3: {tmp_path / 'last.pt'} stays as it was before" in caplog.text
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir()} == {"last.pt": b"good"}


def test_an_average_that_is_not_finite_goes_on_from_the_weights(tmp_path):
    trainer = trainer_in(tmp_path)
    average = trainer.ema.ema
    average.bias.data[0], average.weight.data[:] = torch.nan, 3
    saving.save_model(native, trainer)
    assert average.bias.equal(trainer.model.bias)
    assert average.weight.tolist() == [3, 3]
    assert (tmp_path / "last.pt").read_bytes() == b"new"


def test_a_training_writes_through_it(tiny, settings, tmp_path, monkeypatch, caplog):
    written = []
    whole = files.write
    monkeypatch.setattr(files, "write", lambda path, *args: written.append(Path(path).name) or whole(path, *args))
    with caplog.at_level(logging.INFO):
        yolomix.YOLO(tiny).train(**settings, epochs=1, project=str(tmp_path), name="run")
    assert written.count("last.pt") == written.count("best.pt") == 2  # at the epoch's end, and stripped
    left = [file.name for file in (tmp_path / "run" / "weights").iterdir()]
    assert sorted(left) == ["best.pt", "last.pt"]
    assert "Optimizer stripped from" in caplog.text
    assert files.ASIDE not in caplog.text


HEAD = "epoch,time,loss\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (None, HEAD + "2,0,0\n"),
        (HEAD + "1,0,0\n", HEAD + "1,0,0\n2,0,0\n"),
        (HEAD + "1,0,0\n2,9,9\n", HEAD + "1,0,0\n2,0,0\n"),
        (HEAD + "1,0,0\n2,9,9\n3,9,9\n", HEAD + "1,0,0\n2,0,0\n"),
        (HEAD + "1,0,0\n2,9", HEAD + "1,0,0\n2,0,0\n"),
        (HEAD[:-3], HEAD + "2,0,0\n"),
        ("", HEAD + "2,0,0\n"),
    ],
    ids=["first", "next", "row of a killed process", "rows", "half a row", "half a head", "empty"],
)
def test_an_epoch_that_is_trained_again_has_one_row(tmp_path, before, after):
    file = tmp_path / "results.csv"
    if before is not None:
        file.write_text(before)

    def append(trainer) -> None:
        with file.open("a") as out:
            out.write((HEAD if out.tell() == 0 else "") + "2,0,0\n")

    saving.save_metrics(append, SimpleNamespace(csv=file, epoch=1))
    assert file.read_text() == after
    assert [path.name for path in tmp_path.iterdir()] == ["results.csv"]


def test_stripping_what_is_no_checkpoint_changes_nothing(tmp_path):
    from ultralytics.engine import trainer

    file = tmp_path / "a.pt"
    torch.save([1, 2], file)
    before = file.read_bytes()
    trainer.strip_optimizer(file)
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]


def test_saving_a_model_replaces_the_file_in_one_step(tiny, tmp_path, monkeypatch):
    model, file = yolomix.YOLO(tiny), tmp_path / "out.pt"
    model.save(file)
    before = file.read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", lambda _: (_ for _ in ()).throw(OSError(28, os.strerror(28))))
        with pytest.raises(OSError, match=r"cannot write .*out\.pt: No space left on device"):
            model.save(str(file))
    assert file.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["out.pt"]
    assert yolomix.YOLO(file).task == "detect"


@pytest.mark.parametrize(
    ("error", "why"),
    [
        (
            RuntimeError("[enforce fail at inline_container.cc:858] . failed writing\nframe #0"),
            r"\[enforce fail.*writing$",
        ),
        (InterruptedError(4, "Interrupted system call"), "Interrupted system call"),
    ],
)
def test_a_writer_of_pytorch_that_fails_is_told_with_the_file(error, why, tmp_path):
    def native(f, s):
        raise error

    with pytest.raises(OSError, match=rf"cannot write .*last\.pt, is the disk full\? PyTorch says: .*{why}"):
        saving.strip_optimizer(native, tmp_path / "last.pt")
