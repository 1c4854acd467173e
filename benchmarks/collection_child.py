"""Parameters of every model YAML of a folder, each built in a fork. Started by ``benchmarks.collection``.

It runs twice: with the collection's own package ``ultralytics`` first on the path, and with stock Ultralytics, yolomix
and the collection's classes. So nothing of either is imported before :func:`main` is told which.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import logging
import os
import signal
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

Build = Callable[[Path], Any]  # a model YAML -> an nn.Module

# Heads whose models have a class of their own in `ultralytics.nn.tasks`.
MODELS = {
    "RTDETRDecoder": "RTDETRDetectionModel",
    "WorldDetect": "WorldModel",
    "YOLOEDetect": "YOLOEModel",
    "YOLOESegment": "YOLOESegModel",
}
OF_TASK = {
    "detect": "DetectionModel",
    "segment": "SegmentationModel",
    "classify": "ClassificationModel",
    "pose": "PoseModel",
    "obb": "OBBModel",
}


def main() -> None:
    """Append a line of JSON per file to the output: ``file``, and ``parameters`` or ``error``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("code", choices=["own", "here"])
    parser.add_argument("package", type=Path, help="the folder `ultralytics` of the collection")
    parser.add_argument("out", type=Path)
    parser.add_argument("--limit", type=int, default=120, help="seconds for one file")
    parser.add_argument("--only", nargs="*", default=[], help="files, as the output names them")
    given = parser.parse_args()
    warnings.filterwarnings("ignore")
    build = prepared(given.code, given.package)
    root = given.package / "cfg" / "models"
    done = set()
    if given.out.exists():
        done = {json.loads(line)["file"] for line in given.out.read_text("utf-8").splitlines()}
    # In the order of a hash, so that a part of the run is a fair sample.
    files = sorted(root.rglob("*.yaml"), key=lambda file: hashlib.md5(file.name.encode()).hexdigest())
    for file in files:
        name = file.relative_to(root).as_posix()
        if name in done or (given.only and name not in given.only):
            continue
        started = time.perf_counter()
        row = {"file": name, **forked(build, file, given.limit)}
        row["seconds"] = round(time.perf_counter() - started, 1)
        with given.out.open("a", encoding="utf-8") as out:
            out.write(json.dumps(row) + "\n")


def prepared(code: str, package: Path) -> Build:
    """What builds a model of a file by the code that was asked for."""
    import torch

    torch.set_num_threads(1)
    for name in dir(torch.nn.init):
        if name.endswith("_") and not name.startswith("_"):
            # What is counted does not depend on initial values, which take most of the time.
            setattr(torch.nn.init, name, lambda tensor, *args, **kwargs: tensor)
    if code == "own":
        from ultralytics.nn import tasks
    else:
        from benchmarks.collection_classes import enter

        enter(package)
        from ultralytics.nn import tasks
    logging.getLogger("ultralytics").setLevel(logging.ERROR)

    def _build(file: Path) -> Any:
        d = tasks.yaml_model_load(str(file))
        last = d["head"][-1][2]
        # The collection's code finds no task in the names of some of its heads; people give it, or its file name does.
        task = tasks.guess_model_task(d) or tasks.guess_model_task(file)
        cls = getattr(tasks, MODELS.get(last) or OF_TASK[task])
        return cls(d, verbose=False)

    _build(Path("yolov8n.yaml"))  # loads once what every child would load for itself
    with torch.device("meta"):
        torch.nn.Conv2d(3, 8, 3)(torch.zeros(1, 3, 8, 8)).sigmoid()
    return _build


def forked(build: Build, file: Path, limit: int) -> dict[str, Any]:
    """Build one file in a child process; the parameters, or why there are none."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(limit)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        try:
            answer = {"parameters": sum(p.numel() for p in build(file).parameters())}
        except BaseException as error:  # noqa: BLE001, a child has nobody above it
            answer = {"error": f"{type(error).__name__}: {error}"[:400]}
        os.write(writing, json.dumps(answer).encode())
        os._exit(0)
    os.close(writing)
    with contextlib.closing(os.fdopen(reading, "rb")) as pipe:
        content = pipe.read()
    _, status = os.waitpid(child, 0)
    if content:
        found: dict[str, Any] = json.loads(content)
        return found
    return {"error": f"ended by signal {status & 127} (SIGALRM is the limit of {limit} s)"}


if __name__ == "__main__":
    main()
