"""``python -m tests.faults``: every kind of fault for a given time, its counts, and the page about them."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from pathlib import Path

# Before anything is imported that starts threads: a process with threads must not fork.
os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
os.environ.setdefault("YOLO_OFFLINE", "true")
os.environ.setdefault("YOLO_AUTOINSTALL", "false")

from tests.faults import campaign, forking, kinds, report
from tests.faults.campaign import Count, Run
from tests.faults.kind import Kind


def main(argv: list[str]) -> int:
    """Run what was asked for; 0 if nothing was bad."""
    args = _arguments(argv)
    if args.case:
        return _again(args.case)
    counts = []
    names = args.kinds or kinds.names()
    start, end = time.monotonic(), time.monotonic() + 60 * args.minutes
    for name in names:
        kind = kinds.load(name)
        kinds.import_bare() if kind.bare else kinds.import_all()
        if args.plant and args.plant not in kind.plants:
            continue
        until = _until(kind, [kinds.load(later) for later in names[names.index(name) :]], end)
        plant = kind.plants[args.plant] if args.plant else None
        run = Run(args.seed, args.most or kind.target, until, args.jobs, kind.draw is not None, plant)
        counts.append(campaign.count(kind, run))
    if args.report:
        report.write(Path(args.report), counts, time.monotonic() - start)
    for count in counts:
        print(count, flush=True)
    return 1 if _failed(counts) else 0


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[[], *kinds.names()], help="kinds; all if none is named")
    parser.add_argument("--minutes", type=float, default=10, help="time for all of them")
    parser.add_argument("--most", type=int, help="cases of each kind; by default what a full run tries")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--plant", help="break yolomix in this way first; it has to be found")
    parser.add_argument("--report", help="write the counts into this page")
    parser.add_argument("--case", help="run one failing case again, from its file")
    return parser.parse_args(argv)


def _until(kind: Kind, left: list[Kind], end: float) -> float:
    """When this kind has to stop, so that those after it get their share of the time."""
    now = time.monotonic()
    return now + (end - now) * kind.share / sum(other.share for other in left)


def _again(file: str) -> int:
    kept = json.loads(Path(file).read_text())
    kind = kinds.load(kept["kind"])
    kinds.import_bare() if kind.bare else kinds.import_all()
    outcome = forking.attempt(kind, kept["case"])
    print(json.dumps(kept["case"], indent=1), outcome.word, outcome.text, sep="\n")
    return 1 if outcome.bad else 0


def _failed(counts: list[Count]) -> bool:
    return any(count.bad for count in counts)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
