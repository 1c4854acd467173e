"""Selective scan: reference outputs, every backend against the reference at awkward sizes, limits, memory, errors."""

from __future__ import annotations

import functools
import warnings
from pathlib import Path

import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from tests import golden
from tests.ops import parity
from tests.ops.parity import Tensors
from yolomix.ops.selective_scan import OPERATOR, eager, selective_scan
from yolomix.ops.selective_scan.inputs import ScanInputs

NAMES = ("u", "delta", "A", "B", "C", "D", "z", "delta_bias")
every_backend = parity.compared(OPERATOR.backends)


def arguments(tensors: Tensors, softplus: bool = True) -> ScanInputs:
    """The operator's inputs, the last state asked for."""
    return ScanInputs(*(tensors.get(name) for name in NAMES), softplus, True)


def scanned(tensors: Tensors, softplus: bool, backend: str) -> tuple[Tensor, Tensor]:
    return selective_scan(*arguments(tensors, softplus), backend=backend)


def random_tensors(L: int, N: int, D: int, kinds: str = "gg", flags: str = "Dzb", groups: int = 1) -> Tensors:
    """Inputs in float64; ``kinds`` says for B and C whether they are constant, variable or grouped."""
    torch.manual_seed(L * 100 + N)
    forms = {"c": (D, N), "v": (2, N, L), "g": (2, groups, N, L)}
    shapes = {"u": (2, D, L), "delta": (2, D, L), "B": forms[kinds[0]], "C": forms[kinds[1]]}
    optional = {"D": (D,), "z": (2, D, L), "b": (D,)}
    shapes |= {"delta_bias" if f == "b" else f: optional[f] for f in flags}
    tensors = {name: torch.randn(shape, dtype=torch.float64) for name, shape in shapes.items()}
    tensors["A"] = -0.05 - torch.rand(D, N, dtype=torch.float64)
    return tensors


# Sizes before, on and after the edge of a chunk or a tile; channels that fill no vector; every flag on and off.
SIZES = [(L, N) for L in (1, 2, 7, 63, 64, 65) for N in (1, 3, 6, 8, 16, 20)]
SIZES += [(257, 3), (257, 16), (1000, 6), (1000, 16)]
WIDTHS = [(5, 1), (12, 4), (17, 1), (6, 2), (3, 3), (33, 1)]  # channels, groups
KINDS = ["gg", "vv", "cg", "gc", "cc", "vg"]
FLAGS = ["Dzb", "", "z", "Db", "bz"]


@functools.cache
def case(index: int) -> tuple[Tensors, bool, Tensors]:
    """Inputs of a case, whether delta passes softplus, and what the reference makes of them."""
    (L, N), turn = SIZES[index], index + index // 6
    D, groups = WIDTHS[turn % 6]
    tensors = random_tensors(L, N, D, KINDS[index % 6], FLAGS[turn % 5], groups)
    softplus = index % 3 > 0
    if not softplus:
        tensors |= {k: tensors[k].abs() * 0.3 for k in ("delta", "delta_bias") if k in tensors}
    return tensors, softplus, parity.measured(lambda t: scanned(t, softplus, "reference"), tensors)


@every_backend
@pytest.mark.parametrize("index", range(len(SIZES)), ids=[f"L{L}-N{N}" for L, N in SIZES])
def test_output_state_and_gradients_equal_the_reference(row, index):
    tensors, softplus, want = case(index)
    inputs = parity.prepared(row, tensors, lambda t: arguments(t, softplus))
    parity.assert_equal(parity.measured(lambda t: scanned(t, softplus, row.name), inputs), want)


@pytest.mark.parametrize("dtype", parity.TOLERANCE, ids=str)
@pytest.mark.parametrize("spoiled", ["output 0", "output 1", *NAMES])
def test_the_comparison_sees_an_error_of_one_percent(spoiled, dtype):
    tensors, softplus, want = case(22)
    inputs = {name: x.to(dtype) for name, x in tensors.items()}
    assert inputs.keys() == set(NAMES)

    def wrong(t: Tensors) -> tuple[Tensor, ...]:
        outputs = scanned(parity.steeper(t, spoiled) if spoiled in t else t, softplus, "eager")
        return tuple(out * (1.01 if spoiled == f"output {i}" else 1) for i, out in enumerate(outputs))

    with pytest.raises(AssertionError, match=f"{spoiled}.*of the largest value"):
        parity.assert_equal(parity.measured(wrong, inputs), want)


