"""What a 2D selective scan takes: one value, checked once, that every backend gets."""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

from yolomix.ops.precision import accum_dtype

OP = "ss2d"


class SS2DInputs(NamedTuple):
    """Everything that a 2D selective scan depends on.

    B batch, D inner channels, H W height and width of the feature map, N state size, R rank of the Δ projection.

    >>> import torch
    >>> x = torch.ones(1, 8, 3, 5)
    >>> A, D = -torch.ones(4 * 8, 16), torch.ones(4 * 8)
    >>> scan = SS2DInputs(x, torch.ones(4, 2 + 2 * 16, 8), torch.ones(4, 8, 2), torch.ones(4, 8), A, D)
    >>> scan.x_proj_weight.shape
    torch.Size([4, 34, 8])
    """

    x: Tensor  # (B, D, H, W), feature map
    x_proj_weight: Tensor  # (4, R + 2N, D)
    dt_projs_weight: Tensor  # (4, D, R)
    dt_projs_bias: Tensor  # (4, D)
    A: Tensor  # (4D, N), decay rates, real
    D: Tensor  # (4D,), skip weights


def prepare(inputs: SS2DInputs) -> SS2DInputs:
    """The same with all parameters in the accumulation precision, float32 or float64.

    >>> import torch
    >>> half = SS2DInputs(*(torch.ones(1).half() for _ in range(6)))
    >>> prepare(half).x.dtype, prepare(half).A.dtype
    (torch.float16, torch.float32)
    """
    x, *parameters = inputs
    dtype = accum_dtype(x.dtype)
    return SS2DInputs(x, *(p.to(dtype) for p in parameters))


def check(inputs: SS2DInputs) -> None:
    """Raise unless the inputs of a 2D selective scan fit together.

    >>> import torch
    >>> check(SS2DInputs(*(torch.ones(2, 5, 6) for _ in range(6))))
    Traceback (most recent call last):
    ValueError: ss2d needs x of shape (B, D, H, W) with all sizes >= 1, got (2, 5, 6)
    """
    x, x_proj_weight, dt_projs_weight, dt_projs_bias, A, D = inputs
    if x.dim() != 4 or 0 in x.shape:
        raise ValueError(f"{OP} needs x of shape (B, D, H, W) with all sizes >= 1, got {tuple(x.shape)}")
    channels = x.shape[1]
    if A.dim() != 2 or A.shape[0] != 4 * channels or A.shape[1] < 1:
        raise ValueError(
            f"{OP} needs A of shape (4D, N) with 4D = {4 * channels} for the {channels} channels of x and N >= 1, "
            f"got {tuple(A.shape)}"
        )
    if dt_projs_weight.dim() != 3 or dt_projs_weight.shape[2] < 1:
        raise ValueError(
            f"{OP} needs dt_projs_weight of shape (4, D, R) with R >= 1, got {tuple(dt_projs_weight.shape)}"
        )
    R, N = dt_projs_weight.shape[2], A.shape[1]
    sizes = f"D={channels}, N={N}, R={R}"
    _check_shape("x_proj_weight", x_proj_weight, (4, R + 2 * N, channels), "(4, R + 2N, D)", sizes)
    _check_shape("dt_projs_weight", dt_projs_weight, (4, channels, R), "(4, D, R)", sizes)
    _check_shape("dt_projs_bias", dt_projs_bias, (4, channels), "(4, D)", sizes)
    _check_shape("D", D, (4 * channels,), "(4D,)", sizes)
    _check_kinds(dict(zip(SS2DInputs._fields, inputs, strict=True)))


def _check_shape(name: str, tensor: Tensor, shape: tuple[int, ...], letters: str, sizes: str) -> None:
    """A parameter has the shape that its letters, like (4, D, R), mean with these sizes."""
    if tuple(tensor.shape) != shape:
        raise ValueError(f"{OP} needs {name} of shape {letters} = {shape} for {sizes}, got {tuple(tensor.shape)}")


def _check_kinds(tensors: dict[str, Tensor]) -> None:
    """The feature map (B, D, H, W) and all parameters are of real floating types, and on one device."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{OP} needs {name} of a real floating type, got {tensor.dtype}")
    if len({tensor.device for tensor in tensors.values()}) > 1:
        where = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"{OP} needs all tensors on one device, got {where}; move them with .to(x.device)")
