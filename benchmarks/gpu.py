"""One command for whoever has a GPU: ``python -m benchmarks.gpu --out results.csv``, under eight minutes on one GPU.

Parity with float64 first, on every stage: a wrong answer is never timed. Then the operators at Mamba-YOLO-T's stages S1
to S4, batch 32, 8 and 1, float32 and bfloat16, forward and with gradients, against plain PyTorch, the four-copy
pipeline of the official code, and mamba_ssm if it is installed; then whole detectors. The limits of the device
(copying, exponentials) are measured in the same run, and ``share`` is the fraction of the larger one that a row
reaches. What could not be measured is a row with the reason.
"""

from __future__ import annotations

import csv
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from benchmarks import gpu_command, gpu_models, gpu_ops
from benchmarks.gpu_timing import Timing, copy_rate, exponential_rate, measure
from yolomix.records import Conditions

COLUMNS = ["what", "shape", "batch", "dtype", "mode", "who", "ms_p20", "ms_p50", "ms_p80", "reps", "extra_mb", "share",
           "note", "device", "torch", "triton", "ultralytics", "yolomix", "python", "machine", "system",
           "date"]  # fmt: skip
SECONDS = 420  # no measurement starts later
MODELS_AT = 240  # operators stop here, so that detectors get their turn
COMPILED_AT = 360  # no compiled detector starts later: it may take a minute


class Results:
    """Rows of a CSV file, written as they come, each with the conditions of the run."""

    def __init__(self, path: Path):
        self.start = time.monotonic()
        self.wrong = False
        self.file = path.open("w", newline="")
        self.writer = csv.DictWriter(self.file, COLUMNS, restval="", extrasaction="ignore")
        self.writer.writeheader()
        self.conditions = Conditions.here("cuda").row()

    def add(self, row: dict[str, object], timing: Timing | None, share: float | None = None) -> None:
        """Write one row, and show it."""
        if timing is not None:
            row |= {
                "ms_p20": f"{timing.p20:.4f}",
                "ms_p50": f"{timing.p50:.4f}",
                "ms_p80": f"{timing.p80:.4f}",
                "reps": timing.reps,
                "extra_mb": f"{timing.extra_mb:.1f}",
            }
        if share is not None:
            row["share"] = f"{share:.3f}"
        self.writer.writerow(row | self.conditions)
        self.file.flush()
        print(*(str(row.get(name, "")) for name in COLUMNS[:13]), sep="  ", flush=True)

    def time(
        self, row: dict[str, object], make: Callable[[], Callable[[], object]], until: float, floor: float = 0.0
    ) -> None:
        """Measure what ``make`` returns unless it is too late; a failure is a row with its reason.

        until: seconds after the start; floor: milliseconds that the limits of the device leave at best.
        """
        if time.monotonic() - self.start > until:
            self.add(row | {"note": "not measured: out of time"}, None)
            return
        try:
            timing = measure(make())
        except torch.cuda.OutOfMemoryError:
            self.add(row | {"note": "not measured: out of memory"}, None)
        except Exception as error:  # noqa: BLE001  a peer that fails must not cost the other rows
            self.add(row | {"note": reason(error)}, None)
        else:
            self.add(row, timing, floor / timing.p50 if floor else None)
        torch.cuda.empty_cache()


def operators(results: Results, copy: float, exponentials: float) -> None:
    """Rows of the operators; copy, exponentials: rates of the device per millisecond."""
    right: dict[tuple[str, str, torch.dtype], str] = {}
    for problem in gpu_ops.problems():
        for name, function in gpu_ops.contestants(problem.op).items():
            key = problem.op, name, problem.dtype
            if key not in right:
                right[key] = checked(problem.op, name, function, problem.dtype)
                results.wrong |= bool(right[key]) and name.startswith("yolomix")
            for mode in ("forward", "forward+backward"):
                backward = mode != "forward"
                row = {"what": problem.op, "shape": problem.shape, "batch": problem.batch, "who": name,
                       "dtype": str(problem.dtype)[6:], "mode": mode}  # fmt: skip
                if right[key]:
                    results.add(row | {"note": right[key]}, None)
                    continue
                floor = max(problem.bytes(backward) / copy, problem.exponentials(backward) / exponentials)
                results.time(row, partial(gpu_ops.work, function, problem, backward), MODELS_AT, floor)


def checked(op: str, name: str, function: gpu_ops.Function, dtype: torch.dtype) -> str:
    """Nothing, or why nothing of it is timed: a wrong answer, or none."""
    try:
        gpu_ops.check(op, name, function, dtype)
    except Exception as error:  # noqa: BLE001  the others are measured all the same
        return reason(error)
    finally:
        torch.cuda.empty_cache()
    return ""


def reason(error: Exception) -> str:
    """What went wrong, in one line of a table."""
    return f"not available: {type(error).__name__}: {str(error).partition(chr(10))[0][:200]}"


def detectors(results: Results) -> None:
    """Rows of whole models."""
    for case in gpu_models.cases():
        mode = ("training step" if case.train else "inference") + (", compiled" if case.compiled else "")
        row = {"what": case.model, "shape": gpu_models.SIDE, "batch": case.batch, "who": case.pipeline,
               "dtype": "amp" if case.amp else "float32", "mode": mode}  # fmt: skip

        with gpu_models.pipeline(case.pipeline):
            results.time(row, partial(gpu_models.work, case), COMPILED_AT if case.compiled else SECONDS)


def main(argv: list[str] | None = None) -> int:
    """Run everything; exit code 1 if an answer of ours was wrong, 2 without a GPU."""
    out = gpu_command.output("benchmarks.gpu", __doc__, argv)
    if out is None:
        return gpu_command.NO_GPU
    results = Results(out)
    copy, exponentials = copy_rate(), exponential_rate()
    results.add({"what": "limit", "mode": "copy", "note": f"{copy / 1e9:.3f} TB/s read and written"}, None)
    results.add({"what": "limit", "mode": "exp2", "note": f"{exponentials / 1e9:.3f} T/s"}, None)
    operators(results, copy, exponentials)
    detectors(results)
    return int(results.wrong)


if __name__ == "__main__":
    sys.exit(main())
