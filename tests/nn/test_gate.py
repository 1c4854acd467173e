"""The zero gate: exact at both ends, gradients in the right order, and what goes around a block."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from yolomix.nn.gate import Chain, SameWidth, ZeroGate
from yolomix.nn.registry import BLOCKS, register

CASES = [
    ("MLLAttention", ()),
    ("C2PSAMLLA", ()),
    ("HaloAttention", (2, 1, 8, 2)),
    ("HaloAttention", (2, 1, 8, 2, False)),
]
cases = pytest.mark.parametrize(("block", "args"), CASES, ids=lambda v: str(v))


class Overflows(nn.Module):
    """Too large for float16."""

    def __init__(self, c: int) -> None:
        super().__init__()

    def forward(self, x: Tensor) -> Tensor:
        return x * 3e38 * 3e38


class Joined(nn.Module):
    """Reads several layers."""

    def __init__(self, ch: list[int]) -> None:
        super().__init__()


@pytest.fixture(autouse=True, scope="module")
def only_here():
    register(Overflows)
    register(Joined)
    yield
    del BLOCKS["Overflows"], BLOCKS["Joined"]


def maps(*shape: int) -> Tensor:
    torch.manual_seed(0)
    return torch.randn(*shape)


@cases
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_nothing_at_zero_and_the_block_at_one(block, args, dtype, training):
    gated = ZeroGate(16, block, args).train(training).to(dtype)
    for module in gated.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    x = (100 * maps(2, 16, 5, 3)).to(dtype)
    assert torch.equal(gated(x), x)
    with torch.no_grad():
        gated.gate.fill_(1)
    assert torch.equal(gated(x), gated.block(x))


@cases
def test_the_gate_opens_first_and_the_block_follows(block, args):
    gated = ZeroGate(16, block, args)
    with torch.no_grad():
        for p in gated.block.parameters():  # also those that start at zero
            p.add_(0.1 * torch.randn_like(p))
    x = maps(2, 16, 4, 4)
    step = torch.optim.SGD(gated.parameters(), 0.1)
    for seen in (False, True):
        step.zero_grad()
        (gated(x) * torch.arange(1.0, 17.0)[:, None, None]).square().mean().backward()
        assert (gated.gate.grad != 0).all()
        grads = [p.grad for p in gated.block.parameters() if p.grad is not None]
        assert grads
        assert any(g.abs().max() > 0 for g in grads) is seen
        step.step()


def test_gradients_against_float64():
    gated = ZeroGate(8, "MLLAttention").double().eval()
    with torch.no_grad():
        gated.gate.uniform_(-1, 1)
    x = maps(1, 8, 3, 2).double().requires_grad_()
    plain = x + gated.gate[:, None, None] * (gated.block(x) - x)
    torch.testing.assert_close(gated(x), plain, rtol=0, atol=1e-14)
    weight = maps(1, 8, 3, 2).double()
    inputs = [x, *gated.parameters()]
    for got, want in zip(
        torch.autograd.grad((gated(x) * weight).sum(), inputs),
        torch.autograd.grad((plain * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, want, rtol=1e-12, atol=1e-13)


def test_an_overflow_is_not_hidden():
    assert ZeroGate(4, "Overflows")(torch.ones(1, 4, 2, 2)).isnan().all()


def test_gate_is_one_number_per_channel_and_left_alone_by_decay():
    gated = ZeroGate(12, "MLLAttention")
    assert gated.gate.shape == (12,)
    assert gated.no_weight_decay == ("gate",)
    assert not gated.gate.any()


@pytest.mark.parametrize("way", ["onnx", "graph"])
@pytest.mark.filterwarnings("ignore")  # the exporter's own
def test_exports(way, tmp_path):
    gated = ZeroGate(16, "HaloAttention", (2, 1, 8, 2)).eval()
    with torch.no_grad():
        gated.gate.uniform_(0, 1)
    x, file = maps(1, 16, 6, 5), tmp_path / "gate.onnx"
    if way == "onnx":
        onnxruntime = pytest.importorskip("onnxruntime")
        torch.onnx.export(gated, (x,), file, dynamo=False, input_names=["x"])
        (out,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
        out = torch.from_numpy(out)
    else:
        out = torch.export.export(gated, (x,)).module()(x)
    torch.testing.assert_close(out, gated(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("block", ["MLLABlock", "C2PSAMLLA", "XSSBlock"])
def test_same_width_whatever_the_channel_rule(block):
    x = maps(1, 16, 4, 4)
    module = SameWidth(16, block).eval()
    assert module(x).shape == x.shape
    assert torch.equal(module(x), module.block(x))


def test_a_block_of_several_inputs_is_refused():
    with pytest.raises(ValueError, match="Joined reads several layers; a graft reads one"):
        SameWidth(16, "Joined")


def test_an_unknown_block_lists_near_ones():
    with pytest.raises(KeyError, match="no block 'HaloAttenton'; did you mean HaloAttention"):
        ZeroGate(16, "HaloAttenton")


@pytest.mark.parametrize(("name", "said"), [("mllablock", "did you mean MLLABlock"), ("Zq", "registered are ASSG, ")])
def test_a_name_in_other_letters_and_one_that_is_near_to_none(name, said):
    with pytest.raises(KeyError, match=said):
        SameWidth(16, name)


def test_a_chain_runs_its_rows_in_order():
    chain = Chain(nn.Conv2d(3, 8, 1), SameWidth(8, "MLLAttention"))
    x = maps(1, 3, 4, 4)
    assert torch.equal(chain(x), chain[1](chain[0](x)))
    assert sorted({k.split(".")[0] for k in chain.state_dict()}) == ["0", "1"]


def test_arguments_by_name_as_in_a_row_of_the_block():
    torch.manual_seed(0)
    named = ZeroGate(16, "MLLABlock", [{"num_heads": 2}]).block
    torch.manual_seed(0)
    assert same_outputs(named, SameWidth(16, "MLLABlock", [2]).block)
    with pytest.raises(TypeError, match="head"):
        ZeroGate(16, "MLLABlock", [{"head": 2}])


def same_outputs(one, other):
    x = maps(2, 16, 4, 4)
    return torch.equal(one.eval()(x), other.eval()(x))


def test_a_block_of_a_script_is_warned_about(caplog):
    class Scripted(nn.Module):
        def __init__(self, c: int) -> None:
            super().__init__()

    Scripted.__module__ = "__main__"
    register(Scripted)
    del BLOCKS["Scripted"]
    assert "Scripted is registered from the script that was started" in caplog.text
