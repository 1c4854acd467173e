"""Memory that gradients of the Triton kernels take against the official steps, counted on PyTorch's meta device."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="memory is counted where Triton has a wheel")

from benchmarks import gpu_memory


@pytest.mark.parametrize(("shape", "most"), [("S1", 0.2), ("S2", 0.25), ("S3", 0.3), ("S4", 0.36)])
def test_ss2d_with_gradients_takes_a_share_of_four_copies(shape, most):
    ours, theirs = gpu_memory.megabytes(shape, torch.float32)
    assert ours <= most * theirs


def test_the_peak_counts_what_is_alive_at_once():
    known = torch.ones(1000)
    with gpu_memory.Peak([known]) as peak:
        a = known + 1
        b = a.view(-1) + 1
        del a
        c = b * 2
        del b, c
    assert (peak.most, peak.now) == (8000, 0)
