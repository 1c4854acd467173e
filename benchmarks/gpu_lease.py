"""All that waits for a GPU, for whoever has one for a few minutes: ``python -m benchmarks.gpu_lease --out DIR``.

The steps run in the order of ``STEPS``, each in a process of its own that is ended at its limit. A second call with the
same folder goes on where the first stopped: finished steps are skipped, others continue by row, and what failed is
tried again. ``--dry-run`` rehearses all of it on a CPU, with tiny sizes and Triton's interpreter.
"""

from __future__ import annotations

import argparse
import importlib
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.gpu_record import BROKEN, Lease, Record, best
from yolomix import processes

NO_GPU = 2  # exit code
PROGRAM = "benchmarks.gpu_lease"
ROOT = Path(__file__).parents[1]
# Minutes of eight, and the module whose ``run(record)`` it is.
STEPS = {
    "t": (1.5, "benchmarks.gpu_tensorrt"),
    "a": (1.5, "benchmarks.gpu_parity"),
    "b": (1.5, "benchmarks.gpu_operators"),
    "c": (1.0, "benchmarks.gpu_plans"),
    "d": (1.5, "benchmarks.gpu_models"),
    "e": (1.0, "benchmarks.gpu_amp"),
}


def main(argv: list[str] | None = None) -> int:
    """Run what is left; exit code 1 if a step is not done or something in it failed, 2 without a GPU."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu_lease", description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for lease.json and a CSV file per step")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all steps together (default: 8)")
    parser.add_argument("--only", choices=STEPS, help="one step alone; t is TensorRT")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, tiny, with Triton's interpreter")
    parser.add_argument(
        "--step", choices=STEPS, help=argparse.SUPPRESS
    )  # what the processes of the steps are called with
    options = parser.parse_args(argv)
    if options.step is not None:
        return child(options.out, options.step, options.dry_run)
    if not options.dry_run and not has_gpu():
        print("benchmarks.gpu_lease needs a GPU that PyTorch can use, and torch.cuda.is_available() is False; "
              "--dry-run rehearses on the CPU", file=sys.stderr)  # fmt: skip
        return NO_GPU
    options.out.mkdir(parents=True, exist_ok=True)
    steps = [*STEPS] if options.only is None else [options.only]
    return lease(options.out, options.minutes, options.dry_run, steps)


def has_gpu() -> bool:
    """Whether PyTorch can use one."""
    import torch

    return torch.cuda.is_available()


def lease(out: Path, minutes: float, dry_run: bool, steps: Sequence[str] = tuple(STEPS)) -> int:
    """Every step that is not done, one after the other; what one does not use is shared by those behind it."""
    found = Lease(out)
    found.update(calls=found.read()["calls"] + 1, minutes=minutes, dry_run=dry_run)
    open_steps = [step for step in steps if found.read()["steps"].get(step, {}).get("state") != "done"]
    for step in open_steps:
        found.update(step, state="waiting")
    end = time.monotonic() + 60 * minutes
    for index, step in enumerate(open_steps):
        share = STEPS[step][0] / sum(STEPS[other][0] for other in open_steps[index:])
        run(found, step, share * (end - time.monotonic()), dry_run)
        found.update(best_plans=best(out / "c.csv"))
        print(step, summary(found.read()["steps"][step]), flush=True)
    states = [found.read()["steps"][step]["state"] for step in steps]
    return int(states != ["done"] * len(steps))


def run(found: Lease, step: str, limit: float, dry_run: bool) -> None:
    """One step in processes of its own, ``limit`` seconds at most."""
    start = time.monotonic()
    found.update(step, state="running", limit_s=round(limit, 1), traceback=None)
    code: int | None = BROKEN
    while code == BROKEN:
        code = process(found.file.parent, step, start + limit - time.monotonic(), dry_run)
    found.update(step, **outcome(found.read()["steps"][step], code), seconds=round(time.monotonic() - start, 1))


def outcome(entry: dict[str, Any], code: int | None) -> dict[str, Any]:
    """State and traceback of a step by the exit code of its process; None where it was ended at its limit."""
    if code is None:
        return {"state": "cut"}
    if code != 0 and entry["traceback"] is None:
        return {"state": "failed", "traceback": f"the process ended with exit code {code}; lease.log has its output"}
    return {"state": "failed" if code != 0 or entry.get("failures") else "done"}


def process(out: Path, step: str, limit: float, dry_run: bool) -> int | None:
    """The exit code of a step's process; None if it and what it began had to be ended after ``limit`` seconds."""
    words = ["--step", step, "--out", str(out), *(["--dry-run"] if dry_run else [])]
    # Not before Triton is imported: kernels choose interpreter or compiler when they are defined.
    environment = os.environ | ({"TRITON_INTERPRET": "1"} if dry_run else {})
    with (out / "lease.log").open("a") as log:
        child = subprocess.Popen(
            [sys.executable, "-u", "-m", PROGRAM, *words],
            stdin=subprocess.PIPE, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            return child.wait(max(limit, 0))
        except subprocess.TimeoutExpired:
            return None
        finally:
            if child.poll() is None:
                processes.send(child)
                child.wait()


def child(out: Path, step: str, dry_run: bool) -> int:
    """The process of a step: it ends with the one that began it, and leaves the traceback of what ends it."""
    processes.watch()
    try:
        if dry_run:
            from benchmarks import gpu_small

            gpu_small.apply(out, setattr)
        importlib.import_module(STEPS[step][1]).run(Record(out, step, "cpu" if dry_run else "cuda"))
    except Exception:  # noqa: BLE001  the other steps run all the same
        Lease(out).update(step, traceback=traceback.format_exc())
        traceback.print_exc()
        return 1
    return 0


def summary(entry: dict[str, Any]) -> str:
    """A step in one line."""
    counts = f"{entry.get('rows', 0)} measured, {len(entry.get('failures', ()))} failed"
    left = f"{len(entry['left'])} left" if "left" in entry else "all left"
    return f"{entry['state']} after {entry['seconds']} of {entry['limit_s']} s: {counts}, {left}"


if __name__ == "__main__":
    sys.exit(main())