@pytest.mark.parametrize("row", OPERATOR.backends, ids=lambda row: row.name)
@pytest.mark.parametrize("name", golden.names("selective_scan"))
def test_golden(row, name):
    g = golden.load("selective_scan", name)
    stored = {k: torch.view_as_complex(x.clone()) if k in g.meta["complex_keys"] else x for k, x in g.tensors.items()}
    softplus = g.meta["delta_softplus"]
    tensors = {k: stored[k].clone() for k in NAMES if k in stored}
    inputs = {k: x.requires_grad_() for k, x in parity.prepared(row, tensors, lambda t: arguments(t, softplus)).items()}
    out, last = scanned(inputs, softplus, row.name)
    want = {"output": stored["out"], "output state": stored["last_state"]}
    got = {"output": out.detach(), "output state": last.detach()}
    for prefix, result, seed in (("grad.", out, "grad_out"), ("state_grad.", last, "grad_last_state")):
        if seed in stored:
            weights = stored[seed].to(result)
            found = torch.autograd.grad(result, [*inputs.values()], weights, retain_graph=True, allow_unused=True)
            for k, gradient in zip(inputs, found, strict=True):
                if prefix + k in stored:
                    got[prefix + k], want[prefix + k] = gradient, stored[prefix + k]
                else:
                    assert gradient is None or gradient.abs().max() == 0
    parity.assert_equal(got, want)


@pytest.mark.parametrize("groups", [(2, 3), (6, 2), (1, 3)], ids=str)
def test_groups_of_b_and_c_may_differ(groups):
    tensors = random_tensors(9, 2, 12)
    tensors |= {k: torch.randn(2, G, 2, 9, dtype=torch.float64) for k, G in zip("BC", groups, strict=True)}
    got, want = (parity.measured(lambda t, b=b: scanned(t, True, b), tensors) for b in ("eager", "reference"))
    parity.assert_equal(got, want)


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    L=st.integers(1, 70), N=st.integers(1, 9), P=st.integers(1, 4), groups=st.integers(1, 3),
    kinds=st.sampled_from(["gg", "vg", "gv", "cg", "gc", "cc", "vv"]), flags=st.sampled_from(FLAGS),
    softplus=st.booleans(), is_complex=st.booleans(), segment=st.sampled_from([1, 1 << 9, 1 << 20]),
)  # fmt: skip
def test_eager_equals_the_reference_for_any_arguments(L, N, P, groups, kinds, flags, softplus, is_complex, segment):
    tensors = random_tensors(L, N, groups * P, kinds, flags, groups)
    if is_complex:
        tensors["A"] = torch.complex(tensors["A"], torch.randn_like(tensors["A"]))
        for name in "BC":
            doubled = tensors[name].repeat_interleave(2, dim=-1)
            tensors[name] = torch.complex(tensors[name], tensors[name] / 2) if doubled.dim() == 2 else doubled
    results = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eager, "SEGMENT", segment)
        patch.setattr(eager, "SHORTEST", eager.STEPS)
        for backend in ("eager", "reference"):
            results.append(parity.measured(lambda t, b=backend: scanned(t, softplus, b), tensors))
    parity.assert_equal(*results)


def test_gradients_are_those_of_finite_differences():
    tensors = random_tensors(19, 2, 2)
    names = [name for name in NAMES if name in tensors]

    def f(*values: Tensor) -> tuple[Tensor, Tensor]:
        return scanned(dict(zip(names, values, strict=True)), True, "eager")

    assert torch.autograd.gradcheck(f, [tensors[name].requires_grad_() for name in names])


def test_a_second_derivative_is_refused():
    tensors = {name: x.requires_grad_() for name, x in random_tensors(5, 2, 2).items()}
    with pytest.raises(NotImplementedError, match=r'no second derivative, .*create_graph.* take backend="reference"'):
        torch.autograd.grad(scanned(tensors, True, "eager")[0].sum(), tensors["u"], create_graph=True)
    (first,) = torch.autograd.grad(scanned(tensors, True, "reference")[0].sum(), tensors["u"], create_graph=True)
    assert torch.autograd.grad(first.sum(), tensors["delta"])[0].isfinite().all()


