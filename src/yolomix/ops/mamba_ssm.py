"""The functions of ``mamba_ssm.ops.selective_scan_interface``, on our scan: for code written for that package.

Signatures are those of github.com/state-spaces/mamba (1.x and 2.x), and of what Vim's fork of it adds (github.com/
hustvl/Vim). Nothing here needs CUDA or a compiler. Letters: B batch, D inner channels, L time steps, N state size,
R rank of the Δ projection, K kernel size of the convolution, C channels of the mixer's output.
"""

from __future__ import annotations

import importlib.util
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import NamedTuple, cast

import torch.nn.functional as F
from torch import Tensor

from yolomix.ops.selective_scan import OPERATOR, ScanOutput
from yolomix.ops.selective_scan.inputs import ScanInputs

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
) -> ScanOutput:
    """Selective scan with mamba_ssm's signature: u, delta and z (B, D, L), A (D, N), B and C (B, N, L) and more.

    All shapes are those of :func:`yolomix.ops.selective_scan`. It differs from the CUDA operator of mamba_ssm in two
    ways: the last state carries its gradient, and all forms of B and C that mamba_ssm's Python reference takes are
    taken.

    >>> import torch
    >>> u, A, B = torch.ones(1, 2, 4), -torch.ones(2, 3), torch.ones(1, 3, 4)
    >>> out, last_state = selective_scan_fn(u, u, A, B, B, delta_softplus=True, return_last_state=True)
    >>> out.shape, last_state.shape
    (torch.Size([1, 2, 4]), torch.Size([1, 2, 3]))
    """
    return OPERATOR(ScanInputs(u, delta, A, B, C, D, z, delta_bias, delta_softplus, return_last_state))


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

    >>> import torch
    >>> D, N, R = 4, 3, 1
    >>> xz, taps, out_proj = torch.ones(2, 2 * D, 6), torch.ones(D, 1, 3), torch.ones(5, D)
    >>> x_proj, delta_proj, A = torch.ones(R + 2 * N, D), torch.ones(D, R), -torch.ones(D, N)
    >>> mamba_inner_fn(xz, taps, None, x_proj, delta_proj, out_proj, None, A).shape
    torch.Size([2, 6, 5])

    Args:
        xz: input and gate, stacked along the channels, (B, 2D, L).
        conv1d_weight: depthwise taps, (D, 1, K).
        conv1d_bias: (D,).
        x_proj_weight: (R + 2N, D): rows for delta, then B, then C, without those of a B or C that is given.
        delta_proj_weight: (D, R).
        out_proj_weight: (C, D).
        out_proj_bias: (C,).
        A: (D, N), real.
        B: the scan's B; made from the input if None.
        C: the scan's C; made from the input if None.
        D: skip weight, (D,).
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
    """:func:`mamba_inner_fn` up to its output projection, (B, D, L): what Vim calls once per direction.

    >>> import torch
    >>> xz, taps, x_proj, A = torch.ones(2, 8, 6), torch.ones(4, 1, 3), torch.ones(1 + 2 * 3, 4), -torch.ones(4, 3)
    >>> mamba_inner_fn_no_out_proj(xz, taps, None, x_proj, torch.ones(4, 1), A).shape
    torch.Size([2, 4, 6])
    """
    mixer = _Mixer(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias, B_proj_bias,
        C_proj_bias, delta_softplus,
    )  # fmt: skip
    return _scanned(mixer.scan_inputs())


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
    """:func:`mamba_inner_fn`, (B, L, C), plus a scan from the end with decay rates of its own, ``A_b`` (D, N).

    The two scans share everything else. It is the first form of Vim's mixer, ``bimamba_type="v1"``. A given B or C
    has to vary in time, (B, N, L) or (B, G, N, L).

    >>> import torch
    >>> xz, taps, x_proj, A = torch.ones(2, 8, 6), torch.ones(4, 1, 3), torch.ones(1 + 2 * 3, 4), -torch.ones(4, 3)
    >>> bimamba_inner_fn(xz, taps, None, x_proj, torch.ones(4, 1), torch.ones(5, 4), None, A, 2 * A).shape
    torch.Size([2, 6, 5])
    """
    mixer = _Mixer(
        xz, conv1d_weight, conv1d_bias, x_proj_weight, delta_proj_weight, A, B, C, D, delta_bias, B_proj_bias,
        C_proj_bias, delta_softplus,
    )  # fmt: skip
    forth = mixer.scan_inputs()
    # The convolution has run forwards for both: only the scan turns round.
    turned = {name: getattr(forth, name).flip(-1) for name in ("u", "delta", "B", "C", "z")}
    back = forth._replace(A=A_b, **turned)
    y = _scanned(forth) + _scanned(back).flip(-1)
    return F.linear(y.transpose(1, 2), out_proj_weight, out_proj_bias)


