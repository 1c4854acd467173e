"""Gates over a training: recorded, read, and what is said of them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import yolomix
from tests.figures.models import description
from tests.tiny import write_dataset
from yolomix import figures
from yolomix.host import gates, weights


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """The folder of a training of a graft, over two epochs."""
    folder = tmp_path_factory.mktemp("gates")
    base = weights.from_rows(description())
    base.task, base.names = "detect", {0: "square", 1: "bar"}
    start = yolomix.graft(str(weights.write(base, folder / "base.pt")), "MLLABlock", at="p3", args=[2]).apply()
    model = yolomix.YOLO(str(start))
    model.train(
        data=str(write_dataset(folder / "data")), epochs=2, imgsz=32, batch=2, nbs=2, workers=0, device="cpu",
        plots=False, val=False, lr0=0.1, optimizer="AdamW", warmup_epochs=0, project=str(folder), name="run",
        verbose=False,
    )  # fmt: skip
    return folder / "run"


def test_the_last_gates_are_those_of_the_checkpoint(trained):
    history = gates.read(trained)
    assert [*history] == [1, 2]
    module = weights.read(trained / "weights" / "last.pt")
    kept = gates.of(module)
    assert [*history[2]] == [*kept] == ["model.2"]
    np.testing.assert_allclose(
        history[2]["model.2"].values, kept["model.2"].values, rtol=1e-3
    )  # kept in half precision
    assert any(history[2]["model.2"].values)


@pytest.mark.parametrize("given", ["", "weights/last.pt"])
def test_a_figure_of_a_training_has_every_epoch(trained, given):
    figure = figures.gates(trained / given)
    assert figure.arrays["gate0_values"].shape == (2, 16)
    assert figure.arrays["gate0_epochs"].tolist() == [1, 2]
    assert re.fullmatch(
        r"MLLABlock@p3 \(model.2\): \d+% of 16 channels above 0.1 after 2 epochs: (not used|used in part|used)",
        figure.verdict,
    )
    figure.drawn()


def test_a_model_alone_has_its_gates_of_now():
    model = weights.from_rows(description())
    plan = yolomix.graft({**description()}, "MLLABlock", at="p3", args=[2]).plan()
    grafted = weights.from_rows(plan.graph.model)
    grafted.model[2].gate.data[:12] = 0.5
    figure = figures.gates(grafted)
    assert figure.verdict == "MLLABlock@p3 (model.2): 75% of 16 channels above 0.1 now: used"
    with pytest.raises(ValueError, match=r"has no graft with a gate. A graft gets one where its layer stays, as in "):
        figures.gates(model)


def test_an_epoch_that_is_trained_again_replaces_what_was_written_of_it(tmp_path):
    model = torch.nn.Sequential(yolomix.nn.gate.ZeroGate(4, "MLLABlock"))
    for epoch, value in ((1, 0.1), (2, 0.2), (3, 0.3), (2, 0.25)):
        model[0].gate.data.fill_(value)
        gates.append(tmp_path, epoch, model)
    assert {epoch: one["0"].values[0] for epoch, one in gates.read(tmp_path).items()} == {1: 0.1, 2: 0.25}


def test_a_model_without_gates_writes_nothing(tmp_path):
    gates.append(tmp_path, 1, torch.nn.Conv2d(1, 1, 1))
    assert [*tmp_path.iterdir()] == []
    assert gates.read(tmp_path) == {}


def test_a_folder_that_is_not_there():
    with pytest.raises(FileNotFoundError, match=r"train7"):
        figures.gates("runs/train7")