class Largest(TorchDispatchMode):
    """Remembers the most values that any operation returned in one tensor."""

    values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        self.values = max([self.values, *(t.numel() for t in tree_leaves(out) if isinstance(t, Tensor))])
        return out


def test_training_holds_no_tensor_of_all_states(monkeypatch):
    monkeypatch.setattr(eager, "SEGMENT", 1 << 12)
    tensors = {name: x.requires_grad_() for name, x in random_tensors(1000, 32, 32).items()}
    states, kept = 2 * 32 * 1000 * 32, {}

    def keep(x: Tensor) -> Tensor:
        kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes() // 8
        return x

    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda x: x):
            out, _ = scanned(tensors, True, "eager")
        out.sum().backward()
    assert largest.values <= states / 16
    assert sum(kept.values()) <= states / 2  # the arguments themselves, (B, D, L) each, and one state per segment


@every_backend
@pytest.mark.parametrize("rate", [-1e4, -1e-5, 0.0], ids=["forgets at once", "never forgets", "integrates"])
def test_any_decay(row, rate):
    tensors = random_tensors(300, 3, 2)
    tensors["A"].fill_(rate)
    want = parity.measured(lambda t: scanned(t, True, "reference"), tensors)
    inputs = parity.prepared(row, tensors, arguments)
    parity.assert_equal(parity.measured(lambda t: scanned(t, True, row.name), inputs), want)


@every_backend
def test_a_growing_state_that_is_still_zero_stays_zero(row):
    tensors = random_tensors(100, 3, 2, flags="")
    tensors["A"].fill_(3.0)  # exp of the sum of dt * A over the zeros is far above the largest float32
    tensors["delta"].fill_(1.0)
    tensors["u"][..., :95] = 0
    want = scanned(tensors, False, "reference")
    inputs = parity.prepared(row, {k: x.float() for k, x in tensors.items()}, lambda t: arguments(t, False))
    for got, right in zip(scanned(in_float32(inputs), False, row.name), want, strict=True):
        assert parity.error(got, right) <= 1e-5


def in_float32(tensors: Tensors) -> Tensors:
    return {name: x.float() for name, x in tensors.items()}


@every_backend
def test_not_a_number_stays_one(row):
    tensors = parity.prepared(row, random_tensors(40, 3, 3, "vv"), arguments)
    tensors["u"][0, 1, 20] = torch.nan
    out, last = scanned(tensors, True, row.name)
    bad = torch.zeros(2, 3, 40, dtype=torch.bool)
    bad[0, 1, 20:] = True
    assert torch.equal(out.isnan().cpu(), bad)
    assert torch.equal(last.isnan().cpu(), bad[..., -1:].expand(2, 3, 3))


@every_backend
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("autocast", [False, True], ids=["plain", "autocast"])
def test_half_precision_computes_in_float32(row, dtype, autocast):
    tensors = parity.prepared(row, random_tensors(50, 8, 16), arguments)
    halves = {k: x.to(dtype) if k in ("u", "delta", "B", "C", "z") else x.float() for k, x in tensors.items()}
    with torch.autocast(halves["u"].device.type, torch.bfloat16, enabled=autocast):
        out, last = scanned(halves, True, row.name)
    right, right_last = scanned({k: x.cpu().double() for k, x in halves.items()}, True, "reference")
    assert out.dtype == dtype
    assert last.dtype == torch.float32
    parity.assert_equal({"output state": last}, {"output state": right_last})
    torch.testing.assert_close(out.cpu(), right.to(dtype), rtol=torch.finfo(dtype).eps, atol=1e-4)


class Scan(torch.nn.Module):
    def forward(self, u, delta, A, B, C, D, z, delta_bias):
        return selective_scan(u, delta, A, B, C, D, z, delta_bias, True)


EXPORTED = 1e-6  # error of an exported graph in float32, of the largest value


def exported(L: int) -> tuple[tuple[Tensor, ...], Tensor]:
    tensors = random_tensors(L, 16, 32)
    with torch.no_grad():
        want = scanned(tensors, True, "reference")[0]
    return tuple(tensors[name].float() for name in NAMES), want


