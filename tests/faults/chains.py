"""Chains of grafts: into every kind of model, one after the other, and out again."""

from __future__ import annotations

import os
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

from tests.faults.kind import Bad, Case, Kind, Limits

BASES = (
    "yolo11n.yaml", "yolo11n-seg.yaml", "yolo11n-pose.yaml", "yolo11n-obb.yaml", "yolo11n-cls.yaml", "yolov8n.yaml",
    "yolov8n-seg.yaml", "yolov8n-cls.yaml", "yolov5n.yaml", "yolov10n.yaml", "yolov9t.yaml", "yolov6n.yaml",
    "yolov3-tiny.yaml",
    "yolo11n-mlla.yaml", "mamba-yolo-t.yaml", "yolo11n-halo.yaml",
)  # fmt: skip
NARROW = [0.33, 0.25, 512]  # depth, width and most channels of every base: what is tested is where blocks go
ARGUMENTS: dict[str, list[list[Any]]] = {"HaloAttention": [[2, 1], [4, 1], [{"block": 2, "halo": 1}]]}
QUICK = ("HaloAttention", "MLLABlock", "MLLAttention", "C2PSAMLLA")
SCANS = ("VSSBlock", "XSSBlock", "VMambaBlock", "MambaLayer", "ASSG", "ODSSBlock")  # seconds each, wherever they go
POINTS = ("p3", "p4", "p5", "backbone", "neck", "head-inputs", "*", "C2f", "C3*", "Conv", "SPPF", "C2PSA")
SIZES = ((64, 64), (32, 96), (64, 32))


def draw(random: Random) -> Case:
    """A base, one to four grafts, and how the last of them are written."""
    grafts = []
    for _ in range(random.choice((1, 2, 2, 3, 4))):
        block = random.choice(SCANS if random.random() < 0.08 else QUICK)
        at: Any = random.randrange(12)
        if block in QUICK and random.random() < 0.5:
            at = random.choice(POINTS)
        elif block in QUICK and random.random() < 0.2:
            at = sorted({random.randrange(12) for _ in range(3)})
        grafts.append({
            "block": block, "at": at, "mode": random.choice(("after", "after", "wrap")),
            "n": random.choice((1, 1, 1, 2)),
            "args": random.choice(ARGUMENTS.get(block, [[]])),
        })  # fmt: skip
    base = random.choices(BASES, [1 if "mamba" in name else 5 for name in BASES])[0]
    return {"base": base, "grafts": grafts, "size": random.choice(SIZES), "seed": random.randrange(99)}


def check(case: Case) -> str:
    """Graft, load, compare outputs and tensors; write, reopen; take the new rows out again."""
    os.environ["YOLOMIX_BACKEND"] = "eager"
    import torch

    import yolomix
    from yolomix.host import weights

    torch.manual_seed(case["seed"])
    base = weights.write(_lively(_model(case["base"])), "base.pt")
    change = yolomix.edit(base)
    rows = deepcopy(change.graph.rows)
    done = 0
    for graft in case["grafts"]:
        try:
            change = yolomix.graft(change, **graft)
            done += 1
        except (ValueError, KeyError):  # does not fit there, in words: see the kind of names
            continue
    if not done:
        return "fits nowhere"
    stock = yolomix.YOLO(base).model
    made = change.apply("grafted.pt")
    model = yolomix.YOLO(made.file).model
    want, got = _outputs(stock, case["size"]), _outputs(model, case["size"])
    if len(want) != len(got) or not all(torch.equal(a, b) for a, b in zip(want, got, strict=True)):
        raise Bad("the outputs differ")
    report = made.report
    if report is None or report.missing or len(report.copied) != len(stock.state_dict()):
        raise Bad(f"not every tensor was kept:\n{report and report.explain_missing()}")
    _taken_out(made.file, change.graph.origin, rows)
    if done == len(case["grafts"]) and case["seed"] % 3 == 0:
        _told_again(case, change)
    return "equal"


