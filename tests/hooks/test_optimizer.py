"""Optimiser groups: what blocks exempt is neither decayed nor orthogonalised, whatever the optimiser."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import ultralytics
from torch import nn
from ultralytics.engine import trainer
from ultralytics.engine.trainer import BaseTrainer
from ultralytics.nn.tasks import DetectionModel

from tests.hooks import blocks  # noqa: F401
from tests.tiny import description
from yolomix.hooks.optimizer import no_weight_decay
from yolomix.host import original

NAMES = ["SGD", "Adam", "AdamW", "Adamax", "NAdam", "RAdam", "auto", "RMSprop", "MuSGD"]
OLDEST = ultralytics.__version__.startswith("8.3.")
LR, DECAY = 0.02, 5e-4


@pytest.fixture(scope="module")
def model() -> DetectionModel:
    d = description()
    d["backbone"][2] = [-1, 1, "Keeps", []]
    return DetectionModel(d, verbose=False)


def optimizer(
    model: nn.Module, name: str, iterations: float = 1e5, build: Callable[..., torch.optim.Optimizer] | None = None
) -> torch.optim.Optimizer:
    """What Ultralytics makes of a name; "auto" with so many iterations is MuSGD where there is one."""
    args = SimpleNamespace(optimizer=name, lr0=LR, momentum=0.9, warmup_bias_lr=0.1)
    trainer = SimpleNamespace(args=args, data={"nc": 2})
    name = "RMSProp" if OLDEST and name == "RMSprop" else name
    return (build or BaseTrainer.build_optimizer)(trainer, model, name, LR, 0.9, DECAY, iterations)


def group_of(opt: torch.optim.Optimizer, parameter: nn.Parameter) -> dict:
    """The one group that holds a parameter."""
    found = [g for g in opt.param_groups if any(p is parameter for p in g["params"])]
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize("name", [n for n in NAMES if not (OLDEST and n == "MuSGD")])
def test_exempt_parameters_are_neither_decayed_nor_orthogonalised(model, name):
    opt = optimizer(model, name)
    exempt = list(no_weight_decay(model))
    for parameter in exempt:
        group = group_of(opt, parameter)
        assert group["weight_decay"] == 0
        assert not group.get("use_muon", False)
        assert group.get("param_group", "no_weight_decay") == "no_weight_decay"
        assert group["lr"] == group_of(opt, model.model[0].bn.weight)["lr"]
    assert {id(p) for p in opt.param_groups[-1]["params"]} == {id(p) for p in exempt}


def test_which_parameters_are_exempt(model):
    names = {n for n, p in model.named_parameters() if any(p is q for q in no_weight_decay(model))}
    assert names == {f"model.2.{n}" for n in ("rate", "bias_table", "proj.bias")}


@pytest.mark.parametrize("name", [n for n in NAMES if not (OLDEST and n == "MuSGD")])
def test_all_other_parameters_stay_in_the_groups_of_ultralytics(model, name):
    exempt = {id(p) for p in no_weight_decay(model)}
    ours = optimizer(model, name)
    theirs = optimizer(model, name, build=original.native(trainer, "BaseTrainer.build_optimizer"))
    assert type(ours) is type(theirs)
    assert len(ours.param_groups) == len(theirs.param_groups) + 1
    for got, want in zip(ours.param_groups[:-1], theirs.param_groups, strict=True):
        assert [id(p) for p in got["params"]] == [id(p) for p in want["params"] if id(p) not in exempt]
        assert {k: v for k, v in got.items() if k != "params"} == {k: v for k, v in want.items() if k != "params"}


def test_auto_of_a_long_training(model):
    opt = optimizer(model, "auto", 20_000)
    assert type(opt).__name__ in ("SGD", "MuSGD")  # SGD up to Ultralytics 8.4.0
    assert group_of(opt, model.model[2].proj.weight)["weight_decay"] == DECAY
    assert group_of(opt, model.model[2].rate)["weight_decay"] == 0


@pytest.mark.parametrize("name", ["SGD", "AdamW"])
def test_a_step_without_gradient_moves_decayed_weights_only(model, name):
    rate, matrix = model.model[2].rate, model.model[2].proj.weight
    before = rate.detach().clone(), matrix.detach().clone()
    opt = optimizer(model, name)
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    opt.step()
    assert torch.equal(rate, before[0])
    assert not torch.equal(matrix, before[1])


@pytest.mark.skipif(OLDEST, reason="MuSGD came with Ultralytics 8.4")
def test_musgd_orthogonalises_a_matrix_but_no_plain_one(model):
    rate, matrix = model.model[2].rate, model.model[2].proj.weight
    steps = {}
    for scale in (1.0, 100.0):
        opt = optimizer(model, "MuSGD")
        start = rate.detach().clone(), matrix.detach().clone()
        for p in model.parameters():
            p.grad = torch.full_like(p, scale)
        opt.step()
        steps[scale] = (rate.detach() - start[0]).norm(), (matrix.detach() - start[1]).norm()
    assert torch.isclose(steps[100.0][0], 100 * steps[1.0][0], rtol=1e-3)  # plain SGD grows with the gradient
    assert steps[100.0][1] < 100 * steps[1.0][1]  # a part of the matrix's step is orthogonalised and does not


def test_a_model_without_our_blocks_keeps_the_hosts_groups():
    model = DetectionModel("yolo11n.yaml", verbose=False)
    assert len(optimizer(model, "AdamW").param_groups) == 3


def test_a_block_that_names_what_it_does_not_have():
    class Wrong(nn.Linear):
        no_weight_decay = ("rates",)

    with pytest.raises(AttributeError, match=r"Wrong at 0 names 'rates' in no_weight_decay, but has only weight, bias"):
        list(no_weight_decay(nn.Sequential(Wrong(1, 1))))
