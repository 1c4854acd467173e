"""SS2D: the orders, symmetries, every backend against the reference at awkward sizes, cost, types, export, errors."""

from __future__ import annotations

import functools
import warnings

import onnxruntime
import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from tests.ops import parity
from tests.ops.parity import Tensors
from yolomix.ops.ss2d import OPERATOR, ss2d
from yolomix.ops.ss2d.inputs import SS2DInputs
from yolomix.ops.ss2d.reference import orders

NAMES = ("x", "x_proj_weight", "dt_projs_weight", "dt_projs_bias", "A", "D")
every_backend = parity.compared(OPERATOR.backends)


def arguments(tensors: Tensors) -> SS2DInputs:
    return SS2DInputs(**tensors)


def scanned(tensors: Tensors, backend: str) -> tuple[Tensor]:
    return (ss2d(*arguments(tensors), backend=backend),)


def random_tensors(H: int, W: int, D: int = 5, N: int = 3, R: int = 2, batch: int = 2) -> Tensors:
    torch.manual_seed(H * 100 + W)
    tensors = {
        "x": torch.randn(batch, D, H, W),
        "x_proj_weight": torch.randn(4, R + 2 * N, D) / D**0.5,
        "dt_projs_weight": torch.randn(4, D, R),
        "dt_projs_bias": torch.randn(4, D) - 1,
        "A": -0.05 - torch.rand(4 * D, N),
        "D": torch.randn(4 * D),
    }
    return {name: x.double() for name, x in tensors.items()}


CASES = [  # H, W, D, N, R
    (1, 1, 5, 3, 2), (1, 7, 16, 1, 1), (7, 1, 3, 16, 3), (2, 3, 1, 1, 1), (7, 5, 17, 6, 2),
    (8, 8, 33, 8, 4), (13, 17, 12, 16, 1), (20, 15, 6, 20, 2), (33, 21, 4, 4, 5), (64, 3, 20, 3, 1),
]  # fmt: skip


@functools.cache
def case(index: int) -> tuple[Tensors, Tensors]:
    """Inputs of a case, and what the reference makes of them."""
    tensors = random_tensors(*CASES[index])
    return tensors, parity.measured(lambda t: scanned(t, "reference"), tensors)


def test_orders():
    assert orders(2, 3).tolist() == [[0, 1, 2, 3, 4, 5], [0, 3, 1, 4, 2, 5], [5, 4, 3, 2, 1, 0], [5, 2, 4, 1, 3, 0]]


def directions(tensors: Tensors, order: list[int]) -> Tensors:
    """The parameters of the four directions in another order."""
    turned = {k: v[order] for k, v in tensors.items() if k.startswith(("x_proj", "dt_projs"))}
    return tensors | turned | {k: tensors[k].unflatten(0, (4, -1))[order].flatten(0, 1) for k in "AD"}


@pytest.mark.parametrize("row", OPERATOR.backends, ids=lambda row: row.name)
@pytest.mark.parametrize(("turn", "order"), [
    (lambda x: x.transpose(2, 3), [1, 0, 3, 2]),
    (lambda x: x.flip(2, 3), [2, 3, 0, 1]),
], ids=["transposed", "upside down"])  # fmt: skip
def test_turning_the_map_changes_places_of_the_directions(row, turn, order):
    tensors = random_tensors(7, 5)
    turned = parity.prepared(row, directions(tensors, order) | {"x": turn(tensors["x"])}, arguments)
    got = turn(scanned(turned, row.name)[0])
    assert parity.error(got, scanned(tensors, "reference")[0]) <= 5e-6


@every_backend
@pytest.mark.parametrize("index", range(len(CASES)), ids=["x".join(map(str, c)) for c in CASES])
def test_output_and_gradients_equal_the_reference(row, index):
    tensors, want = case(index)
    inputs = parity.prepared(row, tensors, arguments)
    parity.assert_equal(parity.measured(lambda t: scanned(t, row.name), inputs), want)


@pytest.mark.parametrize("dtype", parity.TOLERANCE, ids=str)
@pytest.mark.parametrize("spoiled", ["output", *NAMES])
def test_the_comparison_sees_an_error_of_one_percent(spoiled, dtype):
    tensors, want = case(4)
    inputs = {name: x.to(dtype) for name, x in tensors.items()}

    def wrong(t: Tensors) -> tuple[Tensor]:
        (out,) = scanned(t if spoiled == "output" else parity.steeper(t, spoiled), "eager")
        return (out * 1.01 if spoiled == "output" else out,)

    with pytest.raises(AssertionError, match=f"{spoiled}.*of the largest value"):
        parity.assert_equal(parity.measured(wrong, inputs), want)


@every_backend
@pytest.mark.parametrize("layout", ["channels last", "columns first", "part of a larger map"])
def test_any_strides(row, layout):
    tensors, want = case(4)
    x = tensors["x"]
    if layout == "channels last":
        x = x.contiguous(memory_format=torch.channels_last)
    elif layout == "columns first":
        x = x.transpose(2, 3).contiguous().transpose(2, 3)
    else:
        x = torch.nn.functional.pad(x, (1, 2, 3, 1))[:, :, 3:-1, 1:-2]
    inputs = parity.prepared(row, tensors | {"x": x}, arguments)
    (got,) = scanned(inputs, row.name)
    parity.assert_equal({"output 0": got}, {"output 0": want["output 0"]})


