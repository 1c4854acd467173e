"""What the arguments of a four-direction scan have to be, checked once, before any backend sees them."""

from __future__ import annotations

from torch import Tensor

OP = "ss2d"


def check(
    x: Tensor, x_proj_weight: Tensor, dt_projs_weight: Tensor, dt_projs_bias: Tensor, A: Tensor, D: Tensor
) -> None:
    """Raise unless the arguments of :func:`yolomix.ops.ss2d.ss2d` fit together."""
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
    tensors = {
        "x_proj_weight": (x_proj_weight, (4, R + 2 * N, channels), "(4, R + 2N, D)"),
        "dt_projs_weight": (dt_projs_weight, (4, channels, R), "(4, D, R)"),
        "dt_projs_bias": (dt_projs_bias, (4, channels), "(4, D)"),
        "D": (D, (4 * channels,), "(4D,)"),
    }
    for name, (tensor, shape, letters) in tensors.items():
        if tuple(tensor.shape) != shape:
            raise ValueError(
                f"{OP} needs {name} of shape {letters} = {shape} for D={channels}, N={N}, R={R}, "
                f"got {tuple(tensor.shape)}"
            )
    _check_kinds({"x": x, "A": A, **{name: row[0] for name, row in tensors.items()}})


def _check_kinds(tensors: dict[str, Tensor]) -> None:
    """Real floating numbers, all on one device."""
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise TypeError(f"{OP} needs {name} of a real floating type, got {tensor.dtype}")
    if len({tensor.device for tensor in tensors.values()}) > 1:
        where = ", ".join(f"{name} on {tensor.device}" for name, tensor in tensors.items())
        raise ValueError(f"{OP} needs all tensors on one device, got {where}; move them with .to(x.device)")
