"""The Numba backends as PyTorch sees them: refusals, registered operators, compiled graphs, memory."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.ops.numba_cases import gradients, map_inputs, scan_inputs
from yolomix.ops._numba import layout
from yolomix.ops._numba.processor import LANES
from yolomix.ops.selective_scan import example as scan_example
from yolomix.ops.selective_scan import numba_cpu as scan_cpu
from yolomix.ops.selective_scan import numba_operator as scan_operator
from yolomix.ops.selective_scan import selective_scan
from yolomix.ops.selective_scan.inputs import ScanInputs
from yolomix.ops.ss2d import example as ss2d_example
from yolomix.ops.ss2d import numba_cpu as ss2d_cpu
from yolomix.ops.ss2d import numba_operator as ss2d_operator
from yolomix.ops.ss2d import ss2d
from yolomix.ops.ss2d.inputs import SS2DInputs


def test_float64_and_complex_are_refused_in_words():
    inputs = scan_inputs()
    scan = ScanInputs(**inputs, delta_softplus=True)
    assert scan_cpu.refusals(scan) == []
    doubles = ScanInputs(**{name: x.double() for name, x in inputs.items()})
    assert scan_cpu.refusals(doubles) == ["it computes in float32, which is less than torch.float64"]
    assert scan_cpu.refusals(scan._replace(A=torch.complex(scan.A, scan.A))) == [
        "it computes real states, and A is torch.complex64"
    ]
    x = torch.zeros(1, 4, 2, 2)
    assert ss2d_cpu.refusals(SS2DInputs(x, *[x] * 5)) == []
    assert ss2d_cpu.refusals(SS2DInputs(x.double(), *[x] * 5)) == [
        "it computes in float32, which is less than torch.float64"
    ]


def registered() -> dict[str, tuple[object, tuple[object, ...]]]:
    """Each operator with arguments as ``run`` gives them; the backward operators with those of autograd."""
    torch.manual_seed(0)
    D, N, L = 2 * LANES, 5, 20
    r = torch.randn
    scan = (r(1, D, L), r(1, D, L), -r(D, N).exp(), r(1, 2, N, L), r(1, 2, N, L), r(D), r(1, D, L), r(D))
    tokens, *parameters = r(1, 3, 5, D), *map_inputs(D)[1:]
    needing = [tuple(x.clone().requires_grad_() for x in args) for args in (scan, (tokens, *parameters))]
    *_, checkpoints, ungated = scan_operator.scan_op(*scan, True, True)
    _, map_checkpoints = ss2d_operator.scan_op(tokens, *parameters, True)
    return {
        "scan": (scan_operator.scan_op, (*needing[0], True, True)),
        "scan_backward": (
            scan_operator.scan_backward_op,
            (*scan, True, True, r(1, D, L), r(1, D, N), checkpoints, ungated),
        ),
        "ss2d": (ss2d_operator.scan_op, (*needing[1], True)),
        "ss2d_backward": (
            ss2d_operator.scan_backward_op,
            (tokens, *parameters, True, r(tokens.shape), map_checkpoints),
        ),
    }


@pytest.mark.parametrize("name", ["scan", "scan_backward", "ss2d", "ss2d_backward"])
def test_registered_operators_keep_pytorch_s_contract(name):
    operator, args = registered()[name]
    found = torch.library.opcheck(operator, args)
    assert set(found.values()) == {"SUCCESS"}


@pytest.mark.parametrize("operator", [selective_scan, ss2d], ids=["scan", "ss2d"])
def test_one_compiled_graph_with_the_same_gradients(operator):
    torch._dynamo.reset()
    tensors = (scan_example if operator is selective_scan else ss2d_example).inputs("cpu")
    leaves = [x.requires_grad_() for x in tensors if isinstance(x, Tensor)]

    def model(*args):
        return operator(torch.tanh(args[0]), *args[1:]) * 2

    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    for got, want in zip(gradients(compiled(*leaves), leaves), gradients(model(*leaves), leaves), strict=True):
        assert torch.equal(got, want)


def test_a_second_derivative_is_refused():
    tensors = [x.requires_grad_() for x in map_inputs()]
    out = ss2d(*tensors, backend="numba").sum()
    with pytest.raises(NotImplementedError, match=r'numba ss2d has no second derivative.* take backend="reference"'):
        torch.autograd.grad(out, tensors[:1], create_graph=True)


def test_the_output_keeps_channels_last_memory():
    x, *parameters = map_inputs(D=32)
    out = ss2d(x, *parameters, backend="numba")
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_tiles_and_padding():
    assert [layout.tile_count(n) for n in (1, 64, 65)] == [1, 1, 2]
    assert [layout.padded(n) for n in (1, LANES, LANES + 1)] == [LANES, LANES, 2 * LANES]
    matrix = torch.randn(2, 2 * LANES, 3)
    assert torch.equal(layout.unpack(layout.pack(matrix)), matrix)


def test_an_operator_s_schema_is_that_of_its_values():
    for operator, value in (
        (scan_operator.scan_op, scan_operator.ScanKernelInputs),
        (ss2d_operator.scan_op, ss2d_operator.SS2DKernelInputs),
    ):
        arguments = operator._schema.arguments
        assert [argument.name for argument in arguments] == list(value._fields)
        assert not any(argument.alias_info for argument in arguments), "nothing is changed in place"


ANEW = """
import importlib, sys
import torch

def computed():
    ops = importlib.import_module("yolomix.ops")
    found = []
    for folder in ("ss2d", "selective_scan"):
        package = importlib.import_module(f"yolomix.ops.{folder}")
        example = importlib.import_module(f"yolomix.ops.{folder}.example")
        torch.manual_seed(0)
        inputs = example.inputs("cpu")
        x = inputs[0].detach().requires_grad_()
        out = package.OPERATOR(type(inputs)(x, *inputs[1:]), "numba")
        out = out if isinstance(out, torch.Tensor) else out[0]
        out.sum().backward()
        found += [out.detach(), x.grad]
    return found

want = computed()
for name in [name for name in sys.modules if name.split(".")[0] == "yolomix"]:
    del sys.modules[name]
for got, wanted in zip(computed(), want, strict=True):
    assert torch.equal(got, wanted)
"""


def test_a_package_that_is_forgotten_and_imported_anew_computes_as_before(python):
    python(ANEW)
