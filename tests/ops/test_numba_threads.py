"""Threads, processes and the cache of the Numba kernels: what people do with them without thinking."""

from __future__ import annotations

import importlib.util
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest import mock

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from yolomix.ops._numba import jit, pool
from yolomix.ops.ss2d import ss2d


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


def test_without_a_place_for_a_cache_a_kernel_is_compiled_all_the_same(monkeypatch):
    monkeypatch.setattr(jit._Stored, "_locator_classes", [])
    doubled = jit.kernel(lambda x: 2 * x)
    assert doubled(4) == 8
    assert type(doubled._cache).__name__ == "NullCache"


def test_another_fault_of_the_cache_is_not_hidden(monkeypatch):
    def broken(function):
        raise RuntimeError("disk on fire")

    monkeypatch.setattr(jit, "_Cache", broken)
    with pytest.raises(RuntimeError, match="disk on fire"):
        jit.kernel(lambda x: x)


def test_a_change_in_any_kernel_file_names_another_cache(monkeypatch, tmp_path):
    """Numba looks at a kernel's own file only; machine code of a changed helper must not be found again."""
    source = tmp_path / "kernels.py"
    source.write_text("def add(x):\n    return x + 1\n")
    spec = importlib.util.spec_from_file_location("kernels", source)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    names = []
    for digest in ("0" * 16, "1" * 16):
        monkeypatch.setattr(jit, "_sources", lambda digest=digest: digest)
        compiled = jit.kernel(module.add)
        assert compiled(1) == 2
        names.append(compiled._cache._impl.filename_base)
    assert names[0] != names[1]
    assert all(list(source.parent.rglob(f"{name}*.nbi")) for name in names)


def test_the_digest_is_of_the_sources():
    assert len(jit._sources()) == 16
    assert jit._sources.__wrapped__() == jit._sources()
