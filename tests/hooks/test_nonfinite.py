"""The first layer whose output is not finite is named, once, and nothing else about a training changes."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import nn
from ultralytics.utils import LOGGER

from yolomix.hooks.nonfinite import Watch, culprit, first_layer


class Net(nn.Module):
    """Three layers; called with a batch it returns loss and items as a model of Ultralytics does."""

    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 1)
        self.norm = nn.BatchNorm2d(4)
        self.last = nn.Sequential(nn.Identity(), nn.Conv2d(4, 1, 1))

    def forward(self, x):
        if isinstance(x, dict):
            return self.last(self.norm(self.first(x["img"]))).mean() * x.get("gain", 1.0), torch.zeros(3)
        return self.last(self.norm(self.first(x)))


class Explodes(nn.Module):
    """Overflows."""

    def forward(self, x):
        return torch.exp(x.abs() * 1e4)


@pytest.fixture
def said():
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())
    LOGGER.addHandler(handler)
    yield lines
    LOGGER.removeHandler(handler)


@pytest.fixture
def batch():
    return {"img": torch.rand(2, 3, 4, 4) + 0.5}


def test_a_finite_loss_says_nothing_and_keeps_watching(said, batch):
    net = Net()
    Watch(net)
    net(batch)
    assert said == []
    assert len(net._forward_hooks) == 1


def test_the_first_layer_is_named_once(said, batch):
    net = Net()
    net.last[0] = Explodes()
    Watch(net)
    net(batch)
    net(batch)
    assert len(said) == 1
    assert "layer last.0 (Explodes, torch.float32) is the first whose output is not finite" in said[0]
    assert "try amp=False or a lower learning rate" in said[0]
    assert not net._forward_hooks


def test_eval_and_prediction_are_not_watched(said, batch):
    net = Net()
    net.last[0] = Explodes()
    Watch(net)
    net(batch["img"])
    net.eval()(batch)
    assert said == []


def test_what_else_can_be_wrong(batch):
    net = Net()
    assert "all layers are finite, so the loss is where it happened" in culprit(net, {**batch, "gain": float("nan")})
    assert "the images of the batch" in culprit(net, {"img": batch["img"] * float("nan")})
    net.norm.weight.data[0] = float("inf")
    assert "the weight norm.weight is not finite since an earlier step" in culprit(net, batch)


def test_looking_for_the_layer_changes_no_statistics(batch):
    net = Net()
    net.last[0] = Explodes()
    before = {k: v.clone() for k, v in net.state_dict().items()}
    path, module, dtype, largest = first_layer(net, batch["img"])
    assert (path, module, dtype) == ("last.0", net.last[0], torch.float32)
    assert 0 < largest < 10
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_in_a_training_of_ultralytics(said, tiny, settings, tmp_path):
    from ultralytics import YOLO

    import yolomix  # noqa: F401

    def ruin(trainer):
        trainer.model.model[6].lepe.register_forward_hook(lambda m, i, o: o * float("nan"))

    def interrupt(trainer):
        raise KeyboardInterrupt

    model = YOLO(tiny)
    model.add_callback("on_train_start", ruin)
    model.add_callback("on_train_batch_end", interrupt)
    with pytest.raises(KeyboardInterrupt):
        model.train(**settings, epochs=1, project=str(tmp_path))
    found = [line for line in said if "the loss is not finite" in line]
    assert len(found) == 1
    assert "layer model.6.lepe (Conv2d, torch.float32) is the first" in found[0]
