"""``docs/reliability.md``: what was tried, what came, and what is argued instead."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tests.faults.campaign import Count
from tests.faults.kind import Kind

ROOT = Path(__file__).parents[2]
COUNTS = Path(__file__).with_name("counts.json")  # of the largest run of every kind
PAGE = ROOT / "docs" / "reliability.md"

BEFORE = """\
# Reliability

Damaged files, full disks, killed trainings, strangers' checkpoints, other packages beside us: each kind of fault is a
file in `tests/faults/`, with cases made from seeds, run one by one in processes of their own and counted. Bad is a
file that is half or lost, a wrong or missing model without a word, text of a file that was run, a question to the
network, an error that is not ours, and whatever takes longer or more memory than its limit.

```bash
make faults MINUTES=10
make faults MINUTES=30 KINDS="yamls names"
```

Every kind gets a share of the time. A failing case is kept under `.faults/` and printed as the command that runs it
again. `make test` tries two cases of every kind, on the newest and on the oldest Ultralytics. With
`YOLOMIX_TEST_FULL=1` it tries a larger fixed part, and checks that it finds every fault that is planted for a kind.

## The largest run of each kind

A full run tries as many as stand under "to try"; "all, cut" is a list that the time did not reach the end of. What was
bad is mended after a run, and its row stays until a run of that size replaces it.

"""

AFTER = """
Where Ultralytics refuses an input itself, with the file and the reason, that counts as refused.

## What is argued, not tested

No kill can show in which order a disk keeps what was written when the power fails. Every file of ours is written
aside, flushed, put in place in one rename, and the folder is flushed after it. A file system that keeps the order of a
flush and a later rename then holds the old file or the new one.

An ordinary checkpoint is a pickle. Unless `ULTRALYTICS_SAFE_LOAD=1` is set, Ultralytics lets PyTorch run what is in it,
and so does yolomix where it opens one. What is never run is a checkpoint of the Mamba-YOLO fork, which is read as data.
"""


def is_worth_keeping(kind: Kind, count: Count) -> bool:
    """Whether a run tried everything that a full one tries, or at least as much as the one whose counts are kept."""
    if count.untried is not None:
        return False
    full = not count.cut and (kind.target is None or count.tried >= kind.target)
    return full or count.tried >= _kept().get(kind.name, {"tried": 0})["tried"]


def keep(kind: Kind, count: Count, seed: int) -> None:
    """Keep the counts of one run and write the page anew."""
    kept = _kept()
    kept[kind.name] = {
        "tries": kind.tries,
        "figure": kind.figure,
        "tried": count.tried,
        "target": kind.target or ("all" if not count.cut else "all, cut"),
        "bad": len(count.bad),
        "ends": dict(count.words.most_common()),
        "minutes": round(count.seconds / 60, 1),
        "seed": seed,
        **_conditions(),
    }
    COUNTS.write_text(json.dumps(dict(sorted(kept.items())), indent=1) + "\n", "utf-8")
    PAGE.write_text(page(kept), "utf-8")


def page(kept: dict[str, dict[str, Any]]) -> str:
    """The page about these counts."""
    lines = ["| kind | tried | to try | bad | what is tried | figure to reach |", "|---|---:|---:|---:|---|---|"]
    for name, row in sorted(kept.items()):
        lines.append(f"| {name} | {row['tried']} | {row['target']} | {row['bad']} | {row['tries']} | {row['figure']} |")
    lines += ["", "| kind | how the cases ended | minutes | date | versions |", "|---|---|---:|---|---|"]
    for name, row in sorted(kept.items()):
        ends = ", ".join(f"{n} {word}" for word, n in row["ends"].items())
        lines.append(f"| {name} | {ends} | {row['minutes']} | {row['date']} | {row['versions']} |")
    return BEFORE + "\n".join(lines) + "\n" + AFTER


def _kept() -> dict[str, dict[str, Any]]:
    return json.loads(COUNTS.read_text("utf-8")) if COUNTS.is_file() else {}


def _conditions() -> dict[str, str]:
    import ultralytics

    import yolomix
    from yolomix import records

    processor = records.Processor.here()
    versions = f"yolomix {yolomix.__version__}, Ultralytics {ultralytics.__version__}, {processor}"
    return {"date": datetime.now(UTC).date().isoformat(), "versions": versions}
