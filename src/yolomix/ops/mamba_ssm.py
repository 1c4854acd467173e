"""The functions of ``mamba_ssm.ops.selective_scan_interface``, on our scan: for code written for that package.

Signatures are those of github.com/state-spaces/mamba (1.x and 2.x), and of what Vim's fork of it adds (github.com/
hustvl/Vim). Nothing here needs CUDA or a compiler.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import torch.nn.functional as F
from torch import Tensor

from yolomix.ops.selective_scan import selective_scan

PACKAGE, FOLDER, INTERFACE = "mamba_ssm", "mamba_ssm.ops", "mamba_ssm.ops.selective_scan_interface"


def selective_scan_fn(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    z: Tensor | None = None,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
    return_last_state: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """Selective scan with mamba_ssm's signature; shapes as in :func:`yolomix.ops.selective_scan.selective_scan`.

    It differs from the CUDA operator of mamba_ssm in two ways: the last state carries its gradient, and all forms of
    B and C that mamba_ssm's Python reference takes are taken.
    """
    return selective_scan(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state)


selective_scan_ref = selective_scan_fn


def mamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """A Mamba mixer after its input projection: causal convolution, SiLU, projections, scan, output projection.

    Args:
        xz: input and gate above each other, (B, 2D, L).
        conv1d_weight: depthwise taps, (D, 1, K).
        conv1d_bias: (D,).
        x_proj_weight: (R + 2N, D): rows for delta, then B, then C, without those of a B or C that is given.
        delta_proj_weight: (D, R).
        out_proj_weight: (C, D).
        out_proj_bias: (C,).
        A: (D, N), real.
        B: the scan's B; made from the input if None.
        C: the scan's C; made from the input if None.
        D: (D,).
        delta_bias: (D,).
        B_proj_bias: added to a B made from the input, (N,).
        C_proj_bias: added to a C made from the input, (N,).
        delta_softplus: whether delta passes through softplus.

    Returns: (B, L, C).

    Raises:
        NotImplementedError: A is complex.
    """
    y = mamba_inner_fn_no_out_proj(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias, B_proj_bias,
        C_proj_bias, delta_softplus,
    )  # fmt: skip
    return F.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


def mamba_inner_fn_no_out_proj(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    A: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """:func:`mamba_inner_fn` up to its output projection, (B, D, L): what Vim calls once per direction."""
    x, z, delta, B, C = _mixed(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, B_proj_bias, C_proj_bias
    )
    y = selective_scan(x, delta, A, B, C, D, z, delta_bias, delta_softplus)
    assert isinstance(y, Tensor)
    return y


def bimamba_inner_fn(
    xz: Tensor,
    conv1d_weight: Tensor,
    conv1d_bias: Tensor | None,
    x_proj_weight: Tensor,
    delta_proj_weight: Tensor,
    out_proj_weight: Tensor,
    out_proj_bias: Tensor | None,
    A: Tensor,
    A_b: Tensor,
    B: Tensor | None = None,
    C: Tensor | None = None,
    D: Tensor | None = None,
    delta_bias: Tensor | None = None,
    B_proj_bias: Tensor | None = None,
    C_proj_bias: Tensor | None = None,
    delta_softplus: bool = True,
) -> Tensor:
    """:func:`mamba_inner_fn` plus a scan from the end, which has decay rates of its own, ``A_b``, and shares the rest.

    It is the first form of Vim's mixer, ``bimamba_type="v1"``. A given B or C has to have steps.
    """
    x, z, delta, B, C = _mixed(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, B_proj_bias, C_proj_bias
    )
    forth = selective_scan(x, delta, A, B, C, D, z, delta_bias, delta_softplus)
    x, z, delta, B, C = (t.flip(-1) for t in (x, z, delta, B, C))
    back = selective_scan(x, delta, A_b, B, C, D, z, delta_bias, delta_softplus)
    assert isinstance(forth, Tensor)
    assert isinstance(back, Tensor)
    return F.linear((forth + back.flip(-1)).transpose(1, 2), out_proj_weight, out_proj_bias)


def _mixed(
    xz: Tensor, conv1d_weight: Tensor, conv1d_bias: Tensor | None, x_proj_weight: Tensor, delta_proj_weight: Tensor,
    A: Tensor, B: Tensor | None, C: Tensor | None, B_proj_bias: Tensor | None, C_proj_bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    """What the scan of a mixer takes: input, gate, delta, B and C."""
    if A.is_complex():
        raise NotImplementedError(
            f"mamba_inner_fn needs real A, got {A.dtype}; build the mixer from selective_scan_fn, which takes complex A"
        )
    x, z = xz.chunk(2, dim=1)
    taps = conv1d_weight.shape[-1]
    x = F.silu(F.conv1d(F.pad(x, (taps - 1, 0)), conv1d_weight, conv1d_bias, groups=x.shape[1]))
    rank, states = delta_proj_weight.shape[1], A.shape[1]
    projected = x_proj_weight @ x  # (B, R + 2N, L)
    B = _biased(projected[:, rank : rank + states], B_proj_bias) if B is None else B
    C = _biased(projected[:, -states:], C_proj_bias) if C is None else C
    return x, z, delta_proj_weight @ projected[:, :rank], B, C


def provide_mamba_ssm(force: bool = False) -> None:
    """Let code that imports ``mamba_ssm.ops.selective_scan_interface`` run on our scan, on any machine.

    Call it once, before that code is imported::

        import yolomix.ops; yolomix.ops.provide_mamba_ssm()

    It puts a module with the functions of this file into ``sys.modules``. Nothing else of the package is provided.

    Args:
        force: do it although the real package is installed: its other Python files then run on our scan too, if they
            are imported after this call.

    Raises:
        RuntimeError: the real package is installed and ``force`` is not given.
    """
    if getattr(sys.modules.get(INTERFACE), "__provider__", None) == __name__:
        return
    real = importlib.util.find_spec(PACKAGE)
    if real is not None and not force:
        raise RuntimeError(
            f"mamba_ssm is installed ({real.origin}), so code that imports it uses its own kernels; "
            "to run that code on yolomix instead, call provide_mamba_ssm(force=True) before importing it"
        )
    roots = list(real.submodule_search_locations or []) if real is not None else []
    package = _package(PACKAGE, roots)
    package.ops = folder = _package(FOLDER, [str(Path(root, "ops")) for root in roots])  # type: ignore[attr-defined]
    interface = _module(INTERFACE, is_package=False)
    for function in (selective_scan_fn, mamba_inner_fn, mamba_inner_fn_no_out_proj, bimamba_inner_fn):
        setattr(interface, function.__name__, function)
    interface.selective_scan_ref = selective_scan_ref  # type: ignore[attr-defined]
    folder.selective_scan_interface = interface  # type: ignore[attr-defined]
    sys.modules.update({PACKAGE: package, FOLDER: folder, INTERFACE: interface})


def _biased(rows: Tensor, bias: Tensor | None) -> Tensor:
    """Rows (B, N, L) plus one number per row."""
    return rows if bias is None else rows + bias.to(rows.dtype)[:, None]


def _package(name: str, path: list[str]) -> ModuleType:
    """A package whose further submodules are looked for under these folders."""
    module = _module(name, is_package=True)
    module.__path__ = path
    return module


def _module(name: str, is_package: bool) -> ModuleType:
    """An empty module that says who made it."""
    module = ModuleType(name, f"Provided by {__name__}.")
    module.__spec__ = ModuleSpec(name, loader=None, is_package=is_package)
    module.__provider__ = __name__  # type: ignore[attr-defined]
    return module
