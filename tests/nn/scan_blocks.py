"""What every block with a scan has to pass, for the files that test them."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path

import onnxruntime
import torch
from torch import Tensor, nn

from tests import golden

ZERO = 1e-5  # of the block's largest gradient: rounding left in one that is zero in exact arithmetic
KINDS = ["float16", "bfloat16", "float64", "autocast bfloat16", "autocast float16"]
SIZES = [(1, 1), (1, 7), (7, 5), (20, 15), (21, 16), (40, 40)]


class ChannelsLast(nn.Module):
    """A block called with (B, H, W, C), as some official code does."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def assert_golden(g: golden.Golden, block: nn.Module) -> None:
    """Keys, outputs in eval and in training, every gradient and the running statistics are the official code's."""
    block.load_state_dict(g.under("param."))
    call = ChannelsLast(block) if g.meta.get("layout") == "BHWC" else block
    with torch.no_grad():
        golden.assert_close("eval", call.eval()(g.tensors["input"]), g.tensors["output_eval"])
    x = g.tensors["input"].clone().requires_grad_()
    y = call.train()(x)
    golden.assert_close("train", y, g.tensors.get("output_train", g.tensors["output_eval"]))
    y.backward(g.tensors["grad_output"])
    golden.assert_gradient("input", x.grad, g.tensors["grad.input"])
    gradients = g.under("grad.")
    assert gradients.keys() == {"input", *dict(block.named_parameters())}
    assert zero_gradients(block) >= set(g.meta["zero_grad_parameters"])
    for name, parameter in block.named_parameters():
        if name not in g.meta["zero_grad_parameters"]:
            golden.assert_gradient(name, parameter.grad, gradients[name])
    for name, want in g.under("after_train.").items():
        golden.assert_close(name, block.get_buffer(name), want)


def assert_size(block: nn.Module, c: int, size: tuple[int, int], out: tuple[int, int]) -> None:
    """A feature map of that size goes through, twice with bit-identical results."""
    x = torch.randn(2, c, *size)
    with torch.no_grad():
        y = block.eval()(x)
        assert torch.equal(y, block(x))
    assert y.shape[2:] == out
    assert y.isfinite().all()


def assert_finite_everywhere(block: nn.Module, c: int, kind: str, scale: float) -> None:
    """No NaN and no inf in that precision, in eval and in training, on inputs of that scale. The dtype is kept."""
    x = scale * torch.randn(2, c, 7, 5)
    if kind.startswith("autocast"):
        dtype = getattr(torch, kind.removeprefix("autocast "))
        for mode in (False, True):
            with torch.autocast("cpu", dtype):
                y = copy.deepcopy(block).train(mode)(x.requires_grad_())
            _assert_finite_with_gradients(y, x)
        return
    dtype = getattr(torch, kind)
    for mode in (False, True):
        inputs = x.detach().to(dtype).requires_grad_()
        y = copy.deepcopy(block).to(dtype).train(mode)(inputs)
        assert y.dtype == dtype
        _assert_finite_with_gradients(y, inputs)


def _assert_finite_with_gradients(y: Tensor, x: Tensor) -> None:
    assert y.isfinite().all()
    (gradient,) = torch.autograd.grad(y.float().mean(), x)
    assert gradient.isfinite().all()


def assert_travels(block: nn.Module, c: int) -> None:
    """A copy and a pickled block compute the same."""
    x = torch.randn(1, c, 5, 4)
    with torch.no_grad():
        y = block.eval()(x)
        assert torch.equal(y, copy.deepcopy(block)(x))
        assert torch.equal(y, pickle.loads(pickle.dumps(block))(x))


def assert_gradients(block: nn.Module, c: int, zero: set[str]) -> None:
    """Every parameter gets a gradient, and it is zero for exactly those named."""
    y = block.double().train()(torch.randn(2, c, 7, 5, dtype=torch.float64))
    (y * torch.randn_like(y)).sum().backward()
    assert zero_gradients(block, 1e-11) == zero


def zero_gradients(block: nn.Module, rounding: float = ZERO) -> set[str]:
    """The parameters whose gradient is nothing but rounding, as a fraction of the block's largest. All have one."""
    largest = {name: p.grad.abs().max().item() for name, p in block.named_parameters()}
    return {name for name, value in largest.items() if value < rounding * max(largest.values())}


def assert_exports(block: nn.Module, c: int, tmp_path: Path) -> None:
    """The graph of torch.export and the ONNX file of the block give the block's outputs."""
    x, file = torch.randn(1, c, 6, 5), tmp_path / "block.onnx"
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        want = block.eval()(x)
        exported = torch.export.export(block, (x,)).module()(x)
        torch.onnx.export(block, (x,), file, input_names=["x"], dynamo=False)
    (got,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    assert (exported - want).abs().max() < 1e-4
    assert (torch.from_numpy(got) - want).abs().max() < 1e-4
