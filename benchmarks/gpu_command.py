"""What the benchmarks that need a GPU have on their command line: where to write, and a word where there is none."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

NO_GPU = 2  # exit code


def output(program: str, description: str, argv: Sequence[str] | None) -> Path | None:
    """The CSV file that the command line names; None without a GPU, which standard error then says.

    Args:
        program: the module that is run, such as ``benchmarks.gpu``.
        description: its docstring, of which help shows the first line.
        argv: the command line; None for that of the process.
    """
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=description.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    out: Path = parser.parse_args(argv).out
    if torch.cuda.is_available():
        return out
    print(f"{program} needs a GPU that PyTorch can use, and torch.cuda.is_available() is False", file=sys.stderr)
    return None
