"""Layers inside a block are called; where one is plain its weights may be read instead, which is the fast way.

Adapters, quantisation, pruning and hooks replace, wrap or watch a layer, and count on its call. So a block that
computes with ``layer.weight`` by itself asks :func:`is_plain` first, and calls the layer where the answer is no.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeGuard, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from yolomix.ops.tracing import behind_proxy, into_a_graph

M = TypeVar("M", bound=nn.Module)

OWN_HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
STOCK = ("torch", "torchvision", "ultralytics")  # packages whose layers call no operator of ours


def is_plain(layer: nn.Module, kind: type[M]) -> TypeGuard[M]:
    """Whether a layer is exactly of this class, holds a usual weight, and nobody watches or replaced its call.

    >>> layer = nn.Linear(8, 16)
    >>> is_plain(layer, nn.Linear), is_plain(nn.LazyLinear(16), nn.Linear)
    (True, False)
    >>> handle = layer.register_forward_hook(lambda *_: None)
    >>> is_plain(layer, nn.Linear)
    False
    """
    if type(layer) is not kind and type(behind_proxy(layer)) is not kind:
        return False
    state = vars(layer)
    if "forward" in state or any(state[hooks] for hooks in OWN_HOOKS):
        return False
    if nn.modules.module._has_any_global_hook():  # type: ignore[no-untyped-call]
        return False
    # A tensor of a class of its own, say a quantised one, is made for the layer's operation. In a graph all are.
    weight = layer._parameters.get("weight")
    return weight is None or type(weight) in (nn.Parameter, Tensor) or into_a_graph()


def is_stock(model: nn.Module) -> bool:
    """Whether a model is made of layers of PyTorch and Ultralytics alone, so that no operator of ours is in it.

    >>> is_stock(nn.Sequential(nn.Conv2d(3, 8, 1)))
    True
    """
    return all(type(module).__module__.partition(".")[0] in STOCK for module in model.modules())


def called(layer: nn.Module, x: Tensor, dtype: torch.dtype) -> Tensor:
    """Call a layer with x and all its parameters in a given precision, whatever they are kept in.

    >>> called(nn.LayerNorm(8).half(), torch.zeros(1, 4, 8), torch.float32).dtype
    torch.float32

    Args:
        layer: any module of one tensor.
        x: its input, (B, L, C) or any other shape that it takes.
        dtype: the precision to compute in.
    """
    x = x.to(dtype)
    cast = {name: p.to(dtype) for name, p in layer.named_parameters() if p.is_floating_point() and p.dtype != dtype}
    if cast:
        return functional_call(layer, cast, (x,))
    return layer(x)


def normed(norm: nn.LayerNorm, x: Tensor) -> Tensor:
    """A layer norm in the precision of x, (B, L, C) -> (B, L, C) or any other shape that ends with the channels.

    Not ``norm(x)``: after a scan x is in the accumulation dtype, and the norm's weights may be in half precision.

    >>> normed(nn.LayerNorm(8).half(), torch.zeros(1, 4, 8)).dtype
    torch.float32
    """
    if is_plain(norm, nn.LayerNorm):
        return F.layer_norm(x, norm.normalized_shape, norm.weight.to(x.dtype), norm.bias.to(x.dtype), norm.eps)
    return called(norm, x, x.dtype)


def projection(
    layer: nn.Linear | nn.Conv2d, kind: type[nn.Linear] | type[nn.Conv2d], x: Tensor
) -> Callable[[slice], Tensor]:
    """A linear layer or 1x1 conv on tokens, whose outputs are asked for in parts: (B, H, W, C) -> (B, H, W, outputs).

    Each half of a plain projection has memory of its own. Halves of one result would be copied by the next conv.

    >>> halves = projection(nn.Conv2d(8, 32, 1), nn.Conv2d, torch.zeros(1, 4, 6, 8))
    >>> halves(slice(0, 16)).shape
    torch.Size([1, 4, 6, 16])

    Args:
        layer: the projection, or whatever stands in its place.
        kind: the class that it was built as: it says which of the two shapes the layer takes.
        x: tokens, (B, H, W, C).

    Returns: a function from output channels to their values.
    """
    if is_plain(layer, kind):
        return lambda outputs: _some(layer, x, outputs)
    if kind is nn.Conv2d:
        y = layer(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
    else:
        y = layer(x)
    return lambda outputs: y[..., outputs]


def project(layer: nn.Linear | nn.Conv2d, kind: type[nn.Linear] | type[nn.Conv2d], x: Tensor) -> Tensor:
    """All outputs of a linear layer or 1x1 conv on tokens, (B, H, W, C) -> (B, H, W, C2); see :func:`projection`.

    >>> project(nn.Conv2d(8, 32, 1), nn.Conv2d, torch.zeros(1, 4, 6, 8)).shape
    torch.Size([1, 4, 6, 32])
    """
    return projection(layer, kind, x)(slice(None))


def lines(table: nn.Embedding, kind: type[nn.Embedding], count: int, device: torch.device) -> Tensor:
    """All lines of a table, (count, width).

    >>> lines(nn.Embedding(4, 8), nn.Embedding, 4, torch.device("cpu")).shape
    torch.Size([4, 8])
    """
    if is_plain(table, kind):
        return table.weight
    return table(torch.arange(count, device=device))


def _some(layer: nn.Linear | nn.Conv2d, x: Tensor, outputs: slice) -> Tensor:
    """Some outputs of a plain layer, (B, H, W, C) -> (B, H, W, outputs)."""
    bias = None if layer.bias is None else layer.bias[outputs]
    return F.linear(x, layer.weight.flatten(1)[outputs], bias)
