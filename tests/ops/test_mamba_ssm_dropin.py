"""Code written for mamba_ssm runs on ours: signatures, reference outputs of Vim, foreign code, the real package."""

from __future__ import annotations

import importlib
import inspect
import sys

import pytest
import torch
from torch import Tensor

from tests import golden
from tests.ops import parity
from yolomix.ops import (
    mamba_inner_fn,
    mamba_ssm,
    provide_mamba_ssm,
    selective_scan_fn,
    selective_scan_ref,
    use_backend,
)

# What a vision Mamba on the net does, in small: it imports the package at its top and scans in its forward.
FOREIGN = """
import torch, torch.nn as nn, torch.nn.functional as F
from mamba_ssm.ops.selective_scan_interface import selective_scan_fn, mamba_inner_fn, bimamba_inner_fn
from mamba_ssm.ops.selective_scan_interface import mamba_inner_fn_no_out_proj
import mamba_ssm.ops.selective_scan_interface as interface

class Mixer(nn.Module):
    def __init__(self, d=4, n=2):
        super().__init__()
        self.A_log, self.D = nn.Parameter(torch.zeros(d, n)), nn.Parameter(torch.ones(d))
        self.make, self.n = nn.Linear(d, d + 2 * n), n

    def forward(self, x, scan=selective_scan_fn):
        dt, B, C = self.make(x.transpose(1, 2)).transpose(1, 2).split([x.shape[1], self.n, self.n], dim=1)
        return scan(x, dt, -self.A_log.exp(), B, C, self.D.float(), z=None, delta_bias=None, delta_softplus=True,
                    return_last_state=False)
"""


@pytest.fixture
def clean(monkeypatch, tmp_path):
    """No module of mamba_ssm before and after, and a folder of other people's code on the path."""

    def forget() -> None:
        for name in [n for n in sys.modules if n.split(".")[0] in ("mamba_ssm", "foreign")]:
            del sys.modules[name]

    forget()
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    forget()


def test_signatures_are_those_of_mamba_ssm():
    arguments = ["u", "delta", "A", "B", "C", "D", "z", "delta_bias", "delta_softplus", "return_last_state"]
    defaults = [inspect.Parameter.empty] * 5 + [None] * 3 + [False] * 2
    for function in (selective_scan_fn, selective_scan_ref):
        found = inspect.signature(function).parameters.values()
        assert [(p.name, p.default) for p in found] == list(zip(arguments, defaults, strict=True))
    inner = ["xz", "conv1d_weight", "conv1d_bias", "x_proj_weight", "delta_proj_weight", "out_proj_weight"]
    inner += ["out_proj_bias", "A", "B", "C", "D", "delta_bias", "B_proj_bias", "C_proj_bias", "delta_softplus"]
    assert [*inspect.signature(mamba_inner_fn).parameters] == inner


@pytest.mark.parametrize("name", golden.names("vim", "scan_L*"))
def test_stored_scans_of_vim(name):
    g = golden.load("vim", name)
    leaves = {k: g.tensors[k].clone().requires_grad_() for k in ["u", "delta", "A", "B", "C", "D", "z", "delta_bias"]}
    out, last = selective_scan_fn(**leaves, delta_softplus=True, return_last_state=True)
    golden.assert_close("output", out, g.tensors["output"])
    golden.assert_close("last state", last, g.tensors["last_state"])
    out.backward(g.tensors["cotangent"])
    for k, want in g.under("grad.").items():
        golden.assert_gradient(k, leaves[k].grad, want)
    with torch.no_grad():
        ungated = selective_scan_fn(**(leaves | {"z": None}), delta_softplus=True)
    golden.assert_close("output without z", ungated, g.tensors["output_no_z"])


def inner(p: dict[str, Tensor], xz: Tensor, end: str) -> Tensor:
    """One direction of Vim's mixer through mamba_inner_fn."""
    A = -torch.exp(p[f"A{end}_log"])
    return mamba_inner_fn(
        xz, p[f"conv1d{end}.weight"], p[f"conv1d{end}.bias"], p[f"x_proj{end}.weight"], p[f"dt_proj{end}.weight"],
        p["out_proj.weight"], None, A, None, None, p[f"D{end}"], delta_bias=p[f"dt_proj{end}.bias"],
    )  # fmt: skip


@pytest.mark.parametrize("name", ["bimamba_v2_L1", "bimamba_v2_L7"])
def test_inner_function_gives_the_stored_mixer_of_vim(name):
    g = golden.load("vim", name)
    p = g.under("param.")
    xz = p["in_proj.weight"] @ g.tensors["input"].transpose(1, 2)
    golden.assert_close("output", inner(p, xz, "") + inner(p, xz.flip(-1), "_b").flip(1), g.tensors["output"])


def test_inner_function_with_biases_and_with_given_matrices():
    torch.manual_seed(0)
    D, N, L = 4, 3, 6
    shapes = (2, 2 * D, L), (D, 1, 3), (5, D), (1 + 2 * N, D), (D, 1), (D, N), (N,)
    xz, conv, out, rows, dt, A, bias = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    A = -A.abs()
    common = {"conv1d_bias": None, "delta_proj_weight": dt, "out_proj_weight": out, "out_proj_bias": None, "A": A}
    x = torch.nn.functional.silu(torch.nn.functional.conv1d(xz[:, :D], conv, padding=2, groups=D)[..., :L])
    B, C = (rows[1 : 1 + N] @ x + bias[:, None], rows[1 + N :] @ x - bias[:, None])
    made = mamba_inner_fn(xz, conv, x_proj_weight=rows, B_proj_bias=bias, C_proj_bias=-bias, **common)
    given = mamba_inner_fn(xz, conv, x_proj_weight=rows[:1], B=B, C=C, **common)
    assert made.shape == (2, L, 5)
    torch.testing.assert_close(made, given, rtol=1e-10, atol=1e-10)
    with pytest.raises(NotImplementedError, match=r"needs real A, got torch.complex128; build the mixer from sel"):
        mamba_inner_fn(xz, conv, x_proj_weight=rows, **(common | {"A": A.to(torch.complex128)}))


