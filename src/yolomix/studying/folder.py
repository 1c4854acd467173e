"""The folder of a study: who works in it, which plan it holds, and its runs as they stand."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from yolomix import files
from yolomix.studying.contents import FILE as CONTENTS
from yolomix.studying.plan import RESOLVED, Plan, PlanError
from yolomix.studying.record import RECORD, Record, RunSpec

ROOT = Path("runs/study")
PLAN, SPECS, LOCK, STOPPED = "study.yaml", "specs.json", ".lock", "stopped.txt"
REPORTS = ("report.html", "study.json")  # of which one shows that somebody looked at the results
REPORTED = "reported"  # in the part of the plan that we wrote: see reported()
# Of a run at work per parameter: initial weights 4; state 20 (weights, their average, gradients, two moments of Adam);
# last.pt and best.pt 6 each, in half precision.
BYTES = 36
# What another plan of the same study may change; arms and seeds may also be added.
FREE = ("name", "budget", "earlier", "arms", "seeds", "looks")


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Work in a folder alone; it is made. The lock goes with the process, however that ends.

    Raises:
        RuntimeError: another process works there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / LOCK).open("a+b") as file:
        try:
            _lock(file)
        except OSError as error:
            file.seek(0)
            who = file.read().decode("ascii", "replace") or "unknown"
            raise RuntimeError(
                f"{folder} is worked in by another process (id {who}); wait for it, or give this study another name"
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()).encode())
        file.flush()
        yield


def _lock(file: BinaryIO) -> None:
    if sys.platform == "win32":
        import msvcrt

        file.seek(1 << 20)  # beyond the text, which others have to be able to read
        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_study(folder: str | Path) -> bool:
    """Whether a folder holds a study.

    >>> is_study(".")
    False
    """
    return (Path(folder) / PLAN).is_file()


def claim(plan: Plan, folder: Path, resolved: Mapping[str, Any], specs: Sequence[RunSpec]) -> None:
    """Write the plan and its runs into the folder.

    Raises:
        PlanError: it holds another study, or something else.
    """
    check(plan, folder)
    text = yaml.safe_dump(plan.to_dict() | {RESOLVED: dict(resolved)}, sort_keys=False, allow_unicode=True, width=120)
    files.write_text(folder / SPECS, json.dumps([asdict(spec) for spec in specs], indent=1) + "\n")
    files.write_text(folder / PLAN, f"# A study of yolomix: the plan as given, and what it came out as.\n{text}")


def check(plan: Plan, folder: Path) -> None:
    """Raise PlanError unless a folder is free for a plan, or holds this study, perhaps with fewer arms or seeds."""
    if not folder.exists():
        return
    if not is_study(folder):
        # What a process that was killed before it wrote the plan leaves is ours.
        names = {path.name for path in folder.iterdir() if files.ASIDE not in path.name}
        others = sorted(names - {CONTENTS, LOCK, SPECS, "inits"})
        if others:
            raise plan.error("name", f"{folder} holds no study, but {', '.join(others[:3])}. Give another name")
        return
    kept = Plan.read(folder / PLAN)
    before, now = kept.to_dict(), plan.to_dict()
    for key, value in before.items():
        if key not in FREE and value != now[key]:
            raise plan.error(key, f"{key} is {now[key]!r}, and the study in {folder} has {value!r}. {_ADVICE}")
    for name, model in before["arms"].items():
        if now["arms"].get(name) != model:
            got = repr(now["arms"][name]) if name in now["arms"] else "no such arm"
            raise plan.error("arms", f"arm {name} needs to be {model!r} as in {folder}, got {got}. {_ADVICE}")
    if missing := set(kept.seeds) - set(plan.seeds):
        raise plan.error("seeds", f"the study in {folder} also has the seeds {sorted(missing)}. {_ADVICE}")
    if kept.looks and (kept.looks, kept.seeds) != (plan.looks, plan.seeds):
        raise plan.error("looks", f"looks are planned once, and the study in {folder} has {[*kept.looks]}. {_ADVICE}")


def reported(plan: Plan, folder: Path) -> list[int]:
    """After how many seeds a report had been written when further seeds were added without planned looks.

    What the folder's plan says of other days stays in it; a report that lies there now counts if its seeds are fewer.
    """
    if not is_study(folder):
        return []
    kept, resolved, _ = opened(folder)
    found = [*map(int, resolved.get(REPORTED, ()))]
    seen = any((folder / name).exists() for name in REPORTS)
    if seen and kept.looks is None and len(kept.seeds) < len(plan.seeds):
        found.append(len(kept.seeds))
    return found


def added(counts: Sequence[int]) -> str:
    """What a reader has to know of them."""
    after = " and ".join(map(str, counts))
    return (
        f"seeds were added after a report of {after} seeds, and no looks had been planned: whoever adds seeds until "
        "p < 0.05 finds it too often, so intervals here are too narrow and p is too small. Plan it before the first "
        "run, as in looks: [5, 10]"
    )


_ADVICE = "Another study needs another name: name: ..."


def opened(folder: Path) -> tuple[Plan, dict[str, Any], list[RunSpec]]:
    """The plan in a folder, what it came out as, and its runs.

    Raises:
        PlanError: it holds no study, or one that is not whole.
    """
    if not is_study(folder):
        raise PlanError(f"{folder} needs to be a plan (YAML) or the folder of a study, with its {PLAN}; it has none")
    plan = Plan.read(folder / PLAN)
    resolved = yaml.safe_load((folder / PLAN).read_text("utf-8")).get(RESOLVED) or {}
    try:
        specs = [RunSpec.from_dict(one, str(folder / SPECS)) for one in json.loads((folder / SPECS).read_text("utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise PlanError(f"{folder / SPECS} cannot be read: {error}. Start the study again with its plan") from error
    return plan, resolved, specs


def records(folder: Path, specs: Sequence[RunSpec]) -> dict[str, Record]:
    """The records that are there, by the key of their run.

    Raises:
        ValueError: a record is not whole.
    """
    found = {}
    for spec in specs:
        file = folder / spec.folder / RECORD
        if file.is_file():
            found[spec.key] = Record.load(file)
    return found


def check_room(folder: Path, specs: Sequence[RunSpec], at_once: int) -> None:
    """Raise unless the disk has room for the states and weights of the runs that are at work together.

    Raises:
        RuntimeError: it has less; the text says how much is needed.
    """
    needed = at_once * BYTES * max(int(spec.facts["parameters"]) for spec in specs)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise RuntimeError(
            f"{at_once} runs at once need about {needed / 1e6:.0f} MB in {folder}, and its disk has "
            f"{free / 1e6:.0f} MB free. Make room, or work in a folder on another disk"
        )


def stopped(folder: Path, spec: RunSpec) -> str:
    """Why a run without a record stopped; empty where it never ran, or where nobody knows."""
    with contextlib.suppress(OSError):
        return (folder / spec.folder / STOPPED).read_text("utf-8").strip()
    return ""
