"""What a selective scan takes: one value, checked once, that every backend gets."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

OP = "selective_scan"


class ScanInputs(NamedTuple):
    """Everything that a selective scan depends on.

    B batch, D inner channels, L time steps, N state size, G groups of channels that share B and C.

    >>> u = torch.ones(1, 4, 6)
    >>> scan = ScanInputs(u, u, A=-torch.ones(4, 2), B=torch.ones(1, 2, 6), C=torch.ones(1, 2, 6))
    >>> scan.A.shape, scan.D, scan.delta_softplus
    (torch.Size([4, 2]), None, False)
    """

    u: Tensor  # (B, D, L)
    delta: Tensor  # (B, D, L), step sizes before bias and softplus
    A: Tensor  # (D, N), decay rates, real or complex
    B: Tensor  # (D, N), (B, N, L) or (B, G, N, L); last size 2L beside complex A
    C: Tensor  # as B
    D: Tensor | None = None  # (D,), skip weight
    z: Tensor | None = None  # (B, D, L), gate
    delta_bias: Tensor | None = None  # (D,)
    delta_softplus: bool = False
    return_last_state: bool = False


def check(inputs: ScanInputs) -> None:
    """Raise unless the inputs of a selective scan fit together.

    >>> u = torch.ones(1, 4, 6)
    >>> check(ScanInputs(u, u[..., :5], A=-torch.ones(4, 2), B=torch.ones(4, 2), C=torch.ones(4, 2)))
    Traceback (most recent call last):
    ValueError: selective_scan needs delta of shape (1, 4, 6), the shape of u, (B, D, L), got (1, 4, 5)
    """
    u, delta, A, B, C, D, z, delta_bias, *_ = inputs
    given = {"u": u, "delta": delta, "A": A, "B": B, "C": C, "D": D, "z": z, "delta_bias": delta_bias}
    tensors = {name: x for name, x in given.items() if x is not None}
    _check_sequence(u, A)
    for name in ("delta", "z"):
        _check_shape(name, tensors, tuple(u.shape), "the shape of u, (B, D, L)")
    for name in ("D", "delta_bias"):
        _check_shape(name, tensors, (u.shape[1],), "one value per channel of u, (D,)")
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
    """A tensor, if it is given, has the shape, (B, D, L) or (D,)."""
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
    """Real floating types, apart from complex A (D, N) with its constant B and C (D, N); float64 all or none."""
    for name, x in tensors.items():
        if not (x.is_floating_point() or (x.is_complex() and name in "ABC")):
            raise TypeError(f"{OP} needs {name} of a floating type, got {x.dtype}; convert it with .float()")
    for name in ("B", "C"):
        _check_complex(name, tensors[name], tensors["A"])
    if len({x.dtype in (torch.float64, torch.complex128) for x in tensors.values()}) > 1:
        types = ", ".join(f"{name} {x.dtype}" for name, x in tensors.items())
        raise TypeError(f"{OP} needs float64 for all tensors or for none, got {types}; convert them with .to(...)")


def _check_complex(name: str, x: Tensor, A: Tensor) -> None:
    """A constant B or C (D, N) is complex if A is; one that varies, (B, N, L) or (B, G, N, L), is always real."""
    got = f"got {x.dtype} with A {A.dtype}"
    needs_complex = A.is_complex() and x.dim() == 2
    if needs_complex and not x.is_complex():
        raise TypeError(f"{OP} needs {name} complex, because A is complex and it is constant, {got}")
    if x.is_complex() and not needs_complex:
        hint = "with complex A a variable one is torch.view_as_real(x).flatten(-2)"
        raise TypeError(f"{OP} needs {name} real, {got}; {hint}")
