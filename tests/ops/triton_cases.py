"""The cases of the Triton kernels, the same for the interpreter and for a GPU: errors against the float64 reference.

Run as a program it prints those of the cases that are named as JSON; ``test_triton_interpreted.py`` does that with
``TRITON_INTERPRET=1``, which kernels read when they are defined.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from yolomix.ops._triton import launch, plan
from yolomix.ops.selective_scan import reference as scan_reference
from yolomix.ops.selective_scan import triton_gpu as scan_triton
from yolomix.ops.selective_scan.inputs import ScanInputs
from yolomix.ops.ss2d import reference as ss2d_reference
from yolomix.ops.ss2d import triton_gpu as ss2d_triton
from yolomix.ops.ss2d.inputs import SS2DInputs

Row = dict[str, Any]

# batch, channels, time steps, state size, groups (0: B and C without them), type, what else.
SCANS: dict[str, Row] = {
    "one time step": {"shape": (2, 3, 1, 16, 1)},
    "full": {"shape": (1, 33, 9, 16, 1), "gate": True, "last": True},
    "groups": {"shape": (2, 6, 13, 5, 3), "gate": True, "last": True, "ckpt": 4},
    "plain": {"shape": (1, 4, 8, 2, 0), "skip": False, "bias": False, "softplus": False},
    "chunks": {"shape": (1, 5, 27, 8, 1), "ckpt": 4, "last": True},
    "one state": {"shape": (1, 7, 6, 1, 1), "order": "channels last"},
    "twenty states": {"shape": (1, 3, 6, 20, 1), "order": "strided", "gate": True},
    "forty states": {"shape": (1, 17, 4, 40, 1)},
    "bfloat16": {"shape": (1, 4, 7, 4, 2), "dtype": "bfloat16", "gate": True},
    "float16": {"shape": (1, 4, 7, 4, 1), "dtype": "float16"},
    "wide": {"shape": (1, 4, 7, 4, 1), "wide": True},
}
# batch, channels, height, width, state size, rank.
MAPS: dict[str, Row] = {
    "one cell": {"shape": (1, 3, 1, 1, 4, 1)},
    "row": {"shape": (1, 4, 1, 6, 4, 2)},
    "column": {"shape": (1, 4, 5, 1, 4, 2)},
    "blocks": {"shape": (1, 33, 2, 3, 2, 5)},
    "images apart": {"shape": (2, 5, 3, 4, 3, 2), "workspace": 1},
    "chunks": {"shape": (1, 3, 5, 5, 4, 3), "ckpt": 4},
    "main sizes": {"shape": (1, 8, 2, 2, 16, 2), "order": "channels last"},
    "one state": {"shape": (1, 8, 3, 2, 1, 8)},
    "strided": {"shape": (1, 5, 2, 3, 3, 2), "order": "strided"},
    "bfloat16": {"shape": (1, 4, 2, 3, 4, 1), "dtype": "bfloat16"},
    "wide": {"shape": (1, 4, 2, 3, 4, 20), "wide": True},
}


def errors(leaves: list[Tensor | None], run: Callable[..., Any], reference: Callable[..., Any]) -> list[float]:
    """Of outputs and of every gradient: largest difference over the reference's largest value."""
    ours = [x if x is None else x.detach().requires_grad_() for x in leaves]
    theirs = [x if x is None else x.detach().double().requires_grad_() for x in leaves]
    got, want = _outputs(run(*ours)), _outputs(reference(*theirs))
    weights = [torch.randn_like(w) for w in want]
    pairs = list(zip(got, want, strict=True))
    sum((g.double() * w).sum() for g, w in zip(got, weights, strict=True)).backward()
    sum((v * w).sum() for v, w in zip(want, weights, strict=True)).backward()
    pairs += [(a.grad, b.grad) for a, b in zip(ours, theirs, strict=True) if a is not None]
    return [((g.double() - w).abs().max() / w.abs().max().clamp_min(1e-9)).item() for g, w in pairs]


