"""Model YAMLs that are damaged, half merged, or by somebody who guesses."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import yaml

from tests.faults import mutate
from tests.faults.kind import Bad, Case, Kind
from tests.tiny import TINY


def draw(random: Random) -> Case:
    """A damaged model YAML, as Latin-1 text of its bytes."""
    source = _source(random)
    if random.random() < 0.4:
        raw = mutate.text(random, source)
    else:
        raw = _rewritten(random, yaml.safe_load(source)).encode("utf-8", "surrogatepass")
    return {"file": random.choice(("model.yaml", "yolo0n-odd.yaml", "yolo99x.yml")), "text": raw.decode("latin-1")}


def check(case: Case) -> str:
    """Build the model and compute with it."""
    import torch

    import yolomix

    file = Path(case["file"])
    file.write_bytes(case["text"].encode("latin-1"))
    model = yolomix.YOLO(str(file), verbose=False)
    nothing_ran()
    width = model.model.yaml.get("channels", 3)
    with torch.inference_mode():
        model.model.eval()(torch.rand(1, width, 64, 64))
    return "built"


def nothing_ran() -> None:
    """Raise if what a planted line would write is there."""
    if list(Path().rglob("it-ran*")):
        raise Bad("text of the file was run: it-ran is there")


def _rewritten(random: Random, model: Any) -> str:
    for _ in range(random.randint(1, 3)):
        part = random.choice(("backbone", "head", "anything"))
        if isinstance(model, dict) and part in model:
            model = {**model, part: mutate.nested(random, model[part])}
        else:
            model = mutate.nested(random, model)
    return str(yaml.safe_dump(model, sort_keys=False, allow_unicode=True))


def _source(random: Random) -> str:
    """The text of a model that builds in a moment."""
    import ultralytics

    from yolomix import models

    stock = Path(ultralytics.__file__).parent / "cfg" / "models"
    ours = sorted(Path(models.__file__).parent.glob("*.yaml"))
    theirs = [
        stock / "11/yolo11.yaml",
        stock / "v8/yolov8-seg.yaml",
        stock / "v5/yolov5.yaml",
        stock / "v10/yolov10n.yaml",
    ]
    if random.random() < 0.5:
        return TINY
    return random.choice([*ours, *theirs]).read_text("utf-8")


KIND = Kind(
    name="yamls",
    tries="model YAMLs with damaged text, rows, arguments, scales and classes",
    figure="only our errors, at most 20 s and 4 GiB each, nothing run",
    check=check,
    target=2000,
    draw=draw,
    share=2.0,
)
