"""Every packaged model as a file: equal to the model at several sizes, and without what a runtime lacks.

``runtimes.toml`` says what they lack. All models are narrow and have every row once.
"""

from __future__ import annotations

import copy
import io
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import openvino
import pytest
import torch
import yaml
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

import yolomix
from tests.full import cases
from tests.models import tensorrt
from tests.models.test_zoo import FACTS, ZOO, layers
from tests.ops.test_export_scan import exported, opened
from yolomix.hooks.exports import SORTED
from yolomix.nn import ASSGroup
from yolomix.nn.mambairv2_scan import ASSM
from yolomix.ops.tracing import sorting_at_most

RUNTIMES = tomllib.loads(Path(__file__).with_name("runtimes.toml").read_text(encoding="utf-8"))
NARROW = {"scales": {"n": [0.01, 0.125, 64]}}  # depth, width, largest number of channels

PLAIN = [name for name in FACTS if name in ("mamba-yolo", "yolov8-vim", "yolov8-vmamba") or name.startswith("yolo11")]
"""Models that have all of our layers that the others have; what they are made of is looked at without lowered scans,
and they alone are always run in OpenVINO and as TorchScript."""


@pytest.fixture(scope="module", params=FACTS)
def model(request, tmp_path_factory) -> yolomix.YOLO:
    """A narrow model whose norms, scores and routes are not those of an untrained one, which are nearly equal."""
    file = tmp_path_factory.mktemp("model") / f"{request.param}.yaml"
    file.write_text(yaml.safe_dump(yaml.safe_load(ZOO[request.param]) | NARROW))
    torch.manual_seed(0)
    made = yolomix.YOLO(file)
    for name, module in made.model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
        if isinstance(module, nn.Linear) and ".route." in name:
            module.weight.data.normal_()
    for branch in getattr(made.model.model[-1], "cv3", []):
        branch[-1].bias.data.normal_()
    return made


@pytest.fixture(scope="module")
def lowered(model, tmp_path_factory) -> Path:
    """Its ONNX file, of any size."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path_factory.mktemp("file"))
        given = {"format": "onnx", "imgsz": 64, "dynamic": True, "simplify": False, "device": "cpu"}
        return Path(model.export(**given, verify=False)).resolve()


def assert_equal(got: list[np.ndarray], want: list[Tensor], limit: float) -> None:
    """Every output of a file is one of the model's, of which a file has not all; errors are of the largest value."""
    assert got
    for y in got:
        same = [one.numpy() for one in want if one.shape == y.shape]
        assert same, [one.shape for one in want]
        assert min(np.abs(y - one).max() / np.abs(one).max() for one in same) < limit


def test_a_file_is_equal_at_every_size(model, lowered):
    session = onnxruntime.InferenceSession(lowered, providers=["CPUExecutionProvider"])
    pytorch = model.model.float().eval()
    sizes = [(1, 64, 64), (2, 96, 96), (4, 64, 160)]
    if model.task == "classify":
        sizes.append((3, 40, 49))  # nothing rounds these to a stride
    for batch, height, width in sizes:
        x = torch.rand(batch, 3, height, width)
        got = session.run(None, {"images": x.numpy()})
        with torch.no_grad():
            want = tree_leaves(pytorch(x))
        assert_equal(got, want, limit=1e-5)


