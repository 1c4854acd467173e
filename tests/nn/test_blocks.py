"""What every registered block promises. A new one is picked up by itself and built as its channel rule says."""

from __future__ import annotations

import copy
import pickle
import warnings

import pytest
import torch
from torch import Tensor, nn

import yolomix.nn
from yolomix.nn.registry import BLOCKS, Block

CHANNELS = 32
SIZES = [(1, 1), (1, 7), (7, 5), (20, 15), (21, 16), (40, 40)]
# Blocks that need more than channels, or that are slow at their defaults.
ARGUMENTS = {
    "ASSGroup": (2, 8, 4, 4),
    "HaloAttention": (2, 1, 8, 2),
    "SameWidth": ("C2PSAMLLA",),
    "ZeroGate": ("MLLAttention",),
}

# Aliases once; without what is told no channels, which reads lists of feature maps.
OURS = {block.cls: block for block in BLOCKS.values() if block.is_ours and block.rule.words}
EVERY = {block.name: block for block in OURS.values()}
blocks = pytest.mark.parametrize("block", EVERY.values(), ids=EVERY)


def made(block: Block, noise: float = 0.1) -> nn.Module:
    """The block with the same weights each time, none of them zero or one."""
    torch.manual_seed(0)
    module = block.make(CHANNELS, c2=CHANNELS, n=2, args=ARGUMENTS.get(block.name, ()))
    with torch.no_grad():
        for p in module.parameters():
            p.add_(noise * torch.randn_like(p))
    return module


def maps(H: int, W: int, batch: int = 2) -> Tensor:
    torch.manual_seed(H + W)
    return torch.randn(batch, CHANNELS, H, W)


@blocks
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_any_size_and_twice_the_same(block, size):
    module, x = made(block).eval(), maps(*size)
    with torch.inference_mode():
        out = module(x)
        assert torch.equal(out, module(x))
    assert out.shape[:2] == (2, CHANNELS)
    assert out.isfinite().all()


@blocks
def test_one_image_alone_is_the_same_as_in_a_batch(block):
    module, x = made(block).eval(), maps(7, 5)
    with torch.inference_mode():
        torch.testing.assert_close(module(x[:1]), module(x)[:1], rtol=1e-4, atol=1e-5)


@blocks
def test_every_parameter_gets_a_gradient(block):
    """In eval: in training a batch norm cancels every constant before it, by design."""
    module, x = made(block).eval(), maps(7, 5).requires_grad_()
    out = module(x)
    torch.manual_seed(1)
    (out * torch.randn_like(out)).sum().backward()
    assert x.grad.abs().max() > 0
    largest = {name: p.grad.abs().max().item() for name, p in module.named_parameters()}
    assert [name for name, g in largest.items() if g <= 1e-7 * max(largest.values())] == []


@blocks
@pytest.mark.parametrize("scale", [1e-4, 1e4])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
def test_half_precision_stays_finite(block, dtype, scale, training):
    """A half-precision model, and a float32 model under autocast: outputs and gradients."""
    for weights in (dtype, torch.float32):
        module, x = made(block, noise=0).to(weights).train(training), (scale * maps(7, 5)).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype, enabled=weights == torch.float32):
            out = module(x)
        assert out.dtype == dtype
        assert out.isfinite().all()
        (gradient,) = torch.autograd.grad(out.float().mean(), x)
        assert gradient.isfinite().all()


@blocks
def test_float64_is_computed_in_float64(block):
    module, x = made(block).eval(), maps(5, 4)
    with torch.inference_mode():
        want, got = copy.deepcopy(module).double()(x.double()), module(x)
    assert (want.dtype, got.dtype) == (torch.float64, torch.float32)
    torch.testing.assert_close(got.double(), want, rtol=1e-4, atol=1e-4)
    assert not torch.equal(got.double(), want)


@blocks
def test_half_precision_is_close_to_float32(block):
    module, x = made(block).eval(), maps(7, 5).bfloat16()
    with torch.inference_mode():
        want, got = module(x.float()), copy.deepcopy(module).bfloat16()(x).float()
    assert (got - want).square().mean().sqrt() < 0.1 * want.square().mean().sqrt()


@blocks
def test_copies_and_pickles(block):
    module, x = made(block).eval(), maps(5, 4)
    with torch.inference_mode():
        want = module(x)
        assert torch.equal(copy.deepcopy(module)(x), want)
        assert torch.equal(pickle.loads(pickle.dumps(module))(x), want)