@every_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_half_precision_computes_in_float32(row, dtype, autocast):
    tensors = parity.prepared(row, random_tensors(9, 6, 16, 4), arguments)
    halves = {name: x.float() for name, x in tensors.items()} | {"x": tensors["x"].to(dtype)}
    with torch.autocast(halves["x"].device.type, torch.bfloat16, enabled=autocast):
        (got,) = scanned(halves, row.name)
    (want,) = scanned({name: x.cpu().double() for name, x in halves.items()}, "reference")
    assert got.dtype == torch.float32
    parity.assert_equal({"output 0": got}, {"output 0": want})


def test_parameters_in_half_precision_are_taken():
    tensors = {name: x.to(torch.bfloat16) for name, x in random_tensors(4, 3).items()}
    (got,), (want,) = scanned(tensors, "eager"), scanned({k: x.double() for k, x in tensors.items()}, "reference")
    assert got.dtype == torch.float32
    parity.assert_equal({"output 0": got}, {"output 0": want})


@every_backend
def test_not_a_number_stays_one(row):
    tensors = parity.prepared(row, random_tensors(4, 5), arguments)
    tensors["x"][0, 1, 2, 3] = torch.nan
    bad = scanned(tensors, row.name)[0].isnan().cpu()
    assert bad[0].all()  # forward and backward directions together reach every cell, and a cell's channels mix
    assert not bad[1].any()


class Products(TorchDispatchMode):
    """Counts matrix products."""

    number = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.number += func in (torch.ops.aten.mm.default, torch.ops.aten.bmm.default)
        return func(*args, **(kwargs or {}))


def test_eager_projects_the_map_once_for_all_directions():
    with torch.no_grad(), Products() as products:
        scanned(random_tensors(6, 4), "eager")
    assert products.number == 2  # x_proj of the map, and the step sizes from its R values


class Scan(nn.Module):
    """The operator as a layer."""

    def __init__(self, tensors: Tensors):
        super().__init__()
        self.names = [name for name in NAMES if name != "x"]
        for name in self.names:
            self.register_buffer(name, tensors[name].float())

    def forward(self, x: Tensor) -> Tensor:
        return ss2d(x, *(getattr(self, name) for name in self.names))


def test_exports(tmp_path):
    tensors, file = random_tensors(9, 20, 16, 8), tmp_path / "ss2d.onnx"
    want, x, layer = scanned(tensors, "reference")[0], tensors["x"].float(), Scan(tensors).eval()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(layer, (x,), file, input_names=["x"], opset_version=18, dynamo=False)
        traced = torch.jit.trace(layer, x)
    (got,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    recorded = torch.export.export(layer, (x,)).module()
    for out in (torch.from_numpy(got), traced(x), recorded(x)):
        assert parity.error(out, want) <= 1e-6  # of the largest value, in float32


ERRORS = [
    ({"x": torch.zeros(2, 5, 6)}, ValueError, r"needs x of shape \(B, D, H, W\) with all sizes >= 1, got \(2, 5, 6\)"),
    ({"x": torch.zeros(2, 5, 0, 3)}, ValueError, r"needs x of shape .* got \(2, 5, 0, 3\)"),
    ({"A": torch.zeros(5, 3)}, ValueError, r"needs A of shape \(4D, N\) with 4D = 20 .* got \(5, 3\)"),
    ({"dt_projs_weight": torch.zeros(4, 5)}, ValueError, r"dt_projs_weight of shape .* with R >= 1, got \(4, 5\)"),
    ({"x_proj_weight": torch.zeros(4, 7, 5)}, ValueError,
     r"x_proj_weight of shape \(4, R \+ 2N, D\) = \(4, 8, 5\) for D=5, N=3, R=2, got \(4, 7, 5\)"),
    ({"dt_projs_weight": torch.zeros(4, 6, 2)}, ValueError, r"_weight of shape .* = \(4, 5, 2\) .* got \(4, 6, 2\)"),
    ({"dt_projs_bias": torch.zeros(20)}, ValueError, r"dt_projs_bias of shape \(4, D\) = \(4, 5\) .* got \(20,\)"),
    ({"D": torch.zeros(5)}, ValueError, r"needs D of shape \(4D,\) = \(20,\) .* got \(5,\)"),
    ({"x": torch.zeros(2, 5, 3, 4, dtype=torch.uint8)}, TypeError, r"needs x of a real floating type, got torch.uint8"),
    ({"A": torch.zeros(20, 3, dtype=torch.complex64)}, TypeError, r"needs A of a real floating type, got torch.co"),
    ({"D": torch.zeros(20, device="meta")}, ValueError, r"all tensors on one device, got x on cpu, .* D on meta"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "text"), ERRORS, ids=[text[:30] for *_, text in ERRORS])
def test_what_does_not_fit_is_refused_in_words(change, error, text):
    with pytest.raises(error, match=text):
        ss2d(**(random_tensors(3, 4) | change))