def test_without_the_output_projection():
    g = golden.load("vim", "bimamba_v2_L7")
    p = g.under("param.")
    xz = p["in_proj.weight"] @ g.tensors["input"].transpose(1, 2)

    def scanned(xz: Tensor, end: str) -> Tensor:
        return mamba_ssm.mamba_inner_fn_no_out_proj(
            xz, p[f"conv1d{end}.weight"], p[f"conv1d{end}.bias"], p[f"x_proj{end}.weight"], p[f"dt_proj{end}.weight"],
            -torch.exp(p[f"A{end}_log"]), None, None, p[f"D{end}"], delta_bias=p[f"dt_proj{end}.bias"],
        )  # fmt: skip

    both = scanned(xz, "") + scanned(xz.flip(-1), "_b").flip(-1)
    golden.assert_close("output", both.transpose(1, 2) @ p["out_proj.weight"].T, g.tensors["output"])


def both_directions(
    xz: Tensor, conv: Tensor, rows: Tensor, dt: Tensor, out: Tensor, A: Tensor, A_b: Tensor, skip: Tensor
) -> Tensor:
    """The first form of Vim's mixer, (B, L, C), written out from xz (B, 2D, L)."""
    D, N, L = xz.shape[1] // 2, A.shape[1], xz.shape[2]
    x = torch.nn.functional.silu(torch.nn.functional.conv1d(xz[:, :D], conv, padding=2, groups=D)[..., :L])
    made = [(rows @ x)[:, 1 : 1 + N], (rows @ x)[:, 1 + N :]]
    sequences = [x, dt @ (rows @ x)[:, :1], *made, xz[:, D:]]
    y = torch.zeros_like(x)
    for rates, turn in ((A, False), (A_b, True)):
        u, delta, B, C, z = (t.flip(-1) if turn else t for t in sequences)
        one = selective_scan_fn(u, delta, rates, B, C, skip, z, None, True)
        y = y + (one.flip(-1) if turn else one)
    return y.transpose(1, 2) @ out.T


@pytest.mark.parametrize("dtype", parity.TOLERANCE, ids=str)
def test_the_first_form_of_two_directions_shares_all_but_the_decay_rates(dtype):
    torch.manual_seed(0)
    D, N, L = 4, 3, 6
    shapes = (2, 2 * D, L), (D, 1, 3), (1 + 2 * N, D), (D, 1), (5, D), (D, N), (D, N), (D,)
    xz, conv, rows, dt, out, A, A_b, skip = (torch.randn(shape, dtype=torch.float64) for shape in shapes)
    tensors = [xz, conv, rows, dt, out, -A.abs(), -A_b.abs(), skip]
    want = both_directions(*tensors)
    xz, conv, rows, dt, out, A, A_b, skip = (t.to(dtype) for t in tensors)
    found = mamba_ssm.bimamba_inner_fn(xz, conv, None, rows, dt, out, None, A, A_b, D=skip)
    parity.assert_equal({"output": found}, {"output": want})


def test_other_peoples_code_runs(clean):
    (clean / "foreign.py").write_text(FOREIGN)
    with pytest.raises(ModuleNotFoundError, match="mamba_ssm"):
        importlib.import_module("foreign")
    provide_mamba_ssm()
    provide_mamba_ssm()  # a second call changes nothing
    foreign = importlib.import_module("foreign")
    mixer, x = foreign.Mixer(), torch.randn(2, 4, 9, requires_grad=True)
    out = mixer(x)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in [x, *mixer.parameters()])
    with use_backend("reference"):
        want = mixer(x, foreign.interface.selective_scan_ref)
    parity.assert_equal({"output": out.detach()}, {"output": want.detach()})
    with pytest.raises(ModuleNotFoundError, match=r"mamba_ssm\.modules"):
        importlib.import_module("mamba_ssm.modules")


@pytest.fixture
def real(clean):
    """A mamba_ssm that is installed and does not import here, as without CUDA, with a file in plain Python."""
    for folder in ("ops", "modules"):
        (clean / "mamba_ssm" / folder).mkdir(parents=True)
        (clean / "mamba_ssm" / folder / "__init__.py").touch()
    (clean / "mamba_ssm" / "__init__.py").write_text("import selective_scan_cuda")
    (clean / "mamba_ssm" / "ops" / "selective_scan_interface.py").write_text("import selective_scan_cuda")
    (clean / "mamba_ssm" / "ops" / "other.py").write_text("value = 7")
    (clean / "mamba_ssm" / "modules" / "simple.py").write_text(FOREIGN)
    importlib.invalidate_caches()


@pytest.mark.usefixtures("real")
def test_the_real_package_is_not_replaced_unasked():
    with pytest.raises(RuntimeError, match=r"mamba_ssm is installed \(.*\), .* call provide_mamba_ssm\(force=True\)"):
        provide_mamba_ssm()
    assert "mamba_ssm" not in sys.modules


@pytest.mark.usefixtures("real")
def test_forced_the_real_packages_python_files_run_on_ours():
    provide_mamba_ssm(force=True)
    module = importlib.import_module("mamba_ssm.modules.simple")
    assert module.selective_scan_fn is mamba_ssm.selective_scan_fn
    assert module.Mixer()(torch.randn(1, 4, 3)).shape == (1, 4, 3)
    assert importlib.import_module("mamba_ssm.ops.other").value == 7