@pytest.mark.parametrize("model", cases(FACTS, PLAIN), indirect=True)
def test_openvino_reads_the_file_and_gives_what_the_model_gives(model, lowered):
    # What its own files are made of; tests/hooks/test_exporting.py writes one.
    core, x = openvino.Core(), torch.rand(2, 3, 64, 96)
    run = core.compile_model(core.read_model(lowered), "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    with torch.no_grad():
        want = tree_leaves(model.model.float().eval()(x))
    assert_equal([*run(x.numpy()).values()], want, limit=1e-4)  # it has an exponential of its own


@pytest.fixture(scope="module")
def net(model) -> nn.Module:
    """The module that Ultralytics traces."""
    made = copy.deepcopy(model.model).float().eval().fuse(verbose=False).requires_grad_(False)
    made.model[-1].export, made.model[-1].format = True, "torchscript"
    made(torch.rand(1, 3, 64, 64))  # anchors are made before a graph is recorded
    return made


def traced(net: nn.Module) -> Any:
    """Its TorchScript, of plain operations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return torch.jit.trace(net, torch.rand(1, 3, 64, 64), check_trace=False, strict=False)


@pytest.fixture(scope="module")
def script(net) -> Any:
    return traced(net)


def recorded(script: Any) -> Any:
    """Its ONNX file."""
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(script, (torch.rand(1, 3, 64, 64),), file, opset_version=18, dynamo=False)
    return onnx.load_from_string(file.getvalue())


def torchscript_faults(graph: Any, limits: dict[str, Any]) -> Iterator[str]:
    """What a TorchScript graph has that a runtime lacks."""
    for node in graph.nodes():
        kind, inputs = node.kind(), [*node.inputs()]
        if kind in limits["lacks"]:
            yield kind
        for output in node.outputs():
            sizes = output.type().sizes() if output.type().kind() == "TensorType" else None
            if sizes is not None and len(sizes) > limits["rank"]:
                yield f"{kind} of rank {len(sizes)}"
        if kind == "aten::slice" and not limits["step"] and inputs[4].toIValue() not in (None, 1):
            yield "aten::slice with a step"
        if kind == "aten::expand" and not limits["batch_expand"]:
            before, after = inputs[0].type().sizes(), node.output().type().sizes()
            if len(after) > 2 and from_input(inputs[0]):
                yield f"aten::expand of {before} to {after}"


def from_input(value: Any) -> bool:
    """Whether a value of the graph has the values of the image in it; what is made of sizes alone is constant."""
    seen, waiting = set(), [value]
    while waiting:
        value = waiting.pop()
        node = value.node()
        if value.debugName() in seen or node.kind() == "aten::size":
            continue
        seen.add(value.debugName())
        if node.kind() == "prim::Param" and value.type().kind() == "TensorType":
            return True
        waiting += node.inputs()
    return False


@pytest.mark.parametrize("model", cases(FACTS, PLAIN), indirect=True)
def test_torchscript_gives_what_the_model_gives(model, net, script):
    x = torch.rand(1, 3, 64, 64)
    with torch.jit.optimized_execution(False):
        got = tree_leaves(script(x))
    assert_equal([y.numpy() for y in got], tree_leaves(net(x)), limit=1e-5)


@pytest.mark.parametrize("model", PLAIN, indirect=True)
def test_plain_operations_are_only_what_the_runtimes_have(model, net, script):
    unsorted = script
    if any(isinstance(module, ASSM) for module in net.modules()):
        with sorting_at_most(0):
            unsorted = traced(net)
    for runtime, limits in RUNTIMES.items():
        graph = (script if limits["sort"] else unsorted).inlined_graph
        assert {*torchscript_faults(graph, limits)} == set(), runtime
    assert {*tensorrt.faults(recorded(script))} == set()


def test_a_format_whose_runtime_lacks_a_sort_is_recorded_without():
    lack = {runtime for runtime, limits in RUNTIMES.items() if not limits["sort"]}
    assert lack <= {form for form, most in SORTED.items() if most == 0}


def own_layers(name: str) -> set[type]:
    scale = next(iter(FACTS[name].parameters))
    return {type(one) for one in layers(ZOO[name], scale).modules() if type(one).__module__.startswith("yolomix.")}


def test_the_models_that_are_looked_at_without_loops_have_every_layer():
    seen = set[type]().union(*map(own_layers, PLAIN))
    for name in FACTS:
        assert own_layers(name) <= seen, name


def test_tokens_are_routed_in_a_file_as_in_the_model():
    torch.manual_seed(0)
    group = ASSGroup(16, depth=2, window_size=4).eval()
    for name, parameter in group.named_parameters():
        if ".route." in name or "embedding" in name:
            parameter.data.normal_()
    run = opened(exported(group, torch.rand(2, 16, 6, 5), is_dynamic=True))
    for batch, height, width in [(1, 3, 7), (3, 9, 4), (2, 1, 1)]:
        x = torch.randn(batch, 16, height, width)
        with torch.no_grad():
            want = group(x).numpy()
        assert np.abs(run(x.numpy()) - want).max() < 1e-5 * np.abs(want).max()
    with torch.no_grad():
        group.residual_group.layers[0].assm.route[2].bias.normal_(0, 10)
        x = torch.randn(1, 16, 9, 4)
        assert np.abs(run(x.numpy()) - group(x).numpy()).max() > 1e-3  # other routes would be seen


class Faulty(torch.nn.Module):
    def forward(self, x):
        y = torch.addcmul(x, x, x)[..., ::2].view_as(x[..., ::2])
        return y, x[:, None].expand(-1, 2, -1, -1, -1), x.unflatten(3, (2, 1, 2)), x.argsort(dim=1)


def test_faults_are_found():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = torch.jit.trace(Faulty(), torch.rand(1, 3, 4, 4)).inlined_graph
    assert set(torchscript_faults(script, RUNTIMES["ncnn"])) == {
        "aten::addcmul",
        "aten::argsort",
        "aten::view_as",
        "aten::slice with a step",
        "aten::unflatten of rank 6",
        "aten::expand of [1, 1, 3, 4, 4] to [1, 2, 3, 4, 4]",
    }