def _model(name: str) -> Any:
    """A narrow model of that name."""
    from ultralytics.nn import tasks

    from yolomix.host import names

    found = {**names.described(name), "nc": 3}
    found["scales"], found["scale"] = {"n": NARROW}, "n"
    if "mamba" in name:
        found["scales"] = {"n": [0.33, 0.25, 512]}
    task = tasks.guess_model_task(found)
    kinds = {
        "detect": "Detection",
        "segment": "Segmentation",
        "pose": "Pose",
        "obb": "OBB",
        "classify": "Classification",
    }
    model = getattr(tasks, f"{kinds[task]}Model")(found, verbose=False)
    model.task = task
    return model


def _lively(model: Any) -> Any:
    """Norms that are not those of a new model, so that a moved one shows."""
    import torch

    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_mean.uniform_(-0.1, 0.1)
            module.running_var.uniform_(0.5, 1.5)
    return model


def _outputs(model: Any, size: list[int]) -> list[Any]:
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        return list(_flat(model.eval()(torch.rand(1, 3, *size, generator=generator))))


def _flat(y: Any) -> Any:
    import torch

    if isinstance(y, torch.Tensor):
        yield y
        return
    for inner in y.values() if isinstance(y, dict) else y if isinstance(y, list | tuple) else ():
        yield from _flat(inner)


def _taken_out(file: Path, origin: tuple[int | None, ...], rows: list[Any]) -> None:
    """Removing what was put into rows of its own leaves the rows of the base, if nothing was wrapped."""
    import yolomix

    new = [index for index, source in enumerate(origin) if source is None]
    back = yolomix.edit(file).remove(new).graph.rows if new else yolomix.edit(file).graph.rows
    unwrapped = [[row[0], *row[3][0]] if row[2] == "Chain" else row for row in back]
    if _absolute(unwrapped) != _absolute(rows):
        raise Bad(f"taken out again the rows are {unwrapped}, and were {rows}")


def _absolute(rows: list[Any]) -> list[Any]:
    """Rows that read layers by index, whichever way they were written."""
    found = []
    for i, row in enumerate(rows):
        reads = row[0] if isinstance(row[0], list) else [row[0]]
        found.append([[i + j if j < 0 and i + j >= 0 else j for j in reads], *row[1:]])
    return found


def _told_again(case: Case, change: Any) -> None:
    """The same chain, written as a name and read again."""
    import yolomix
    from yolomix.surgery import grammar, writing

    parts = []
    for graft in case["grafts"]:
        at = graft["at"] if isinstance(graft["at"], list) else [graft["at"]]
        rest = {name: graft[name] for name in ("n", "mode")}
        parts.append(grammar.Part(graft["block"], tuple(map(str, at)), tuple(graft["args"]), **rest))
    text = writing.written(parts)
    if yolomix.edit(f"base.pt{text}").graph.rows != change.graph.rows:
        raise Bad(f"the name {text} gives other rows than the calls")


def _open_gates() -> None:
    import torch

    from yolomix.nn import gate

    native = gate.ZeroGate.__init__

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        native(self, *args, **kwargs)
        torch.nn.init.constant_(self.gate, 1e-6)

    gate.ZeroGate.__init__ = init  # type: ignore[method-assign]


def _lose_a_tensor() -> None:
    from yolomix import transferring

    native = transferring.load_aligned

    def load(source: Any, target: Any, *rest: Any) -> bool:
        moved = native(source, target, *rest)
        target.model[0].conv.weight.data.mul_(1.001)
        return moved

    transferring.load_aligned = load


def _remove_one_less() -> None:
    from yolomix.editing import ModelEdit

    native = ModelEdit.remove
    ModelEdit.remove = lambda self, at: native(self, at[1:]) if len(at) > 1 else self  # type: ignore[method-assign,assignment,arg-type,index]


KIND = Kind(
    name="chains",
    tries="random chains of grafts in 16 base models of five tasks, stock and ours",
    figure="outputs equal to the last bit, every tensor kept, taken out again row for row, names round trip",
    check=check,
    target=1000,
    draw=draw,
    first=(
        {
            "base": "yolov8n-cls.yaml",
            "grafts": [{"block": "MLLABlock", "at": "p4", "mode": "after", "n": 1, "args": []}],
            "size": [64, 64],
            "seed": 0,
        },
    ),
    limits=Limits(seconds=60.0, wall=240.0),
    share=3.0,
    small=3,
    plants={"open gates": _open_gates, "a tensor changed": _lose_a_tensor, "removed too little": _remove_one_less},
)
