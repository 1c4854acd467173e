"""Threads for kernels that release the interpreter lock: a pool of Python threads per process.

Several Python threads may share a pool. An idle pool costs nothing, because no thread of it spins.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import torch

CHUNKS_PER_THREAD = 4  # a thread that loses its core to another process leaves its share to the others

# By process id, because a forked child inherits this dictionary and the pool in it, but not the threads of that pool.
_pools: dict[int, ThreadPoolExecutor] = {}


def run(kernel: Callable[..., Any], args: tuple[Any, ...], tasks: int) -> None:
    """Call ``kernel(*args, first, last)`` until every task in ``range(tasks)`` was in one half-open range.

    The caller works too; as many threads as ``torch.get_num_threads()`` says take part. Ranges depend on the number of
    threads only, and tasks must not depend on each other, so results do not depend on who computes them.

    >>> done = [0] * 5
    >>> def kernel(increment, first, last):
    ...     for task in range(first, last):
    ...         done[task] += increment
    >>> run(kernel, (1,), 5)
    >>> done
    [1, 1, 1, 1, 1]
    """
    threads = min(torch.get_num_threads(), tasks)
    if threads <= 1:
        kernel(*args, 0, tasks)
        return
    chunks = min(tasks, threads * CHUNKS_PER_THREAD)
    bounds = [tasks * i // chunks for i in range(chunks + 1)]
    following = count()  # its next() is one C call, so no two threads get the same number

    def work() -> None:
        while (i := next(following)) < chunks:
            kernel(*args, bounds[i], bounds[i + 1])

    helpers = []
    try:
        for _ in range(threads - 1):
            # Python closes all pools before it waits for threads that outlive the main one: the caller works alone.
            with contextlib.suppress(RuntimeError):
                helpers.append(_pool().submit(work))
        work()
    finally:
        # Who has not started by now finds no work left. Waiting for it could last as long as a stranger's task.
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def _pool() -> ThreadPoolExecutor:
    """The pool of this process; threads start when there is work for them."""
    pid = os.getpid()
    if pid not in _pools:
        _pools.setdefault(pid, ThreadPoolExecutor(os.cpu_count() or 1, thread_name_prefix="yolomix"))
    return _pools[pid]
