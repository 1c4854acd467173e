"""Kernels in threads, forks, fresh processes, loader workers, on cold caches and while Python ends: always the same."""

from __future__ import annotations

import hashlib
import itertools
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

from tests.faults import apart
from tests.faults.kind import Bad, Case, Kind, Limits
from tests.tiny import ROOT

OPERATORS = ("ss2d", "selective_scan")
LATE = 0.3  # seconds after which the main thread is surely at its end


def listed() -> Iterator[Case]:
    """Every way that takes no seconds, in processes whose pool was used before or not."""
    quick = [way for way in WAYS if way not in FRESH]
    for way, operator, counts in itertools.product(quick, OPERATORS, ((1, 1), (2, 2), (1, 2))):
        yield {"way": way, "operator": operator, "before": counts[0], "threads": counts[1], "at once": 8, "seed": 0}


def draw(random: Random) -> Case:
    """Any way with any number of threads."""
    way = random.choices([*WAYS], [1 if way in FRESH else 8 for way in WAYS])[0]
    return {
        "way": way,
        "operator": "selective_scan" if way == "cold caches" else random.choice(OPERATORS),  # 10 s to compile, not 30
        "before": random.choice((0, 1, 2, 3)),
        "threads": random.choice((1, 2, 3, 7)),
        "at once": random.choice((1, 2, 8)),
        "seed": random.randrange(100),
    }


def check(case: Case) -> str:
    """Compute once on one thread in a process of its own, then in the way that the case says."""
    want = apart.do(lambda: first_answer(case))
    got = WAYS[case["way"]](case)
    if not got or any(one != want for one in got):
        raise Bad(f"{sum(one == want for one in got)} of {len(got)} answers are right: {want}, {got}")
    return case["way"]


def use(threads: int) -> None:
    """Let the pool of the kernels have so many threads; OpenMP of PyTorch keeps to one, as in a loader's worker."""
    import torch

    torch.get_num_threads = lambda: threads


def answer(case: Case) -> list[str]:
    """Which backend is chosen, and a digest of its output and gradients; in this thread."""
    import torch

    from yolomix.ops.selective_scan import OPERATOR as SCAN
    from yolomix.ops.selective_scan import example as of_scan
    from yolomix.ops.ss2d import OPERATOR as SS2D
    from yolomix.ops.ss2d import example as of_ss2d

    operator, example = (SS2D, of_ss2d) if case["operator"] == "ss2d" else (SCAN, of_scan)
    inputs = example.inputs("cpu")
    tensors = [x for x in inputs if isinstance(x, torch.Tensor)]
    for x in tensors:
        x.requires_grad_()
    chosen: Any = operator.choose(inputs)
    out = chosen.run(inputs)
    found = [out.detach(), *torch.autograd.grad(out.square().sum(), tensors)]
    digest = hashlib.sha256(b"".join(x.contiguous().numpy().tobytes() for x in found)).hexdigest()
    return [chosen.__name__.rpartition(".")[2], digest[:16]]


def first_answer(case: Case) -> list[str]:
    """:func:`answer` in a process that has not computed before."""
    use(case["threads"])
    return answer(case)


def _warm(case: Case) -> None:
    """Use the kernels in this process, perhaps, so that its pool has threads."""
    if case["before"]:
        use(case["before"])
        answer(case)
    use(case["threads"])


def _threads(case: Case) -> list[Any]:
    def act() -> list[Any]:
        _warm(case)
        with ThreadPoolExecutor(case["at once"]) as pool:
            return [*pool.map(lambda _: answer(case), range(2 * case["at once"]))]

    return apart.do(act)


def _forks(case: Case) -> list[Any]:
    """``os.fork`` of a process whose pool has threads, which the children do not have."""

    def act() -> list[Any]:
        _warm(case)
        return [apart.result(one) for one in [apart.start(lambda: answer(case)) for _ in range(3)]]

    return apart.do(act)


def _fork_in_thread(case: Case) -> list[Any]:
    def act() -> list[Any]:
        _warm(case)
        with ThreadPoolExecutor(1) as pool:
            return [pool.submit(lambda: apart.do(lambda: answer(case))).result()]

    return apart.do(act)


def _multiprocessing(case: Case) -> list[Any]:
    def act() -> list[Any]:
        import multiprocessing

        _warm(case)
        with multiprocessing.get_context("fork").Pool(2) as pool:
            return pool.map(answer, 3 * [case])

    return apart.do(act)


class Items:
    """A dataset of answers, computed where they are asked for."""

    def __init__(self, case: Case) -> None:
        self.case = case

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> list[str]:
        return first_answer(self.case)


def _loader(case: Case) -> list[Any]:
    def act() -> list[Any]:
        from torch.utils.data import DataLoader

        _warm(case)
        loader: Any = DataLoader(Items(case), batch_size=None, num_workers=2, multiprocessing_context="fork")  # type: ignore[arg-type]
        return [*loader]

    return apart.do(act)


def _outlives(case: Case) -> list[Any]:
    """Threads that are at work after the main one has ended, a pool nobody awaits, an exit handler, in one program."""
    return _program(case, OUTLIVES)


def _spawned(case: Case) -> list[Any]:
    return _program(case, SPAWNED)


