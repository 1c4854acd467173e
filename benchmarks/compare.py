"""Two tables of measurements side by side: ``python -m benchmarks.compare before.csv after.csv``."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from benchmarks.table import KEY, read

NOISE = 1.1  # ratios nearer to one say nothing


def compared(before: Path, after: Path) -> list[str]:
    """A line per measurement in both files: the ratio of medians, and whether percentiles overlap; then the rest."""
    old, new = read(before), read(after)
    lines = []
    for key in sorted(old.keys() & new.keys()):
        first, second = old[key], new[key]
        if first["ms_p50"] and second["ms_p50"]:
            lines.append(f"{'  '.join(key)}: {_line(first, second)}")
    for path, keys in ((before, old.keys() - new.keys()), (after, new.keys() - old.keys())):
        lines += [f"only in {path}: {'  '.join(key)}" for key in sorted(keys)]
    return lines


def _line(first: dict[str, str], second: dict[str, str]) -> str:
    ratio = float(second["ms_p50"]) / float(first["ms_p50"])
    apart = float(second["ms_p20"]) > float(first["ms_p80"]) or float(second["ms_p80"]) < float(first["ms_p20"])
    verdict = "same within noise"
    if apart and not 1 / NOISE < ratio < NOISE:
        verdict = "slower" if ratio > 1 else "faster"
    machines = _machine(first), _machine(second)
    other = "" if machines[0] == machines[1] else f"; on {machines[0]} and {machines[1]}"
    return f"{first['ms_p50']} -> {second['ms_p50']} ms, x{ratio:.2f}, {verdict}{other}"


def _machine(row: dict[str, str]) -> str:
    """The processor, with the vector width where the file says it."""
    vector = row.get("vector")
    return f"{row['machine']}, {vector}" if vector else row["machine"]


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; exit code 1 if anything became slower."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compare", description=__doc__)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path)
    options = parser.parse_args(argv)
    lines = compared(options.before, options.after)
    print(f"by {', '.join(KEY)}:", *lines, sep="\n")
    return int(any(", slower" in line for line in lines))


if __name__ == "__main__":
    sys.exit(main())
