"""Outputs and detections of an exported file beside those of PyTorch: arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize

from yolomix.host.predicting import RANKED, Candidates, Detections

Floats = npt.NDArray[np.floating]
LEAST = 1e-5  # what float32 may differ by, whatever its floor is
FLOORS = 4
CONF, IOU = 0.25, 0.7  # of a detection, and of suppression: as in predict
LEAST_IOU = {"FP32": 0.99, "FP16": 0.95, "INT8": 0.9}  # of a box with the box that it has to be
SCORE = {"FP16": 0.02, "INT8": 0.1}  # what a score may differ by; in FP32 the floor says it
MAP_LOSS = {"FP32": 0.001, "FP16": 0.002, "INT8": 0.01}  # of mAP50-95
CUT = 1e-3  # rows of a head without suppression this near to the lowest score may be others
SAME_OBJECT = 0.5  # IoU from which on a box is another one's counterpart, right or not


class Layout(NamedTuple):
    """What is where in the outputs of a model.

    Attributes:
        kind: as :func:`yolomix.host.exported.layout` says it.
        task: what the model does.
        classes: how many.
        side: the longer side of the images in pixels, or 1 where boxes are fractions.
        keypoints: coordinates of a keypoint, 2 or 3; 0 without.
    """

    kind: str
    task: str
    classes: int
    side: float
    keypoints: int = 0


def parts(outputs: Sequence[Floats], layout: Layout) -> dict[str, Floats]:
    """Outputs by what they mean, in units that one tolerance serves: places as fractions of the image's side.

    >>> found = parts([np.full((1, 6, 10), 32.0)], Layout("grid", "detect", 2, 64.0))
    >>> float(found["boxes"][0, 0, 0]), found["scores"].shape
    (0.5, (1, 2, 10))

    Args:
        outputs: the first (B, rows of numbers, positions), or with these two axes the other way round, see ``Layout``;
            of a segmenter the prototypes of its masks, (B, 32, h, w), are the second.
        layout: what is where.
    """
    first, *others = outputs
    more = {f"output {i}": other for i, other in enumerate(others, 1)}
    if layout.task == "segment" and others:
        more = {"mask prototypes": others[0]}
    if layout.kind in ("classes", "other"):
        return {"scores" if layout.kind == "classes" else "output 0": first, **more}
    numbers = first if layout.kind == "grid" else first.swapaxes(1, 2)  # (B, rows of numbers, positions)
    found = {"boxes": numbers[:, :4] / layout.side}
    if layout.kind in RANKED:
        found |= {"scores": numbers[:, 4:5], "classes": numbers[:, 5:6]}
        rest = numbers[:, 6:]
    else:
        found["scores"] = numbers[:, 4 : 4 + layout.classes]
        rest = numbers[:, 4 + layout.classes :]
    if rest.shape[1]:
        found |= _rest(rest, layout)
    return found | more


def _rest(rest: Floats, layout: Layout) -> dict[str, Floats]:
    """What stands behind the scores, (B, rows, positions)."""
    if layout.task == "pose":
        scale = np.ones(rest.shape[1])
        for axis in range(2):
            scale[axis :: layout.keypoints] = layout.side
        return {"keypoints": rest / scale[:, None]}
    return {{"segment": "mask coefficients", "obb": "angles"}.get(layout.task, "others"): rest}


def differences(got: Sequence[Floats], want: Sequence[Floats], layout: Layout) -> dict[str, float]:
    """The largest absolute difference of every part; infinite where numbers are missing or not finite.

    >>> differences([np.zeros((1, 5, 2))], [np.ones((1, 5, 2))], Layout("grid", "detect", 1, 2.0))
    {'boxes': 0.5, 'scores': 1.0}
    """
    if layout.kind in RANKED and got[0].shape == want[0].shape:
        got = [np.stack([_ordered(g, w, layout) for g, w in zip(got[0], want[0], strict=True)]), *got[1:]]
    found = {}
    got_parts = parts(got, layout)
    for name, wanted in parts(want, layout).items():
        have = got_parts.get(name)
        found[name] = np.inf
        if have is not None and have.shape == wanted.shape and np.isfinite(have).all():
            found[name] = float(np.abs(have.astype(np.float64) - wanted).max(initial=0.0))
    return found


def _ordered(got: Floats, want: Floats, layout: Layout) -> Floats:
    """The rows of one image, (N, 6 + more), in the order in which they are nearest to those that are wanted.

    Rows that only one side has are as those that are wanted where both are near to the lowest score: which of two
    equal ones comes among the first N is chance.
    """
    scale = np.array([layout.side] * 4 + [1.0])
    apart = np.abs(got[:, None, :5] - want[None, :, :5]) / scale
    cost = apart.max(axis=2) + (got[:, None, 5] != want[None, :, 5])  # (N, N)
    rows, columns = optimize.linear_sum_assignment(np.nan_to_num(cost, nan=1e6, posinf=1e6, neginf=1e6))
    ordered = np.empty_like(got)
    ordered[columns] = got[rows]
    at_the_cut = np.maximum(ordered[:, 4], want[:, 4]) <= want[:, 4].min() + CUT
    differ = (cost[rows, columns] > CUT)[np.argsort(columns)]
    return np.where((at_the_cut & differ)[:, None], want, ordered)


def allowed(floors: Mapping[str, float]) -> dict[str, float]:
    """What float32 may differ by, from what PyTorch itself differs by.

    >>> allowed({"boxes": 1e-7, "scores": 1e-4})
    {'boxes': 1e-05, 'scores': 0.0004}
    """
    return {name: max(LEAST, FLOORS * floor) for name, floor in floors.items()}


class Agreement(NamedTuple):
    """How the detections of an image, or of many, agree."""

    compared: int = 0  # that either side is sure of
    lost: int = 0  # that PyTorch has, with nothing like them in the file
    added: int = 0
    ties: int = 0  # that one side suppressed for a neighbour of nearly the same score
    iou: float = 1.0  # the lowest of a box with its counterpart
    score: float = 0.0  # the largest difference of a score

    def with_(self, other: Agreement) -> Agreement:
        """Both together."""
        return Agreement(
            compared=self.compared + other.compared,
            lost=self.lost + other.lost,
            added=self.added + other.added,
            ties=self.ties + other.ties,
            iou=min(self.iou, other.iou),
            score=max(self.score, other.score),
        )


class Found(NamedTuple):
    """What one side finds in an image."""

    kept: Detections  # after suppression
    candidates: Candidates  # before it
    cut: float = -np.inf  # the score of the last of the best N, where a head gives no more than these


def agreement(
    torch: Found,
    file: Found,
    overlaps: Callable[[Floats, Floats], Floats],
    least_iou: float,
    score: float,
    place: float = 0.0,
) -> Agreement:
    """Compare the detections of an image. Each has to be among the candidates of the other side.

    Which of two candidates survives suppression may hang on the last digit of a score, and so may the class of one. A
    detection that the other side only suppressed is a tie; one that it never had is lost, or added.

    Args:
        torch: what PyTorch finds.
        file: what the file finds.
        overlaps: IoU of every box with every other.
        least_iou: of a box with its counterpart.
        score: what a score may differ by; nearer to the threshold than that nothing is compared.
        place: what a corner may differ by in the unit of the boxes, whatever that is in IoU of a small box.
    """
    total = Agreement()
    for one, other, side in ((torch, file, "lost"), (file, torch, "added")):
        sure = one.kept.scores > CONF + score
        mine = Detections(*(part[sure] for part in one.kept))
        among = _counterparts(mine, other.candidates, overlaps)
        right = among.like(least_iou, score, place)
        kept = _counterparts(mine, _again(other), overlaps).like(least_iou, score, place)
        at_the_cut = mine.scores <= other.cut + score  # which of equal ones come among the best is chance
        lost, ties = ~right & ~at_the_cut, ~kept & (right | at_the_cut)
        there = (among.iou >= SAME_OBJECT) & (right | ~at_the_cut)
        counts: dict[str, Any] = {side: int(lost.sum()), "ties": int(ties.sum())}
        iou = float(among.iou[there].min(initial=1.0))
        apart = float(among.score[there].max(initial=0.0))
        total = total.with_(Agreement(compared=int(sure.sum()), iou=iou, score=apart, **counts))
    return total


class _Counterparts(NamedTuple):
    """Of each of n detections, the one on the other side that is most like it."""

    iou: Floats  # (n,)
    score: Floats  # (n,) by how much they differ
    place: Floats  # (n,) by how much a number of the box differs at most

    def like(self, least_iou: float, score: float, place: float) -> npt.NDArray[np.bool_]:
        """Which of them are the same detection."""
        return ((self.iou >= least_iou) | (self.place <= place)) & (self.score <= score)


def _counterparts(found: Detections, others: Candidates, overlaps: Callable[[Floats, Floats], Floats]) -> _Counterparts:
    n = len(found.scores)
    if not n or not len(others.boxes):
        return _Counterparts(np.zeros(n), np.full(n, np.inf), np.full(n, np.inf))
    apart = np.abs(found.scores[:, None] - others.scores[:, found.classes.astype(int)].T)  # (n, N)
    iou = overlaps(found.boxes, others.boxes)
    best = (iou - apart).argmax(axis=1)
    place = np.abs(found.boxes - others.boxes[best]).max(axis=1, initial=0.0)
    return _Counterparts(iou[range(n), best], apart[range(n), best], place)


def _again(found: Found) -> Candidates:
    """What was kept, as candidates."""
    kept = found.kept
    scores = np.full((len(kept.scores), found.candidates.scores.shape[1]), -np.inf)
    scores[np.arange(len(scores)), kept.classes.astype(int)] = kept.scores
    return Candidates(scores, kept.boxes)