def _program(case: Case, text: str) -> list[Any]:
    """What a program of its own says, a line for every answer; it ends well and without a word on stderr."""
    Path("program.py").write_text(text)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
    done = subprocess.run([sys.executable, "program.py", repr(case)], env=env, capture_output=True, text=True)
    if done.returncode or "Traceback" in done.stderr:
        raise Bad(f"exit code {done.returncode}: {done.stderr[-1500:]}")
    answers = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("answer ")]
    if len(answers) != 4:
        raise Bad(f"{len(answers)} answers instead of 4: {done.stdout[-500:]} {done.stderr[-500:]}")
    return answers


OUTLIVES = """
import ast, atexit, sys, threading, time
from concurrent.futures import ThreadPoolExecutor
from tests.faults.threads import LATE, answer, use

case = ast.literal_eval(sys.argv[1])
if case["before"]:
    use(case["before"])
    answer(case)
use(case["threads"])

def late():
    time.sleep(LATE)
    say()

def say():
    words = ["answer", *answer(case)]
    sys.stdout.write(" ".join(words) + "\\n")  # in one call, since others write too
    sys.stdout.flush()

atexit.register(say)
threading.Thread(target=late).start()
pool = ThreadPoolExecutor(2)
for _ in range(2):
    pool.submit(late)
"""

SPAWNED = """
import ast, multiprocessing, sys
from tests.faults.threads import first_answer

if __name__ == "__main__":
    case = ast.literal_eval(sys.argv[1])
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        for one in pool.map(first_answer, 4 * [case]):
            print("answer", *one, flush=True)
"""


def _ending(case: Case) -> list[Any]:
    """As :data:`OUTLIVES`, in a forked process that really ends as Python does."""
    out = Path("answers.txt").resolve()

    def late(started: threading.Event) -> None:
        started.wait()
        import time

        time.sleep(LATE)
        _write(out, case)

    pid = os.fork()
    if pid == 0:
        import atexit

        _warm(case)
        started = threading.Event()
        atexit.register(_write, out, case)
        threads = [threading.Thread(target=late, args=(started,)) for _ in range(2)]
        pool = ThreadPoolExecutor(1)
        for thread in threads:
            thread.start()
        pool.submit(late, started)
        started.set()
        _end_as_python_does()
    _, status = os.waitpid(pid, 0)
    lines = out.read_text().splitlines() if out.exists() else []
    if status or len(lines) != 4:
        raise Bad(f"status {status}, {len(lines)} answers instead of 4")
    return [line.split() for line in lines]


def _end_as_python_does() -> None:
    """The first steps of the end of an interpreter: wait for threads, then call exit handlers."""
    import atexit

    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    os._exit(0)


def _write(out: Path, case: Case) -> None:
    line = " ".join(answer(case)) + "\n"
    with out.open("a") as file:
        file.write(line)


def _cold(case: Case) -> list[Any]:
    """Four processes that fill an empty cache of kernels at once."""
    cache = Path("cache").resolve()

    def act() -> list[str]:
        from numba.core import config

        from yolomix.ops._numba import jit
        from yolomix.ops.selective_scan import numba_kernels as of_scan
        from yolomix.ops.ss2d import numba_kernels as of_ss2d

        config.CACHE_DIR = str(cache)
        for kernel in (of_scan.forward, of_scan.backward, of_ss2d.forward, of_ss2d.backward):
            kernel._cache = jit._Cache(kernel.py_func)
        return first_answer(case)

    try:
        return [apart.result(one, 540) for one in [apart.start(act) for _ in range(4)]]
    finally:
        shutil.rmtree(cache, ignore_errors=True)


WAYS: dict[str, Callable[[Case], list[Any]]] = {
    "threads": _threads,
    "forks": _forks,
    "fork in a thread": _fork_in_thread,
    "multiprocessing": _multiprocessing,
    "loader workers": _loader,
    "ending": _ending,
    "outlives main": _outlives,
    "spawn": _spawned,
    "cold caches": _cold,
}
FRESH = ("outlives main", "spawn", "cold caches")  # seconds long, so only in the list


def _always_a_pool() -> None:
    """Need threads whatever Python's end says."""
    from yolomix.ops._numba import pool

    pool.contextlib = mock.Mock(suppress=lambda *errors: mock.MagicMock(__exit__=lambda *error: False))


def _main_alone() -> None:
    """Let numba serve the main thread only; others are slow without a word."""
    from yolomix.ops.selective_scan import numba_cpu as of_scan
    from yolomix.ops.ss2d import numba_cpu as of_ss2d

    for backend in (of_scan, of_ss2d):
        native = backend.refusals
        backend.refusals = lambda inputs, native=native: (
            native(inputs) if threading.current_thread() is threading.main_thread() else ["another thread"]
        )


KIND = Kind(
    name="threads",
    tries="8 threads, forks, spawn, loader workers, 4 processes on cold caches, passes while Python ends",
    figure="equal to one thread, numba still chosen, no answer missing",
    check=check,
    target=200,
    listed=listed,
    draw=draw,
    runs_nothing=False,
    limits=Limits(seconds=300, wall=600),
    share=2.0,
    small=12,
    plants={"always a pool": _always_a_pool, "main alone": _main_alone},
)