def scan_leaves(row: Row, device: str) -> list[Tensor | None]:
    """Arguments of ``selective_scan`` up to delta_bias."""
    batch, channels, length, states, groups = row["shape"]
    dtype = getattr(torch, row.get("dtype", "float32"))
    torch.manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)

    u, delta = (channels_last(normal(batch, channels, length).to(dtype), row) for _ in range(2))
    matrix = (batch, groups, states, length) if groups else (batch, states, length)
    B, C = normal(*matrix).to(dtype), normal(*matrix).to(dtype)
    A = -torch.rand(channels, states, device=device) * 4 - 0.1
    D = normal(channels) if row.get("skip", True) else None
    z = channels_last(normal(batch, channels, length).to(dtype), row) if row.get("gate") else None
    bias = normal(channels) - 1 if row.get("bias", True) else None
    found = [u, delta if row.get("softplus", True) else delta.abs() / 8, A, B, C, D, z, bias]
    return [None if x is None else strided(x, row) for x in found]


def channels_last(x: Tensor, row: Row) -> Tensor:
    """The same values with channels next to each other in memory, if the case wants that."""
    return x.movedim(1, -1).contiguous().movedim(-1, 1) if row.get("order") == "channels last" else x


def strided(x: Tensor, row: Row) -> Tensor:
    """The same values with gaps between them, if the case wants that."""
    return torch.stack([x, x + 1], dim=-1)[..., 0] if row.get("order") == "strided" else x


def map_leaves(row: Row, device: str) -> list[Tensor | None]:
    """Arguments of ``ss2d``."""
    batch, channels, height, width, states, rank = row["shape"]
    torch.manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, device=device)

    x = channels_last(normal(batch, channels, height, width).to(getattr(torch, row.get("dtype", "float32"))), row)
    weights = [normal(4, rank + 2 * states, channels) / channels**0.5, normal(4, channels, rank) / 2]
    A = -torch.rand(4 * channels, states, device=device) * 4 - 0.1
    return [strided(leaf, row) for leaf in (x, *weights, normal(4, channels) - 1, A, normal(4 * channels))]


def measure(name: str, device: str) -> list[float]:
    """Errors of one case, "scan ..." or "map ..."."""
    kind, _, which = name.partition(" ")
    row = (SCANS if kind == "scan" else MAPS)[which]
    with small(row):
        if kind == "map":
            return errors(map_leaves(row, device), _run_map, lambda *a: ss2d_reference.run(SS2DInputs(*a)))
        flags = (row.get("softplus", True), row.get("last", False))
        leaves = scan_leaves(row, device)
        return errors(
            leaves,
            lambda *a: scan_triton.run(ScanInputs(*a, *flags)),
            lambda *a: scan_reference.run(ScanInputs(*a, *flags)),
        )


@contextmanager
def small(row: Row) -> Iterator[None]:
    """Checkpoints every few time steps, images one at a time, offsets of 64 bits: small shapes meet every path."""
    ckpt, workspace = row.get("ckpt", plan.CKPT), row.get("workspace", ss2d_triton.WORKSPACE)
    wide = property(lambda shape: True) if row.get("wide") else plan.ScanShape.wide
    with (
        patch.multiple(plan, CKPT=ckpt, SHORTEST=ckpt),
        patch.object(launch, "CKPT", ckpt),
        patch.object(ss2d_triton, "WORKSPACE", workspace),
        patch.object(plan.ScanShape, "wide", wide),
    ):
        yield


def _run_map(*tensors: Tensor) -> Tensor:
    return ss2d_triton.run(SS2DInputs(*tensors))


