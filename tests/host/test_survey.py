"""What is known of layers before a model is built: the same as of the model, without its weights and downloads."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from ultralytics.nn import tasks

from tests.tiny import description
from yolomix.host import survey as surveys
from yolomix.host.survey import survey
from yolomix.nn import registry
from yolomix.nn.rules import ChannelRule
from yolomix.ops.selective_scan import eager


def test_it_is_what_the_built_model_has() -> None:
    layers = survey(description())
    model = tasks.DetectionModel(description(), verbose=False).eval()
    outputs = []
    for layer in model.model[:-1]:
        layer.register_forward_hook(lambda _module, _inputs, y: outputs.append(y))
    with torch.no_grad():
        model(torch.zeros(1, 3, 64, 64))
    assert [(x.channels, x.stride) for x in layers[:-1]] == [(y.shape[1], 64 // y.shape[3]) for y in outputs]
    assert [x.parameters for x in layers] == [sum(p.numel() for p in layer.parameters()) for layer in model.model]
    assert [x.tensors for x in layers] == [len(layer.state_dict()) for layer in model.model]
    assert [x.backbone for x in layers] == [True] * 5 + [False] * 3
    assert (layers[-1].reads, layers[-1].channels, layers[-1].stride) == ((4, 6), None, None)


def test_it_leaves_model_and_random_state_alone() -> None:
    model, before = description(), torch.get_rng_state()
    survey(model)
    assert model == description()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("block", ["VSSBlock", "MambaLayer"])
def test_no_scan_is_computed(block: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """One over a map of 128 x 128 takes ten seconds, on the meta device too."""

    def computed(*args: Any) -> None:
        raise AssertionError("a scan is computed")

    monkeypatch.setattr(eager, "_segment", computed)
    rows = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, block, [8]]]
    layers = survey({"nc": 2, "backbone": rows, "head": [[[1], 1, "Detect", ["nc"]]]})
    assert [(x.channels, x.stride) for x in layers[:-1]] == [(8, 2), (8, 2)]


def test_an_equal_model_is_not_built_again(monkeypatch: pytest.MonkeyPatch) -> None:
    first = survey({**description(), "nc": 11})
    monkeypatch.setattr(surveys, "_traced", lambda *_: pytest.fail("it is built again"))
    assert survey({**description(), "nc": 11, "yaml_file": "another.yaml"}) == first


class Wide(nn.Conv2d):
    """Takes and gives channels, as Ultralytics' own blocks do."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__(c1, c2, 1)


class Wider(Wide):
    """Twice as many weights."""

    def __init__(self, c1: int, c2: int) -> None:
        super().__init__(c1, c2)
        self.second = nn.Conv2d(c1, c2, 1)


@pytest.mark.parametrize(("name", "table"), [("Exchanged", registry.BLOCKS), ("Focus", vars(tasks))])
def test_a_class_that_is_exchanged_is_built_again(name: str, table: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [[-1, 1, "Conv", [8, 3, 2]], [-1, 1, name, [8]]]
    model = {"nc": 2, "backbone": rows, "head": [[[1], 1, "Detect", ["nc"]]]}
    parameters = []
    for cls in (Wide, Wider, Wide):
        block = registry.Block(name, cls, ChannelRule.said("c1 c2"), "")
        monkeypatch.setitem(table, name, block if table is registry.BLOCKS else cls)
        parameters.append(survey(model)[1].parameters)
    assert parameters == [72, 144, 72]


def test_without_a_scale_it_is_the_first() -> None:
    model = description()
    del model["scale"]
    assert survey(model) == survey(description())


@pytest.mark.parametrize("partial", [False, True])
def test_a_layer_that_cannot_take_what_it_reads(partial: bool) -> None:
    model = description()
    model["backbone"][4] = [[3, 2], 1, "Concat", [1]]  # strides 8 and 4
    if partial:
        assert [x.channels for x in survey(model, partial)] == [8, 16, 16, 16, None, None, None, None]
    else:
        with pytest.raises(ValueError, match=r"layer 4 \(Concat\) cannot take what it reads: "):
            survey(model, partial)


def test_layers_that_read_a_text_are_known() -> None:
    layers = survey(tasks.yaml_model_load("yolov8n-world.yaml"))
    assert {x.module for x in layers if x.reads_text} == {"C2fAttn", "ImagePoolingAttn"}


def test_pretrained_weights_of_torchvision_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("a survey downloads nothing")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", fetch)
    model = {
        "nc": 2,
        "backbone": [[-1, 1, "TorchVision", [512, "resnet18", "DEFAULT", True, 2]]],
        "head": [[-1, 1, "Classify", ["nc"]]],
    }
    layers = survey(model)
    assert (layers[0].channels, layers[0].stride) == (512, 32)
    assert model["backbone"][0][3][2] == "DEFAULT"


def test_models_compute_after_a_survey_as_before() -> None:
    """All of them have one activation, of the class Conv."""
    model = tasks.DetectionModel(description(), verbose=False).eval()
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        before = model.model[0](image)
        survey(description())
        assert model.model[0](image).equal(before)
