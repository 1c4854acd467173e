"""What is checked of an exported file, one function each, from what it says about itself to its mAP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.nn import functional as F

from yolomix.host import predicting
from yolomix.host.exported import Contents
from yolomix.host.predicting import RANKED
from yolomix.verifying import comparing, images
from yolomix.verifying.comparing import CONF, IOU, Agreement, Found
from yolomix.verifying.reference import Routes
from yolomix.verifying.runtime import Arrays, RefusedError
from yolomix.verifying.sides import Sides
from yolomix.verifying.values import Check

RAW = 2  # images whose raw outputs are compared with float64


def says(contents: Contents, model: Any, imgsz: tuple[int, int] | None) -> Check:
    """What the file says about itself, against the model.

    Args:
        contents: what it says.
        model: of Ultralytics.
        imgsz: the height and width that it has to have; None takes any.
    """
    wrong = []
    if contents.task != model.task:
        wrong.append(f"its task is {contents.task}, not {model.task}")
    names = {int(index): str(name) for index, name in dict(model.names).items()}
    if len(contents.names) != len(names):
        wrong.append(f"it has {len(contents.names)} classes, not {len(names)}")
    else:
        wrong += [
            f"its class {i} is {contents.names.get(i)!r}, not {name!r}"
            for i, name in names.items()
            if contents.names.get(i) != name
        ][:1]
    if imgsz is not None and contents.imgsz != imgsz:
        wrong.append(f"its images are {size(contents.imgsz)}, not {size(imgsz)}")
    stride = int(max(model.stride))
    if contents.stride != stride:
        wrong.append(f"its stride is {contents.stride}, not {stride}")
    found = "; ".join(wrong) or f"{contents.task}, {len(names)} classes, {size(contents.imgsz)}, batch {contents.batch}"
    return Check("metadata", not wrong, found, "task, classes, stride and size of the model")


def outputs(sides: Sides) -> Check:
    """Whether all numbers are finite, and as many as those of PyTorch."""
    wrong = ""
    for mine, theirs in zip(sides.mine, sides.theirs, strict=True):
        got, want = ([y.shape for y in one.outputs] for one in (theirs, mine))
        if not sides.contents.nms and got != want:
            wrong = f"shapes {_shapes(got)}"
        elif not all(np.isfinite(y).all() for y in theirs.outputs):
            wrong = "NaN or infinity"
    wanted = "finite" if sides.contents.nms else f"{_shapes([y.shape for y in sides.mine[0].outputs])}, finite"
    found = wrong or _shapes([y.shape for y in sides.theirs[0].outputs])
    return Check("outputs", not wrong, found, wanted)


class Raw(NamedTuple):
    """The check of raw outputs, and what it says about float32 on this model."""

    check: Check
    tolerance: Mapping[str, float]  # between the file and PyTorch, both in float32
    worst: int = 0  # the batch that is furthest off


def raw(sides: Sides) -> Raw:
    """Raw outputs against float64, judged by how far PyTorch's own float32 is from it."""
    name, layout = f"raw outputs of {RAW} images", sides.reference.layout
    first = range(-(-RAW // sides.contents.batch))[: len(sides.batches)]
    if sides.contents.precision != "FP32":
        found = _largest([comparing.differences(sides.theirs[i].outputs, sides.mine[i].outputs, layout) for i in first])
        return Raw(Check(name, None, _listed(found), "judged by detections", {"differences": found}), {})
    pairs, flipped = [], 0
    for i in first:
        pair = _apart(sides, i, {})
        if not pair.within() and (routes := sides.ties(i)):
            pair = _apart(sides, i, routes)
            flipped += sides.flips(i)
        pairs.append(pair)
    floor = _largest([pair.floor for pair in pairs])
    limits = comparing.allowed(floor)
    tolerance = {part: limits[part] + floor[part] for part in limits}
    if sides.contents.nms:
        return Raw(Check(name, None, "none, suppression is inside", "judged by detections"), tolerance)
    found = _largest([pair.file for pair in pairs])
    told = f", with {flipped} tokens routed the other way at near ties" if flipped else ""
    check = Check(
        name,
        all(found[part] <= limits[part] for part in found),
        f"{_listed(found)}{told}",
        _listed(limits),
        {"differences": found, "floors": floor, "allowed": limits, "flips": flipped},
    )
    off = [max(pair.file[part] / limits[part] for part in limits) for pair in pairs]
    return Raw(check, tolerance, int(np.argmax(off)))


def detections(sides: Sides, tolerance: Mapping[str, float]) -> Check:
    """Detections of all images.

    Args:
        sides: both.
        tolerance: of float32 on this model.
    """
    precision = sides.contents.precision
    count = sum(batch.real for batch in sides.batches)
    name = f"detections in {count} images, conf {CONF}"
    if sides.reference.kind == "other":
        return Check(name, None, f"the task {sides.contents.task} has none", "judged by raw outputs")
    score = comparing.SCORE.get(precision, tolerance.get("scores", comparing.LEAST))
    place = 1.5 * sides.reference.layout.side * tolerance.get("boxes", 0.0)  # a corner: centre and half a size
    limits = {"least_iou": comparing.LEAST_IOU[precision], "score": score, "place": place}
    total = Agreement()
    for i in range(len(sides.batches)):
        found = _agreement(sides, i, sides.mine[i].outputs, limits)
        if found.lost + found.added and precision == "FP32" and (routes := sides.ties(i)):
            found = _agreement(sides, i, sides.reference.run(sides.batches[i].images, routes), limits)
        total = total.with_(found)
    if not total.compared:
        return Check(name, None, "neither side finds anything", "something that is found", total._asdict())
    told = f"{total.lost} lost, {total.added} added of {total.compared}"
    told += f", IoU >= {total.iou:.4f}, scores {total.score:.1e}"
    if total.ties:
        told += f", {total.ties} ties of suppression"
    wanted = f"0 lost, 0 added, IoU >= {limits['least_iou']}, scores {score:.1e}"
    return Check(name, total.lost + total.added == 0, told, wanted, {**total._asdict(), **limits})


def another_size(sides: Sides) -> Check:
    """Two images of another size and shape, in a file that says it takes any."""
    contents, reference = sides.contents, sides.reference
    other = images.other_size(contents.imgsz, contents.stride)
    name = f"2 images of {size(other)}"
    x = F.interpolate(sides.batches[0].images[:1].expand(2, -1, -1, -1), size=other, mode="bilinear").contiguous()
    x[1] = x[1].flip(-1)
    try:
        got = sides.runtime.run(x.numpy()).outputs
    except RefusedError as error:
        return Check(name, False, str(error), "a file that takes any size, as it says (dynamic=True)")
    layout = reference.layout
    if layout.side > 1:
        layout = layout._replace(side=float(max(other)))
    if contents.nms or contents.precision != "FP32":
        finite = all(np.isfinite(y).all() for y in got)
        return Check(name, finite, _shapes([y.shape for y in got]), "finite")
    want, single = reference.run(x, double=True), reference.run(x)
    found = comparing.differences(got, want, layout)
    limits = comparing.allowed(comparing.differences(single, want, layout))
    right = all(found[part] <= limits[part] for part in found)
    return Check(name, right, _listed(found), _listed(limits), {"differences": found, "allowed": limits})


class _Apart(NamedTuple):
    """How far both are from float64, by part."""

    file: Mapping[str, float]
    floor: Mapping[str, float]  # of PyTorch in float32

    def within(self) -> bool:
        """Whether the file differs by no more than float32 may."""
        limits = comparing.allowed(self.floor)
        return all(self.file[part] <= limits[part] for part in limits)


def _apart(sides: Sides, i: int, routes: Routes) -> _Apart:
    x, layout = sides.batches[i].images, sides.reference.layout
    wide = sides.reference.run(x, routes, double=True)
    single = sides.reference.run(x, routes) if routes else sides.mine[i].outputs
    floor = comparing.differences(single, wide, layout)
    file = {} if sides.contents.nms else comparing.differences(sides.theirs[i].outputs, wide, layout)
    return _Apart({part: file.get(part, 0.0) for part in floor}, floor)


def _agreement(sides: Sides, i: int, mine: Arrays, limits: Mapping[str, float]) -> Agreement:
    real, kind = sides.batches[i].real, sides.reference.kind
    ours = _found(mine, kind, sides.contents)[:real]
    its = _found(sides.theirs[i].outputs, "rows" if sides.contents.nms else kind, sides.contents)[:real]
    total = Agreement()
    for one, other in zip(ours, its, strict=True):
        total = total.with_(comparing.agreement(one, other, predicting.overlaps, **limits))
    return total


def _found(arrays: Arrays, kind: str, contents: Contents) -> list[Found]:
    """What is found in every image of a batch."""
    kept = predicting.detected(arrays, kind, contents, CONF, IOU)
    found = []
    for one, candidates in zip(kept, predicting.candidates(arrays, kind, contents), strict=True):
        cut = float(candidates.scores.max(axis=1).min()) if kind in RANKED else -np.inf
        found.append(Found(one, candidates, cut))
    return found


def _largest(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {part: max(one[part] for one in found) for part in found[0]}


def _listed(found: Mapping[str, float]) -> str:
    return ", ".join(f"{part} {value:.1e}" for part, value in found.items())


def _shapes(shapes: Sequence[Sequence[int]]) -> str:
    return ", ".join("x".join(map(str, shape)) for shape in shapes)


def size(imgsz: tuple[int, int]) -> str:
    """Height and width in words.

    >>> size((64, 96))
    '64x96'
    """
    return f"{imgsz[0]}x{imgsz[1]}"