@blocks
def test_memory_layout_of_the_input_does_not_matter(block):
    module, x = made(block).eval(), maps(7, 5)
    strided = torch.zeros(2, 2 * CHANNELS, 14, 7)[:, ::2, ::2, 1:6]
    strided.copy_(x)
    with torch.inference_mode():
        want = module(x)
        for layout in (x.contiguous(memory_format=torch.channels_last), strided, x[:1].expand_as(x)):
            got = module(layout)
            torch.testing.assert_close(got[:1], want[:1], rtol=1e-4, atol=1e-5)


@blocks
def test_the_input_is_left_alone(block):
    module, x = made(block), maps(5, 4)
    before = x.clone()
    module(x)
    assert torch.equal(x, before)


@blocks
def test_parameters_without_weight_decay_exist(block):
    for name, module in made(block).named_modules():
        for parameter in getattr(module, "no_weight_decay", ()):
            assert isinstance(getattr(module, parameter), nn.Parameter), f"{name}.{parameter}"


@blocks
def test_nothing_is_tied_to_a_size_in_the_state(block):
    module = made(block).eval()
    keys = {k: v.shape for k, v in module.state_dict().items()}
    module(maps(7, 5))
    assert {k: v.shape for k, v in module.state_dict().items()} == keys


@blocks
def test_exports_to_onnx(block, tmp_path):
    import onnxruntime

    module, x, file = made(block).eval(), maps(6, 5), str(tmp_path / "block.onnx")
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (x,), file, input_names=["x"], dynamo=False)
        want = module(x)
    (got,) = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]).run(None, {"x": x.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["HaloAttention", "MLLABlock", "C2PSAMLLA", "GatedConv"])
def test_exports_with_dynamic_height_and_width(name, tmp_path):
    """The time steps of a scan are counted when it is exported. Attention needs no size before it runs."""
    import onnxruntime

    module, file = made(EVERY[name]).eval(), str(tmp_path / "block.onnx")
    free = {"x": {0: "batch", 2: "height", 3: "width"}}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (maps(6, 5),), file, input_names=["x"], dynamic_axes=free, dynamo=False)
        session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
        for x in (maps(6, 5), maps(9, 7, batch=1), maps(20, 15, batch=3)):
            (got,) = session.run(None, {"x": x.numpy()})
            torch.testing.assert_close(torch.from_numpy(got), module(x), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ["HaloAttention", "MLLAttention", "GatedConv"])
def test_compiles_into_one_graph(name):
    module, x = made(EVERY[name]).eval(), maps(6, 5)
    want = module(x)
    torch.testing.assert_close(torch.compile(module, backend="eager", fullgraph=True)(x), want)


@blocks
def test_torch_export_records_it(block):
    """What the newer ONNX exporter and torch.compile start from; of a small map, for a plain scan is unrolled."""
    module, x = made(block).eval(), maps(3, 2)
    with torch.no_grad():
        recorded = torch.export.export(module, (x,)).module()
        torch.testing.assert_close(recorded(x), module(x), rtol=1e-4, atol=1e-5)


@blocks
def test_is_importable_from_yolomix_nn(block):
    assert getattr(yolomix.nn, block.cls.__name__) is block.cls
    assert block.cls.__name__ in yolomix.nn.__all__
    assert BLOCKS[block.cls.__name__].cls is block.cls, "a model YAML and Python use one name"


def test_all_of_yolomix_nn_is_blocks_and_register():
    named = {block.cls.__name__ for block in BLOCKS.values() if block.is_ours}
    assert {*yolomix.nn.__all__} == named | {"Chain", "register"}


def test_inner_modules_take_arguments_by_name():
    """After the channels, arguments of modules that no YAML names are given by name."""
    from yolomix.nn import common, mamba_yolo_parts, mambairv2_parts, mambairv2_scan, mlla, vim, vmamba

    inner = [
        common.Mlp,
        mamba_yolo_parts.MambaYoloSS2D,
        mamba_yolo_parts.LSBlock,
        mamba_yolo_parts.NestedLayerNorm2d,
        mamba_yolo_parts.RGBlock,
        mambairv2_parts.ConvFFN,
        mambairv2_parts.GatedMLP,
        mambairv2_parts.WindowAttention,
        mambairv2_scan.ASSM,
        mambairv2_scan.SelectiveScan,
        mlla.PSABlockMLLA,
        vim.BidirectionalMamba,
        vmamba.VMambaSS2D,
    ]
    for cls in inner:
        with pytest.raises(TypeError, match="positional"):
            cls(16, 4)
    with pytest.raises(TypeError, match="positional"):
        common.Conv(16, 16, 3)


@blocks
def test_is_described(block):
    assert block.source, "register(source=...) names the paper"
    assert block.cls.__doc__, "a docstring with shapes and arguments"
