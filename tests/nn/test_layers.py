"""Layers inside blocks are called: whoever replaces, adapts, quantises or watches one changes what the block does."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from tests.nn.test_blocks import blocks, made, maps
from yolomix.nn import layers
from yolomix.nn.common import Conv
from yolomix.nn.mamba_yolo_parts import ConvNormAct, LSBlock

STATIC = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.LayerNorm, nn.Embedding)  # what a block may compute with by itself


class Around(nn.Module):
    """A layer inside another module, which has nothing of the layer's own: no weight, no sizes."""

    def __init__(self, inner: nn.Module, change: Callable[[Tensor], Tensor] = lambda y: y):
        super().__init__()
        self.inner, self.change, self.calls = inner, change, 0

    def forward(self, *args: Any) -> Any:
        self.calls += 1
        y = self.inner(*args)
        return tuple(map(self.change, y)) if isinstance(y, tuple) else self.change(y)


def disturbed(y: Tensor) -> Tensor:
    """Far enough from y that tokens go to other classes, and no norm undoes it."""
    return y + 3 * torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=y.dtype)


def exchange(block: nn.Module, path: str, new: nn.Module) -> None:
    parent, _, name = path.rpartition(".")
    setattr(block.get_submodule(parent), name, new)


def outputs(block: nn.Module, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """The output, and the gradient of the input and of every parameter."""
    x = x.clone().requires_grad_()
    y = block(x)
    named = dict(block.named_parameters())
    cotangent = torch.randn(y.shape, generator=torch.Generator().manual_seed(2), dtype=y.dtype)
    gradients = torch.autograd.grad(y, [x, *named.values()], cotangent)
    return y, dict(zip(["input", *named], gradients, strict=True))


@blocks
def test_a_layer_that_does_something_else_changes_the_output(block):
    module, x = made(block).eval(), maps(7, 5)
    want = module(x)
    ignored = []
    for path, child in list(module.named_modules())[1:]:
        if isinstance(child, nn.ModuleList):  # a list is not called
            continue
        exchange(module, path, Around(child, disturbed))
        if torch.allclose(module(x), want, rtol=1e-3, atol=1e-3):
            ignored.append(path)
        exchange(module, path, child)
    assert torch.equal(module(x), want), "every layer is back"
    assert ignored == []


@blocks
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_layers_that_are_called_compute_what_plain_ones_do(block, dtype):
    """Output and every gradient. Each layer whose weights a block may read is wrapped, all at once."""
    module, x = made(block).to(dtype).eval(), maps(7, 5).to(dtype)
    want, gradients = outputs(module, x)
    wrapped = [path for path, child in module.named_modules() if isinstance(child, STATIC)]
    for path in wrapped:
        exchange(module, path, Around(module.get_submodule(path)))
    got, others = outputs(module, x)
    close = {"rtol": 1e-4, "atol": 2e-5} if dtype == torch.float32 else {"rtol": 1e-10, "atol": 1e-11}
    torch.testing.assert_close(got, want, **close)
    others = {name.replace(".inner", ""): gradient for name, gradient in others.items()}
    assert others.keys() == gradients.keys()
    largest = max(g.abs().max() for g in gradients.values())
    for name, gradient in gradients.items():
        torch.testing.assert_close(
            others[name] / largest, gradient / largest, **close, msg=lambda t, n=name: f"{n}: {t}"
        )
    assert [path for path in wrapped if module.get_submodule(path).calls != 1] == []


@blocks
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_layers_that_are_called_stay_in_the_precision_of_the_block(block, dtype):
    """A half-precision block of wrapped layers, and a float32 one under autocast."""
    for weights in (dtype, torch.float32):
        module, x = made(block).to(weights).eval(), maps(7, 5).to(dtype)
        with torch.autocast("cpu", dtype, enabled=weights == torch.float32), torch.no_grad():
            want = module(x)
            for path in [path for path, child in module.named_modules() if isinstance(child, STATIC)]:
                exchange(module, path, Around(module.get_submodule(path)))
            got = module(x)
        assert got.dtype == dtype
        assert (got - want).float().square().mean().sqrt() < 0.05 * want.float().square().mean().sqrt()


@blocks
def test_hooks_run_on_every_layer(block):
    module, x = made(block).train(), maps(7, 5).requires_grad_()
    seen: dict[str, set[str]] = {"forward pre": set(), "forward": set(), "backward": set()}
    paths = [path for path, child in module.named_modules() if isinstance(child, STATIC)]
    for path in paths:
        layer = module.get_submodule(path)
        layer.register_forward_pre_hook(lambda *_, path=path: seen["forward pre"].add(path))
        layer.register_forward_hook(lambda *_, path=path: seen["forward"].add(path))
        layer.register_full_backward_hook(lambda *_, path=path: seen["backward"].add(path))
    module(x).square().sum().backward()
    assert seen == {kind: set(paths) for kind in seen}


@blocks
@pytest.mark.parametrize("how", ["pruned", "parametrized"])
def test_pruning_and_parametrizations_of_every_layer_change_the_output(block, how):
    module, x = made(block).eval(), maps(7, 5)
    want = module(x)
    ignored = []
    for path, layer in list(module.named_modules()):
        if not isinstance(layer, nn.Linear | nn.Conv2d | nn.Conv1d):
            continue
        changed = copy.deepcopy(layer)
        if how == "pruned":
            prune.l1_unstructured(changed, "weight", amount=0.9)
        else:
            parametrizations.weight_norm(changed)
            changed.parametrizations.weight.original0.data *= 0.1
        exchange(module, path, changed)
        if torch.allclose(module(x), want, rtol=1e-5, atol=1e-6):
            ignored.append(path)
        exchange(module, path, layer)
    assert ignored == []


@blocks
def test_every_low_rank_adapter_gets_a_gradient(block):
    import peft

    model = nn.Sequential(made(block)).eval()
    kinds = (nn.Linear, nn.Conv2d, nn.Conv1d, nn.Embedding)
    targets = [path for path, layer in model.named_modules() if isinstance(layer, kinds)]
    adapted = peft.inject_adapter_in_model(_lora(peft, model, targets), model)
    factors = {name: p for name, p in adapted.named_parameters() if "lora_" in name}
    assert len(factors) == 2 * len(targets)
    with torch.no_grad():
        for p in factors.values():  # one factor starts at zero, where the other gets none
            p.copy_(torch.randn_like(p) / 10)
    x = maps(7, 5)
    y = adapted(x)
    (y * torch.randn_like(y)).sum().backward()
    assert [name for name, p in factors.items() if p.grad is None or not p.grad.any()] == []
    with torch.no_grad():
        for p in factors.values():
            p.zero_()
    torch.testing.assert_close(adapted(x), made(block).eval()(x), rtol=1e-4, atol=1e-4)


def _lora(peft: Any, model: nn.Module, targets: list[str]) -> Any:
    """Rank 4, or the groups of a grouped conv, which its rank has to be a multiple of."""
    ranks = {path: getattr(model.get_submodule(path), "groups", 1) * 4 for path in targets}
    return peft.LoraConfig(target_modules=targets, r=4, rank_pattern={f"^{path}$": r for path, r in ranks.items()})


@blocks
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_dynamic_quantisation(block):
    """Linear layers become those with weights of eight bits, which have a method for the name ``weight``."""
    module, x = made(block).eval(), maps(7, 5)
    quantised = torch.ao.quantization.quantize_dynamic(copy.deepcopy(module), {nn.Linear})
    linear = [path for path, layer in module.named_modules() if isinstance(layer, nn.Linear)]
    assert all(type(quantised.get_submodule(path)) is torch.ao.nn.quantized.dynamic.Linear for path in linear)
    with torch.no_grad():
        want, got = module(x), quantised(x)
    assert torch.equal(got, want) is not bool(linear)
    error = (got - want).square().mean().sqrt() / want.square().mean().sqrt()
    assert error < 0.1, f"relative error {error:.3f}"


@pytest.mark.parametrize(
    "replaced",
    [
        lambda: Conv(8, 8),
        lambda: ConvNormAct(nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8), nn.SiLU()),
        lambda: LSBlock(8, hidden_features=8),
    ],
    ids=["Conv", "ConvNormAct", "LSBlock"],
)
def test_fusing_leaves_a_conv_that_is_not_plain(replaced):
    """Folding a norm into the weight of a wrapped conv would lose what was wrapped around it."""
    torch.manual_seed(0)
    module, x = replaced().eval(), torch.randn(1, 8, 5, 4)
    norms = [path for path, child in module.named_modules() if isinstance(child, nn.BatchNorm2d)]
    convs = {path: child for path, child in module.named_modules() if isinstance(child, nn.Conv2d)}
    for norm in norms:
        module.get_submodule(norm).running_mean.uniform_()
    for path, conv in convs.items():
        exchange(module, path, Around(conv, disturbed))
    want = module(x)
    module.fuse()
    assert torch.equal(module(x), want)
    for path, conv in convs.items():
        exchange(module, path, conv)
    want = module(x)
    module.fuse()
    assert all(isinstance(module.get_submodule(norm), nn.Identity) for norm in norms)
    torch.testing.assert_close(module(x), want)


