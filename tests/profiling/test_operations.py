"""Operations of whole models: closed forms, layers that add up, gradients, and what nobody can count."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

import yolomix
from tests.full import cases
from yolomix import models
from yolomix.ops import counting, use_backend
from yolomix.profiling.operations import Operations, count

SIDE = 640
PAPERS = {"t": 3.326, "b": 6.652, "l": 19.599}  # 9 L D N + L D of the scans, GFLOPs
PRODUCTS = {"t": 14.088 + 1.992, "b": 49.406 + 5.033, "l": 155.361 + 17.262}  # convs and linears, and projections


@pytest.mark.parametrize("scale", cases(PAPERS, always=["t"]))
def test_mamba_yolo_has_the_operations_of_its_closed_form(scale):
    found = count(yolomix.YOLO(f"mamba-yolo-{scale}.yaml").model, (1, 3, SIDE, SIDE))[""]
    assert found.scan_papers / 1e9 == pytest.approx(PAPERS[scale], abs=1e-3)
    assert (found.total - found.scan) / 1e9 == pytest.approx(PRODUCTS[scale], abs=1e-3)
    assert found.scan / 6 == pytest.approx(found.scan_papers / 9, rel=0.01)
    assert not found.not_counted


ONE_OF_EACH_OPERATOR = ["mamba-yolo", "yolo11-assg", "yolo11-halo", "yolo11-mlla"]


@pytest.mark.parametrize("name", cases(models.names(), always=ONE_OF_EACH_OPERATOR))
def test_layers_add_up_and_the_backend_does_not_matter(name):
    shape = (96, 128)
    model = yolomix.YOLO(models.zoo()[name].typed(next(iter(models.zoo()[name].parameters)))).model
    found = count(model, (1, 3, *shape))
    layers = [found.get(f"model.{i}", Operations()) for i in range(len(model.model))]
    assert sum(layers, Operations()) == found[""]
    with use_backend("reference"):
        assert count(model, (1, 3, *shape)) == found
    with torch.no_grad(), counting(), FlopCounterMode(display=False) as counter:
        copy.deepcopy(model).eval()(torch.zeros(1, 3, *shape))
    assert counter.get_total_flops() == found[""].total > 0


TRAINED = ["yolo11n-mlla.yaml", "yolov8n-vmamba.yaml", "yolo26n.yaml", "rtdetr-l.yaml"]


@pytest.mark.parametrize("name", cases(TRAINED, always=TRAINED[:2]))
def test_a_backward_pass_takes_about_twice_a_forward_pass(name):
    model = yolomix.YOLO(name).model
    forward, both = count(model, (1, 3, 128, 128))[""], count(model, (1, 3, 128, 128), backward=True)[""]
    assert 2.8 < both.total / forward.total < 3.2
    assert next(model.parameters()).device.type == "cpu"
    assert model.training


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 12, 3, groups=4),
        nn.Conv2d(8, 8, 3, groups=8, padding=1),
        nn.ConvTranspose2d(8, 12, 2, 2, groups=4),
        nn.Conv2d(8, 4, 1),
    ],
    ids=["groups", "depthwise", "transposed", "pointwise"],
)
def test_gradients_of_convolutions_know_their_groups(layer):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), layer)
    forward, both = count(model, (1, 3, 8, 8)), count(model, (1, 3, 8, 8), backward=True)
    assert both["1"].total == 3 * forward["1"].total
    assert both["0"].total == 2 * forward["0"].total  # the image needs no gradient


class Sums(nn.Module):
    def forward(self, x):
        return x.cumsum(-1)


def test_what_has_no_formula_is_named_and_not_zero():
    found = count(nn.Sequential(nn.Conv2d(3, 4, 1), Sums()), (1, 3, 4, 4))
    assert found[""].not_counted == found["1"].not_counted == {"aten.cumsum"}
    assert not found["0"].not_counted


def test_an_operator_of_ones_own_is_named():
    if not hasattr(torch.ops.yolomix_test, "twice"):
        torch.library.define("yolomix_test::twice", "(Tensor x) -> Tensor")
        torch.library.impl("yolomix_test::twice", "CompositeExplicitAutograd", lambda x: 2 * x)

    class Twice(nn.Module):
        def forward(self, x):
            return torch.ops.yolomix_test.twice(x)

    assert count(nn.Sequential(Twice()), (1, 3, 4, 4))[""].not_counted == {"yolomix_test.twice"}


def test_a_model_that_cannot_run_at_that_size_says_so():
    with pytest.raises(RuntimeError, match="Kernel size"):
        count(nn.Conv2d(3, 4, 7), (1, 3, 4, 4))


def test_nothing_stays_behind():
    module = nn.Sequential(nn.Conv2d(3, 4, 1))
    count(module, (1, 3, 4, 4), backward=True)
    assert not torch.nn.modules.module._global_forward_hooks
    assert torch.backends.mha.get_fastpath_enabled()
    assert module[0].weight.grad is None
