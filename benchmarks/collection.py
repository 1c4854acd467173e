"""How many model YAMLs of a public collection build here, with its own classes registered as they are.

    python -m benchmarks.collection COLLECTION --stock FOLDER --packages FOLDER [--out FOLDER]

COLLECTION is a checkout of Chriz122/ultralytics_pro, a copy of Ultralytics 8.3.225 with some 300 files of blocks. Its
own code builds every file in a process of its own, with its package first on the path: what it builds is the whole.
Then stock Ultralytics 8.3.225 (``--stock``, pip install --target) builds the same files with yolomix and the
collection's classes. ``--packages`` holds what the collection imports: einops, timm 0.6.13, PyWavelets and so on.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.collection_classes import HEADS

Rows = dict[str, dict[str, Any]]  # per file `parameters`, or `error`


def main() -> None:
    """Run both codes, then print the figure and the files that differ, by reason."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("collection", type=Path)
    parser.add_argument("--stock", type=Path, required=True, help="folder with ultralytics 8.3.225")
    parser.add_argument("--packages", type=Path, required=True, help="folder with what the collection imports")
    parser.add_argument("--out", type=Path, default=Path("runs/collection"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    here = Path(__file__).parents[1]
    results = []
    for code, paths in (
        ("own", [given.collection, given.packages]),
        ("here", [given.stock, here / "src", here, given.packages]),
    ):
        out = given.out / f"{code}.jsonl"
        child = [Path(__file__).with_name("collection_child.py"), code, given.collection / "ultralytics", out]
        quiet = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_CONFIG_DIR": str(given.out.resolve())}
        path = os.pathsep.join(str(path.resolve()) for path in paths)
        subprocess.run([sys.executable, *map(str, child)], env={**os.environ, **quiet, "PYTHONPATH": path}, check=True)
        results.append(read(out.read_text("utf-8")))
    print(report(*results))
    print(report(*(_plain(rows, given.collection) for rows in results)).replace(" files", " files whose heads stay", 1))


def _plain(rows: Rows, collection: Path) -> Rows:
    """Without the files whose head :mod:`benchmarks.collection_classes` gives one of Ultralytics as a base."""
    models = collection / "ultralytics" / "cfg" / "models"
    pattern = re.compile(rf", ({'|'.join(HEADS)}), ?\[")
    return {file: row for file, row in rows.items() if not pattern.search((models / file).read_text("utf-8", "ignore"))}


def read(text: str) -> Rows:
    """Lines of JSON by file.

    >>> read('{"file": "a.yaml", "parameters": 3}')["a.yaml"]["parameters"]
    3
    """
    rows = [json.loads(line) for line in text.splitlines()]
    return {row["file"]: row for row in rows}


def report(own: Rows, here: Rows) -> str:
    """The figure, and the files that are not equal by reason, the commonest first.

    >>> print(report({"a": {"parameters": 3}, "b": {"error": "no"}}, {"a": {"parameters": 3}}))
    1 of 1 files that the collection's own code builds (of 2) build here with as many parameters: 100.0 %
    """
    built = [file for file in own if "parameters" in own[file] and file in here]
    others = [file for file in built if here[file].get("parameters") != own[file]["parameters"]]
    equal = len(built) - len(others)
    share = 100 * equal / max(len(built), 1)
    lines = [
        f"{equal} of {len(built)} files that the collection's own code builds (of {len(own)}) build here with as many "
        f"parameters: {share:.1f} %"
    ]
    groups = defaultdict(list)
    for file in others:
        groups[reason(own[file], here[file])].append(file)
    for why, files in sorted(groups.items(), key=lambda item: -len(item[1])):
        lines.append(f"{len(files):4}  {why}: {', '.join(sorted(files)[:3])}{', ...' if len(files) > 3 else ''}")
    return "\n".join(lines)


def reason(own: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    """Why a file is not equal, in words that many files share.

    >>> reason({"parameters": 3}, {"error": "RowError: a.yaml, row 3 [-1, 1, X, []]: X takes [], got [1]"})
    'X takes [], got [1]'
    """
    if "parameters" in here:
        return "another number of parameters"
    text = re.sub(r"^\w+: \S+\.yaml(, row \d+ \[.*?\](?=: )|:)?:? ?", "", here["error"])
    return text.split(" A block of your own")[0][:160]


if __name__ == "__main__":
    main()
