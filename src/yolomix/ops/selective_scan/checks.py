"""What the arguments of a selective scan have to be, checked once, before any backend sees them."""

from __future__ import annotations

import torch
from torch import Tensor

OP = "selective_scan"


def check(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None,
    z: Tensor | None,
    delta_bias: Tensor | None,
) -> None:
    """Raise unless the arguments of :func:`yolomix.ops.selective_scan.selective_scan` fit together."""
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    tensors = {name: x for name, x in given.items() if x is not None}
    _check_sequence(u, A)
    for name in ("delta", "z"):
        _check_shape(name, tensors, tuple(u.shape), "the shape of u, (B, D, L)")
    for name in ("D", "delta_bias"):
        _check_shape(name, tensors, (u.shape[1],), "one number per channel of u, (D,)")
    for name in ("B", "C"):
        _check_matrix(name, tensors[name], u, A)
    _check_types(tensors)
    if len({x.device for x in tensors.values()}) > 1:
        where = ", ".join(f"{name} on {x.device}" for name, x in tensors.items())
        raise ValueError(f"{OP} needs all tensors on one device, got {where}; move them with .to(u.device)")


def _check_sequence(u: Tensor, A: Tensor) -> None:
    """Both have their sizes: u is (B, D, L) and A is (D, N), none of the sizes zero."""
    if u.dim() != 3 or 0 in u.shape:
        raise ValueError(f"{OP} needs u of shape (B, D, L) with all sizes >= 1, got {tuple(u.shape)}")
    if A.dim() != 2 or A.shape[0] != u.shape[1] or A.shape[1] < 1:
        raise ValueError(
            f"{OP} needs A of shape (D, N) with D = {u.shape[1]}, the channels of u, and N >= 1, got {tuple(A.shape)}"
        )


def _check_shape(name: str, tensors: dict[str, Tensor], shape: tuple[int, ...], meaning: str) -> None:
    if name in tensors and tuple(tensors[name].shape) != shape:
        raise ValueError(f"{OP} needs {name} of shape {shape}, {meaning}, got {tuple(tensors[name].shape)}")


def _check_matrix(name: str, x: Tensor, u: Tensor, A: Tensor) -> None:
    """B and C: (D, N), (B, N, L) or (B, G, N, L) with G dividing D; last size 2L for complex A."""
    (batch, D, L), N = u.shape, A.shape[1]
    steps = 2 * L if A.is_complex() else L
    if x.dim() == 4 and x.shape[1] >= 1 and D % x.shape[1]:
        raise ValueError(
            f"{OP} needs the groups of {name} to divide the {D} channels of u, got {x.shape[1]} groups "
            f"in {name} of shape {tuple(x.shape)}"
        )
    groups = x.shape[1] if x.dim() == 4 and x.shape[1] else 1
    if tuple(x.shape) not in ((D, N), (batch, N, steps), (batch, groups, N, steps)):
        doubled = " (2L for complex A)" if A.is_complex() else ""
        raise ValueError(
            f"{OP} needs {name} of shape (D, N) = {(D, N)}, (B, N, L) = {(batch, N, steps)} or "
            f"(B, G, N, L) = ({batch}, G, {N}, {steps}){doubled}, got {tuple(x.shape)}"
        )


def _check_types(tensors: dict[str, Tensor]) -> None:
    """Real floating numbers, apart from complex A with its constant B and C; float64 all or none."""
    for name, x in tensors.items():
        if not (x.is_floating_point() or (x.is_complex() and name in "ABC")):
            raise TypeError(f"{OP} needs {name} of a floating type, got {x.dtype}; convert it with .float()")
    for name in ("B", "C"):
        needs_complex = tensors["A"].is_complex() and tensors[name].dim() == 2
        if tensors[name].is_complex() != needs_complex:
            raise TypeError(
                f"{OP} needs {name} {'complex, because A is complex and it is constant' if needs_complex else 'real'}"
                f", got {tensors[name].dtype} with A {tensors['A'].dtype}"
                + ("" if needs_complex else "; with complex A a variable one is torch.view_as_real(x).flatten(-2)")
            )
    if len({x.dtype in (torch.float64, torch.complex128) for x in tensors.values()}) > 1:
        types = ", ".join(f"{name} {x.dtype}" for name, x in tensors.items())
        raise TypeError(f"{OP} needs float64 for all tensors or for none, got {types}; convert them with .to(...)")
