"""``python -m tests.faults``: every kind of fault for a given time, its counts, and the page about them.

The last line of a kind is ``KIND: tried N, bad M``. What fails is kept under ``.faults`` and printed as a command.
"""

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
from tests.faults.campaign import Run
from tests.faults.kind import Kind


def main(argv: list[str]) -> int:
    """Run what was asked for; 0 if nothing was bad and every plant was found."""
    args = _arguments(argv)
    if args.case:
        return _again(args.case)
    if args.plant or args.plants:
        return _plants(args)
    counts = []
    names = args.kinds or kinds.names()
    end = time.monotonic() + 60 * args.minutes
    for name in names:
        kind = _ready(name)
        left = [kinds.load(later) for later in names[names.index(name) :]]
        if args.small:
            run = Run(args.seed, min(kind.small, args.most or kind.small), jobs=args.jobs)
        else:
            run = Run(args.seed, args.most or kind.target, _until(kind, left, end), args.jobs, kind.draw is not None)
        counts.append((kind, campaign.count(kind, run)))
    print()
    for kind, count in counts:
        print(count)
        if not (args.small or args.most) and report.is_worth_keeping(kind, count):
            report.keep(kind, count, args.seed)
    return 1 if any(count.bad for _, count in counts) else 0


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser("python -m tests.faults", description=__doc__)
    parser.add_argument("kinds", nargs="*", choices=[[], *kinds.names()], help="kinds; all if none is named")
    parser.add_argument("--minutes", type=float, default=10, help="time for all of them")
    parser.add_argument("--most", type=int, help="cases of each kind; by default what a full run tries")
    parser.add_argument("--seed", type=int, default=0, help="the first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument("--small", action="store_true", help="the fixed small part, whatever time it takes")
    parser.add_argument("--plants", action="store_true", help="break yolomix in every known way; each has to be found")
    parser.add_argument("--plant", help="break yolomix in this way; it has to be found")
    parser.add_argument("--case", help="run one failing case again, from its file")
    return parser.parse_args(argv)


def _ready(name: str) -> Kind:
    """A kind, with what its parent has to have imported."""
    kind = kinds.load(name)
    if not kind.bare:
        kinds.import_all()
    elif kinds.is_bare():
        kinds.import_bare()
    else:
        raise RuntimeError(f"{name} begins before Ultralytics is imported, and something has imported it")
    return kind


def _until(kind: Kind, left: list[Kind], end: float) -> float:
    """When this kind has to stop, so that those after it get their share of the time."""
    now = time.monotonic()
    return now + (end - now) * kind.share / sum(other.share for other in left)


def _plants(args: argparse.Namespace) -> int:
    """Whether the small part of each kind finds each of its plants."""
    missed = []
    for name in args.kinds or kinds.names():
        kind = _ready(name)
        for plant, breaks in kind.plants.items():
            if kind.refusal() is None and args.plant in (None, plant):
                run = Run(args.seed, args.most or kind.small, jobs=args.jobs, plant=breaks)
                count = campaign.count(kind, run, say=lambda line: None)
                print(f"{name}: {plant} {'found' if count.bad else 'NOT FOUND'}, {count.tried} cases", flush=True)
                missed += [plant] * (not count.bad)
    return 1 if missed else 0


def _again(file: str) -> int:
    kept = json.loads(Path(file).read_text("utf-8"))
    outcome = forking.attempt(_ready(kept["kind"]), kept["case"])
    print(json.dumps(kept["case"], indent=1), outcome.word, outcome.text, sep="\n")
    return 1 if outcome.bad else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