class Own(nn.Linear):
    """Another class, however near."""


@pytest.mark.parametrize(
    "change",
    [
        lambda layer: layer.register_forward_hook(lambda *_: None),
        lambda layer: layer.register_forward_pre_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_hook(lambda *_: None),
        lambda layer: layer.register_full_backward_pre_hook(lambda *_: None),
        lambda layer: parametrizations.weight_norm(layer),
        lambda layer: prune.l1_unstructured(layer, "weight", amount=0.5),
        lambda layer: setattr(layer, "forward", torch.zeros_like),
        lambda layer: setattr(layer, "weight", nn.Parameter(_Odd(torch.zeros(4, 4)))),
        lambda layer: setattr(layer, "__class__", Own),
    ],
    ids=["forward", "pre", "backward", "backward pre", "parametrized", "pruned", "replaced call", "weight", "class"],
)
def test_what_makes_a_layer_no_longer_plain(change):
    layer = nn.Linear(4, 4)
    assert layers.is_plain(layer, nn.Linear)
    change(layer)
    assert not layers.is_plain(layer, nn.Linear)


def test_a_hook_on_all_modules_counts_too():
    handle = nn.modules.module.register_module_forward_hook(lambda *_: None)
    try:
        assert not layers.is_plain(nn.Linear(4, 4), nn.Linear)
    finally:
        handle.remove()
    assert layers.is_plain(nn.Linear(4, 4), nn.Linear)


class _Odd(Tensor):
    """A weight of a class of its own, as quantised ones have it."""


def test_an_exported_graph_takes_the_plain_way_behind_a_proxy():
    """The tracer puts a proxy around modules where one is shared, here the activation of two convs."""
    from yolomix.nn import C2PSAMLLA

    block = C2PSAMLLA(16, 16).eval()
    with torch.no_grad():
        graph = torch.export.export(block, (torch.zeros(1, 16, 4, 4),), strict=False).graph
    targets = [str(node.target) for node in graph.nodes]
    assert sum("matmul" in target for target in targets) == 4  # two of them are weights by the feature map
    assert not any("linear" in target for target in targets)
