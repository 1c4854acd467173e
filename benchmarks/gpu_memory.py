"""Memory of the 2D selective scan with gradients, counted without a GPU: ``python -m benchmarks.gpu_memory``.

Both pipelines run on PyTorch's ``meta`` device, where a tensor has a size and no memory, with kernels that do nothing;
what is alive at the peak beside the arguments is what a GPU with as many multiprocessors would hold. Batch 32, the
stages S1 to S4 of Mamba-YOLO-T at 640 px.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter

from benchmarks import gpu_ops, gpu_timing
from benchmarks.four_copy import four_copy
from yolomix.ops._triton import launch, plan
from yolomix.ops.ss2d import triton_gpu

BATCH = 32
MULTIPROCESSORS = 132  # of an H100 or H200


class Peak(TorchDispatchMode):
    """Bytes of storages made inside, now and at the most; ``known`` ones are not counted."""

    def __init__(self, known: Sequence[Tensor]):
        super().__init__()
        self.now = self.most = 0
        self.seen = {x.untyped_storage()._cdata for x in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run the operation and count the storages that it made."""
        out = func(*args, **(kwargs or {}))
        for x in tree_iter(out):
            if isinstance(x, Tensor) and x.untyped_storage()._cdata not in self.seen:
                self._count(x.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        size, key = storage.nbytes(), storage._cdata
        self.seen.add(key)
        self.now += size
        self.most = max(self.most, self.now)
        weakref.finalize(storage, self._forget, key, size)

    def _forget(self, key: int, size: int) -> None:
        self.seen.discard(key)
        self.now -= size


class OfficialScan(torch.autograd.Function):
    """What mamba_ssm's extension allocates for real A, and B and C that vary with the time step.

    Source: csrc/selective_scan/selective_scan.cpp.

    Forward: outputs, and two values per state for every 2048 time steps. Backward: gradients; those of B and C are in
    float32 before they take the type of B and C.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor, D: Tensor, bias: Tensor) -> Tensor:
        """Outputs, (B, D, L)."""
        chunks = -(-u.shape[2] // 2048)
        ckpts = u.new_empty((u.shape[0], u.shape[1], chunks, 2 * A.shape[1]), dtype=torch.float32)
        ctx.save_for_backward(u, delta, A, B, C, D, bias, ckpts)
        return torch.empty_like(u)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        """Gradients of the seven arguments."""
        u, delta, A, B, C, D, bias, _ = ctx.saved_tensors
        kept = grads[0].contiguous()
        dB, dC = (torch.zeros_like(x, dtype=torch.float32) for x in (B, C))
        du, ddelta, dA, dD, dbias = (torch.empty_like(x) for x in (u, delta, A, D, bias))
        del kept
        return du, ddelta, dA, dB.to(B.dtype), dC.to(C.dtype), dD, dbias


class _Nothing:
    def __getitem__(self, grid: object) -> Callable[..., None]:
        return lambda *args, **kwargs: None


@contextmanager
def without_kernels() -> Iterator[None]:
    """Kernels do nothing, on a device of that many multiprocessors."""
    kernels = dict.fromkeys(("scan_ends", "scan_forward", "scan_backward"), _Nothing())
    count = patch.object(plan, "multiprocessors", lambda device: MULTIPROCESSORS)
    with patch.multiple(launch, **kernels), count:
        yield


def megabytes(shape: str, dtype: torch.dtype) -> tuple[float, float]:
    """Extra memory at the peak of forward and backward: ours, and the four-copy pipeline's."""
    with patch.object(gpu_timing, "DEVICE", "meta"):
        arguments = gpu_ops.Problem("ss2d", shape, BATCH, dtype).arguments(False)
    with without_kernels(), Peak(arguments) as ours:
        out, ckpts = triton_gpu.ss2d_op._init_fn(*arguments, True)
        triton_gpu.ss2d_backward_op._init_fn(torch.empty_like(out), *arguments, ckpts)
    leaves = [x.requires_grad_() for x in arguments]
    with Peak(leaves) as theirs:
        out = four_copy(*leaves, scan=OfficialScan.apply)
        torch.autograd.grad(out, leaves, torch.empty_like(out))
    return ours.most / 1e6, theirs.most / 1e6


def main() -> None:
    """A line per stage and type."""
    for dtype in (torch.float32, torch.bfloat16):
        for shape in gpu_ops.SHAPES:
            ours, theirs = megabytes(shape, dtype)
            print(f"{shape} {str(dtype)[6:]}: {ours:.0f} MB, four copies {theirs:.0f} MB, {ours / theirs:.2f}")


if __name__ == "__main__":
    main()