def _outputs(found: Tensor | tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return found if isinstance(found, tuple) else (found,)


def compiled(device: str, engine: str) -> list[float]:
    """Differences between eager and ``torch.compile(fullgraph=True)``, outputs and gradients; one graph, no break."""
    leaves = map_leaves(MAPS["strided"], device)  # states that are padded

    def loss(*args: Tensor) -> Tensor:
        if ss2d_triton.refusals(SS2DInputs(*args)):
            raise NotImplementedError("the case is not served")
        return _run_map(*args).square().sum() + scan_like(*args)

    def scan_like(x: Tensor, *rest: Tensor) -> Tensor:
        u, n = x.flatten(2), rest[3].shape[1]
        B = u[:, :1].expand(-1, n, -1)
        found = scan_triton.run(ScanInputs(u, u, rest[3][: u.shape[1]], B, B, z=u, delta_softplus=True))
        return found.square().sum()

    return [
        (a - b).abs().max().item() for a, b in _both(loss, torch.compile(loss, fullgraph=True, backend=engine), leaves)
    ]


def checkpointed(device: str) -> list[float]:
    """Differences that activation checkpointing makes."""
    from torch.utils.checkpoint import checkpoint

    def loss(*args: Tensor) -> Tensor:
        return _run_map(*args).square().sum()

    def again(*args: Tensor) -> Tensor:
        return checkpoint(loss, *args, use_reentrant=False)

    return [(a - b).abs().max().item() for a, b in _both(loss, again, map_leaves(MAPS["row"], device))]


def inside_autocast(device: str) -> list[float]:
    """Differences that a backward pass inside autocast makes."""
    leaves = [x.requires_grad_() for x in map_leaves(MAPS["row"], device)]
    loss = _run_map(*leaves).square().sum()
    outside = torch.autograd.grad(loss, leaves, retain_graph=True)
    with torch.autocast(device, torch.bfloat16):
        inside = torch.autograd.grad(loss, leaves)
    return [(a - b).abs().max().item() for a, b in zip(inside, outside, strict=True)]


def _both(
    one: Callable[..., Tensor], other: Callable[..., Tensor], leaves: list[Tensor]
) -> list[tuple[Tensor, Tensor]]:
    found = []
    for function in (one, other):
        args = [x.detach().clone().requires_grad_() for x in leaves]
        out = function(*args)
        found.append([out.detach(), *torch.autograd.grad(out, args)])
    return list(zip(*found, strict=True))


def registered(device: str) -> list[str]:
    """What torch's own check of a registered operator says about each of ours."""
    scan = scan_leaves({"shape": (1, 4, 3, 2, 2), "gate": True, "last": True}, device)  # an argument of every kind
    cells = map_leaves({"shape": (1, 3, 1, 2, 3, 2), "order": "strided"}, device)
    out, last, raw, ckpts = scan_triton.scan_op(*scan, True, True, True)
    scan_back = (torch.randn_like(out), torch.randn_like(last), *scan, True, True, raw, ckpts)
    total, ckpts = ss2d_triton.ss2d_op(*cells, True)
    map_back = (torch.randn_like(total), *cells, ckpts)
    for leaf in (*scan, *cells):
        if leaf is not None:
            leaf.requires_grad_()
    found = [
        torch.library.opcheck(scan_triton.scan_op, (*scan, True, True, True)),
        torch.library.opcheck(ss2d_triton.ss2d_op, (*cells, True)),
        torch.library.opcheck(scan_triton.scan_backward_op, scan_back, test_utils=["test_schema", "test_faketensor"]),
        torch.library.opcheck(ss2d_triton.ss2d_backward_op, map_back, test_utils=["test_schema", "test_faketensor"]),
    ]
    return [verdict for row in found for verdict in row.values()]


CHECKS: dict[str, Callable[[str], Any]] = {
    "compiled": lambda device: compiled(device, "aot_eager"),
    "checkpointed": checkpointed,
    "inside autocast": inside_autocast,
    "registered": registered,
}


def report(device: str, names: list[str]) -> dict[str, Any]:
    """What these checks found and the errors of these cases, by name."""
    return {name: CHECKS[name](device) if name in CHECKS else measure(name, device) for name in names}


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(json.dumps(report("cpu", sys.argv[1:])))
