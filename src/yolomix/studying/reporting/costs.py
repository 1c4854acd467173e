"""What the arms of a study cost: operations by formula, milliseconds and memory measured in turns, once per study."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from yolomix import editing, files
from yolomix.host import offline, weights
from yolomix.host.survey import image_size
from yolomix.profiling import measuring
from yolomix.studying.arms import REFUSED
from yolomix.studying.record import RunSpec

FILE = "costs.json"  # in the study's folder
IMAGE_SIZE = 640  # of Ultralytics, where a plan says none


def of_study(folder: str | Path, specs: Sequence[RunSpec]) -> dict[str, Any]:
    """Costs of arms by name, from the study's ``costs.json``; measured if it is not there.

    Nothing is written where no model can be built any more; an arm without costs is None, and its ``refusal`` says why.

    Args:
        folder: of the study.
        specs: of its runs.

    Raises:
        ValueError: the file is not whole.
    """
    file = Path(folder) / FILE
    if not file.is_file():
        found = measured(specs)
        if not any(found["arms"].values()):
            return found
        files.write_text(file, json.dumps(found, indent=1) + "\n")
    try:
        read = json.loads(file.read_text("utf-8"))
        if not isinstance(read["arms"], dict):
            raise TypeError("its arms are no mapping")
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{file} has to hold the costs of the arms as yolomix wrote them, got: {error}; delete it, and they are "
            "measured again"
        ) from error
    return dict(read)


def remarks(found: Mapping[str, Any]) -> Iterator[str]:
    """What has to be known of costs as :func:`of_study` gives them."""
    for arm, why in found.get("refused", {}).items():
        yield f"cost of {arm} not measured: {why}"
    there = [costs for costs in found["arms"].values() if costs]
    if there and "imgsz" in found:
        size = "x".join(map(str, image_size(found["imgsz"])))
        yield f"GFLOPs, ms and MB are of one image of {size} pixels on {found['device']}, in float32"
    for remark in dict.fromkeys(remark for costs in there for remark in costs.get("remarks", ())):
        yield f"ms and MB: {remark}"


def measured(specs: Sequence[RunSpec]) -> dict[str, Any]:
    """Measure every arm, on the GPU if there is one.

    Returns: ``arms`` by name: ``flops`` of an image, ``ms`` (median, p20, p95) and ``memory_mb`` of a batch of one, or
    None; ``refused`` why not, by name; ``imgsz``, ``device`` and ``conditions``. Models with as many classes as the
    first dataset has, at the image size of the training.
    """
    offline.prepare()
    by_name = {spec.arm: spec for spec in reversed(specs)}
    size = specs[0].arguments.get("imgsz", IMAGE_SIZE)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    models, refused = _built(by_name)
    found: dict[str, Any] = {"imgsz": size, "device": device, "conditions": {}, "arms": dict.fromkeys(by_name)}
    if models:
        try:
            first, *others = models.values()
            profile = measuring.profile(first, imgsz=size, device=device, against=others)
        except REFUSED as error:
            return found | {"refused": refused | dict.fromkeys(models, str(error))}
        for model, one in zip(models, profile.models, strict=True):
            costs = _plain(one.to_dict())
            found["conditions"] = one.conditions.to_dict()
            found["arms"] |= {name: costs for name, spec in by_name.items() if _model(spec) == model}
    return found | {
        "refused": {name: refused[_model(spec)] for name, spec in by_name.items() if _model(spec) in refused}
    }


def _model(spec: RunSpec) -> str:
    return str(spec.facts.get("model", spec.model))


def _built(by_name: Mapping[str, RunSpec]) -> tuple[dict[str, Any], dict[str, str]]:
    """Every model once, and why some cannot be built."""
    models: dict[str, Any] = {}
    refused: dict[str, str] = {}
    for spec in by_name.values():
        name = _model(spec)
        if name in models or name in refused:
            continue
        try:
            rows = dict(editing.edit(name).graph.model)
            models[name] = weights.from_rows(rows | {"nc": len(spec.facts.get("classes", ())) or rows.get("nc", 80)})
        except REFUSED as error:
            refused[name] = str(error).partition("\n")[0]
    return models, refused


def _plain(profile: Mapping[str, Any]) -> dict[str, Any]:
    """What a report shows of a profile."""
    time = profile["latency_ms"]
    return {
        "flops": profile["flops"],
        "ms": None if time is None else {name: time[name] for name in ("median", "p20", "p95")},
        "memory_mb": profile["memory_mb"]["inference"],
        "remarks": profile["remarks"],
    }
