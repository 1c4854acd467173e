"""Threads and processes of the Numba kernels: what people do with them without thinking."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from tests.full import cases
from yolomix.ops._numba import pool
from yolomix.ops.ss2d import ss2d

# The first backward pass of a process starts PyTorch's threads for every kind of device that it knows. Tracing makes it
# know of GPUs, and with such threads no forked worker may compute gradients. So the first one comes before all tests.
torch.ones(1, requires_grad=True).sum().backward()


@pytest.fixture
def threads():
    """A function that sets the number of threads; it is set back."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def inputs(channels: int = 72, batch: int = 1) -> list[Tensor]:
    torch.manual_seed(0)
    N, R = 5, 2
    weights = [
        torch.randn(4, R + 2 * N, channels) / channels**0.5,
        torch.randn(4, channels, R),
        torch.randn(4, channels),
    ]
    return [torch.randn(batch, channels, 7, 9), *weights, -torch.rand(4 * channels, N), torch.randn(4 * channels)]


def answer(tensors: list[Tensor]) -> list[Tensor]:
    leaves = [x.detach().requires_grad_() for x in tensors]
    out = ss2d(*leaves, backend="numba")
    return [out.detach(), *torch.autograd.grad(out.square().sum(), leaves)]


@pytest.mark.parametrize("count", [2, 3, 7, 64])
@pytest.mark.parametrize(("channels", "batch"), [(72, 1), (16, 1), (16, 3)])
def test_any_number_of_threads(count, channels, batch, threads):
    """More threads than channel blocks: directions become tasks of their own, and the result is the same."""
    tensors = inputs(channels, batch)
    want = answer(tensors)
    threads(count)
    got = answer(tensors)
    for x, y in zip(got, want, strict=True):
        torch.testing.assert_close(x, y, rtol=1e-5, atol=1e-5 * y.abs().max().item())
    assert all(torch.equal(x, y) for x, y in zip(answer(tensors), got, strict=True)), "the same every time"


def test_every_task_runs_once_and_the_caller_works_too(threads):
    threads(3)
    done, workers = np.zeros(100, int), set()

    def kernel(step, first, end):
        done[first:end] += step
        workers.add(threading.current_thread().name)

    pool.run(kernel, (1,), 100)
    assert (done == 1).all()
    assert len(workers) <= 3
    threads(1)
    workers.clear()
    pool.run(kernel, (1,), 100)
    assert (done == 2).all()
    assert workers == {threading.current_thread().name}


def test_an_error_in_a_thread_reaches_the_caller(threads):
    threads(2)

    def kernel(first, end):
        raise ValueError(f"task {first}")

    with pytest.raises(ValueError, match="task"):
        pool.run(kernel, (), 8)


def test_several_python_threads_at_once(threads):
    threads(2)
    tensors = inputs()
    want = answer(tensors)
    with ThreadPoolExecutor(4) as executor:
        for got in executor.map(lambda _: answer(tensors), range(12)):
            assert all(torch.equal(x, y) for x, y in zip(got, want, strict=True))


class Maps(Dataset):
    """Every item is computed by the kernels, with two threads, in the worker."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> Tensor:
        with mock.patch.object(torch, "get_num_threads", return_value=2):  # OpenMP keeps to one, as in every worker
            return answer(inputs())[0]


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_data_loader_workers(start, threads):
    """After this process used its own threads: a forked worker must not wait for threads that it does not have."""
    threads(2)
    want = answer(inputs())[0]
    loader = DataLoader(Maps(), num_workers=1, multiprocessing_context=start, timeout=120)
    for item in loader:
        assert torch.equal(item[0], want)


OUTLIVES = """
import atexit, threading, time, torch
from concurrent.futures import ThreadPoolExecutor
from yolomix.ops import selective_scan
torch.set_num_threads(2)
x = torch.randn(2, 64, 70)
A, B = -torch.rand(64, 4), torch.randn(2, 1, 4, 70)

def trained():
    u = x.clone().requires_grad_()
    selective_scan(u, x.abs(), A, B, B, backend="numba").sum().backward()
    return u.grad

want = trained()
ends = threading.Event()

def work():
    ends.wait()
    time.sleep(0.5)  # the main thread is at its end by now, and waits for this one
    for _ in range(3):
        assert torch.equal(trained(), want)
        print("computed", flush=True)

atexit.register(lambda: print("at exit", torch.equal(trained(), want), flush=True))
if {pool}:
    ThreadPoolExecutor(1).submit(work)
else:
    threading.Thread(target=work).start()
ends.set()
"""


@pytest.mark.parametrize("pool", cases([False, True], always=[True]), ids=["thread", "pool"])
def test_passes_work_until_the_process_is_gone(pool):
    done = subprocess.run(
        [sys.executable, "-c", OUTLIVES.format(pool=pool)], capture_output=True, text=True, timeout=120
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == 3 * "computed\n" + "at exit True\n"
