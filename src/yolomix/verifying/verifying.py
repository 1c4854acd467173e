"""``yolomix.verify``: run an exported file in its own runtime on real images and compare it with PyTorch."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from yolomix import files
from yolomix.host import exported, predicting, tools
from yolomix.host.exported import Contents
from yolomix.host.yolo import YOLO
from yolomix.kit import folder as kits
from yolomix.profiling.values import BUSY
from yolomix.progress import Progress
from yolomix.records import Conditions
from yolomix.verifying import accuracy, checks, images, kit, resident, sides
from yolomix.verifying.runtime import MissingError, RefusedError, Runtime
from yolomix.verifying.sides import Sides
from yolomix.verifying.values import Check, Cost, Verification

NOTHING = (
    "neither side finds anything in these images, so nothing was compared; give images of what the model was trained "
    "on: data=your.yaml"
)


def verify(
    model: Any,
    file: str | Path,
    data: str | None = None,
    imgsz: int | Sequence[int] | None = None,
    progress: Progress = lambda done, total, what: None,
) -> Verification:
    """Run an exported file in its own runtime, in a process of its own, and compare it with PyTorch.

    What is compared, and what may differ by how much: ``docs/export.md``. The result also lies beside the file, as
    ``FILE.verification.json`` and ``.md``, if the file opens.

    Args:
        model: what was exported: a checkpoint, a model YAML, a packaged name or a ``YOLO``.
        file: the exported file or folder, or the kit of one, whose settings and script are checked, too.
        data: a dataset YAML, of which sixteen images are compared and, by mAP, all; None takes the packaged sample.
        imgsz: the height and width that the file has to have, in pixels; None takes what it says.
        progress: called with steps done, steps in all, and what is being done.

    Returns: what was found; where the file differs, nothing is raised.

    Raises:
        FileNotFoundError: there is no such file or model.
        ValueError: it is no file that Ultralytics exported.
        TypeError: ``model`` is no model.
    """
    progress(0, 1, "reading the model")
    started = time.perf_counter()
    yolo = YOLO(str(model)) if isinstance(model, str | Path) else model
    load = time.perf_counter() - started if yolo is not model else None
    if not isinstance(getattr(yolo, "model", None), torch.nn.Module):
        raise TypeError(f"verify compares with a model in PyTorch, a name, a checkpoint or a YOLO; got {model!r}")
    path, name = Path(file), _name(yolo)
    if not path.exists():
        raise FileNotFoundError(f"no exported file {file}; `yolomix export model={name} format=onnx` writes one")
    nothing = Verification(path, name, Conditions.here())
    progress(0, 1, f"opening {path.name}")
    try:
        # An engine of TensorRT runs on a GPU alone.
        place = "cuda:0" if path.suffix == ".engine" else "cpu"
        runtime = Runtime(kits.exported(path), torch.get_num_threads(), place)
    except MissingError as missing:
        return replace(
            nothing, refusal=f"{tools.missing(missing.name)}, then `yolomix verify model={name} file={file}`"
        )
    except RefusedError as error:
        return replace(nothing, checks=(Check("opens", False, str(error), "a file that its runtime opens"),))
    with runtime, tempfile.TemporaryDirectory(prefix="yolomix-verify-") as folder:
        opened = runtime.opened
        try:
            contents = Contents.of(opened["metadata"], dynamic=opened["dynamic"], half=opened["half"])
        except ValueError as error:
            raise ValueError(f"{file} is no exported model: {error}") from error
        found = _compared(yolo, contents, runtime, nothing, Path(folder), data, imgsz, progress)
    costs = found.costs and (found.costs[0], replace(found.costs[1], load=load))
    return _written(replace(found, costs=costs))


def _compared(
    yolo: Any,
    contents: Contents,
    runtime: Runtime,
    nothing: Verification,
    folder: Path,
    data: str | None,
    imgsz: Any,
    progress: Progress,
) -> Verification:
    chosen, what = images.chosen(data, contents.task, folder)
    wanted = None if imgsz is None else exported.rounded(imgsz, contents.stride)
    says = checks.says(contents, yolo.model, wanted)
    begun = replace(nothing, precision=contents.precision, imgsz=contents.imgsz, images=what)
    batches = images.batched([*predicting.shown(yolo, chosen, contents)], contents.batch)
    try:
        both = sides.compared(yolo, runtime.file, contents, runtime, batches, progress)
    except RefusedError as error:
        refused = Check("runs", False, str(error), f"images of {checks.size(contents.imgsz)}, as it says")
        return replace(begun, checks=(says, refused))
    progress(0, 1, "comparing with float64")
    raw = checks.raw(both)
    made = [says, checks.outputs(both), raw.check, checks.detections(both, raw.tolerance)]
    if data is not None:
        progress(0, 1, f"evaluating on {data}")
        made.append(accuracy.mean_ap(both, data, folder))
    refusal = NOTHING if {check.passed for check in made[2:]} == {None} else ""
    if contents.dynamic:
        made.append(checks.another_size(both))
    if kits.is_kit(nothing.file):
        progress(0, 1, f"running {kits.SCRIPT}")
        made += kit.checks(kit.Trial(nothing.file, both, chosen, folder))
    located = ""
    if raw.check.passed is False:
        progress(0, 1, "looking for the layer that differs")
        located = both.located(raw.worst)
    costs = _costs(both)
    busy = any(cost.latency and cost.latency.is_busy for cost in costs)
    remarks = (BUSY,) if busy else ()
    return replace(begun, checks=tuple(made), costs=costs, located=located, refusal=refusal, remarks=remarks)


def _costs(both: Sides) -> tuple[Cost, Cost]:
    """Of the file, and of PyTorch."""
    runtime, checkpoint = both.runtime, Path(getattr(both.yolo, "ckpt_path", None) or "")
    size = exported.megabytes(checkpoint) if checkpoint.is_file() else None
    theirs = Cost(
        runtime.opened["runtime"],
        sides.latency(both.theirs),
        runtime.opened["seconds"],
        runtime.memory or None,
        exported.megabytes(both.file),
    )
    memory = both.reference.weights + both.reference.memory if resident.now() else None
    return theirs, Cost(f"PyTorch {torch.__version__}", sides.latency(both.mine), None, memory, size)


def _written(found: Verification) -> Verification:
    """The same, which also lies beside the file, and is in the README of a kit."""
    files.write_text(f"{found.file}.verification.json", json.dumps(found.to_dict(), indent=1) + "\n")
    files.write_text(f"{found.file}.verification.md", found.markdown())
    if kits.is_kit(found.file):
        kits.write_readme(found.file, found.markdown("##"))
    return found


def _name(yolo: Any) -> str:
    """What a user would type for a model."""
    rows = getattr(yolo.model, "yaml", None) or {}
    return str(getattr(yolo, "ckpt_path", None) or rows.get("yaml_file") or type(yolo.model).__name__)