def onnx_error(inputs: tuple[Tensor, ...], want: Tensor, file: Path, dynamo: bool) -> float:
    """The largest error of the ONNX file's output, of the largest value; the graph is of moderate size."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(Scan().eval(), inputs, file, input_names=list(NAMES), opset_version=18, dynamo=dynamo)
    assert len([node for node in onnx.load(file).graph.node if node.op_type != "Constant"]) < 400
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (got,) = session.run(None, dict(zip(NAMES, (x.numpy() for x in inputs), strict=True)))
    return parity.error(torch.from_numpy(got), want)


@pytest.mark.parametrize("L", [1, 400, 1600])
def test_onnx(L, tmp_path):
    assert onnx_error(*exported(L), tmp_path / "scan.onnx", dynamo=False) <= EXPORTED


def test_onnx_by_the_newer_exporter(tmp_path):
    pytest.importorskip("onnxscript", reason="torch.onnx.export(dynamo=True) needs onnxscript")
    assert onnx_error(*exported(40), tmp_path / "scan.onnx", dynamo=True) <= EXPORTED


def test_torch_export_and_trace():
    inputs, want = exported(100)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(Scan(), inputs)
    for graph in (traced, torch.export.export(Scan(), inputs).module()):
        assert parity.error(graph(*inputs), want) <= EXPORTED


def wrong(name: str, *shape: int, dtype: torch.dtype = torch.float32) -> Tensors:
    return {name: torch.zeros(shape, dtype=dtype)}


ERRORS = [
    (wrong("u", 2, 4), ValueError, r"needs u of shape \(B, D, L\) with all sizes >= 1, got \(2, 4\)"),
    (wrong("u", 2, 4, 0), ValueError, r"needs u of shape .* got \(2, 4, 0\)"),
    (wrong("A", 3, 2), ValueError, r"needs A of shape \(D, N\) with D = 4, the channels of u, .* got \(3, 2\)"),
    (wrong("A", 4, 0), ValueError, r"and N >= 1, got \(4, 0\)"),
    (wrong("delta", 2, 4, 5), ValueError, r"needs delta of shape \(2, 4, 6\), the shape of u.* got \(2, 4, 5\)"),
    (wrong("z", 2, 4, 1), ValueError, r"needs z of shape \(2, 4, 6\)"),
    (wrong("D", 1), ValueError, r"needs D of shape \(4,\), one value per channel of u.* got \(1,\)"),
    (wrong("delta_bias", 4, 1), ValueError, r"needs delta_bias of shape \(4,\)"),
    (wrong("B", 2, 3, 2, 6), ValueError, r"groups of B to divide the 4 channels of u, got 3 groups"),
    (wrong("C", 2, 2, 7), ValueError, r"needs C of shape \(D, N\) = \(4, 2\), .* \(B, G, N, L\) = \(2, G, 2, 6\), got"),
    (wrong("B", 2, 0, 2, 6), ValueError, r"needs B of shape .* got \(2, 0, 2, 6\)"),
    (wrong("u", 2, 4, 6, dtype=torch.int64), TypeError, r"needs u of a floating type, got torch.int64; convert"),
    (wrong("B", 2, 2, 6, dtype=torch.complex64), TypeError, r"needs B real, got torch.complex64 with A torch.float32"),
    (wrong("A", 4, 2, dtype=torch.complex64), ValueError, r"\(B, N, L\) = \(2, 2, 12\) .*\(2L for complex A\), got"),
    (wrong("A", 4, 2, dtype=torch.complex64) | wrong("B", 4, 2) | wrong("C", 4, 2), TypeError,
     r"needs B complex, because A is complex and it is constant"),
    (wrong("delta", 2, 4, 6, dtype=torch.float64), TypeError, r"float64 for all tensors or for none, got u torch.fl"),
    ({"z": torch.zeros(2, 4, 6, device="meta")}, ValueError, r"all tensors on one device, got u on cpu, .* z on meta"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "error", "text"), ERRORS, ids=[text[:30] for *_, text in ERRORS])
def test_what_does_not_fit_is_refused_in_words(change, error, text):
    tensors = {name: x.float() for name, x in random_tensors(6, 2, 4).items()} | change
    with pytest.raises(error, match=text):
        selective_scan(**tensors)


def test_unknown_backend():
    with pytest.raises(ValueError, match=r"unknown backend 'fast'; choose from auto"):
        selective_scan(**random_tensors(6, 2, 4), backend="fast")