class _Mixer(NamedTuple):
    """The arguments of :func:`mamba_inner_fn_no_out_proj`; shapes as in :func:`mamba_inner_fn`."""

    xz: Tensor
    conv1d_weight: Tensor
    conv1d_bias: Tensor | None
    x_proj_weight: Tensor
    delta_proj_weight: Tensor
    A: Tensor
    B: Tensor | None
    C: Tensor | None
    D: Tensor | None
    delta_bias: Tensor | None
    B_proj_bias: Tensor | None
    C_proj_bias: Tensor | None
    delta_softplus: bool

    def scan_inputs(self) -> ScanInputs:
        """What the scan of the mixer takes."""
        if self.A.is_complex():
            raise NotImplementedError(
                f"mamba_inner_fn needs real A, got {self.A.dtype}; build the mixer from selective_scan_fn, which takes "
                "complex A"
            )
        x, z = self.xz.chunk(2, dim=1)
        taps = self.conv1d_weight.shape[-1]
        padded = F.pad(x, (taps - 1, 0))  # in front only: an output never sees a later time step
        x = F.silu(F.conv1d(padded, self.conv1d_weight, self.conv1d_bias, groups=x.shape[1]))
        rank, N = self.delta_proj_weight.shape[1], self.A.shape[1]
        projected = self.x_proj_weight @ x  # (B, R + 2N, L)
        delta = self.delta_proj_weight @ projected[:, :rank]  # (B, D, L)
        B, C = self.B, self.C
        if B is None:
            B = _biased(projected[:, rank : rank + N], self.B_proj_bias)
        if C is None:
            C = _biased(projected[:, -N:], self.C_proj_bias)  # from the end: the rows of a given B are missing
        return ScanInputs(x, delta, self.A, B, C, self.D, z, self.delta_bias, self.delta_softplus)


def _scanned(inputs: ScanInputs) -> Tensor:
    """The outputs, (B, D, L), of a scan whose last state is not asked for."""
    return cast(Tensor, OPERATOR(inputs))


def _biased(rows: Tensor, bias: Tensor | None) -> Tensor:
    """Rows (B, N, L) plus one value per row."""
    return rows if bias is None else rows + bias.to(rows.dtype)[:, None]


def provide_mamba_ssm(force: bool = False) -> None:
    """Let code that imports ``mamba_ssm.ops.selective_scan_interface`` run on our scan, on any machine.

    Call it once, before that code is imported.

    >>> provide_mamba_ssm()
    >>> from mamba_ssm.ops.selective_scan_interface import selective_scan_fn
    >>> selective_scan_fn.__module__
    'yolomix.ops.mamba_ssm'

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
    roots: list[str] = []
    if real is not None:
        roots = list(real.submodule_search_locations or [])
    package = _package(PACKAGE, roots)
    package.ops = folder = _package(FOLDER, [str(Path(root, "ops")) for root in roots])  # type: ignore[attr-defined]
    interface = _module(INTERFACE, is_package=False)
    for function in (selective_scan_fn, mamba_inner_fn, mamba_inner_fn_no_out_proj, bimamba_inner_fn):
        setattr(interface, function.__name__, function)
    interface.selective_scan_ref = selective_scan_ref  # type: ignore[attr-defined]
    folder.selective_scan_interface = interface  # type: ignore[attr-defined]
    sys.modules.update({PACKAGE: package, FOLDER: folder, INTERFACE: interface})


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
