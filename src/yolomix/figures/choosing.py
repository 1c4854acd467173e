"""Which predictions of a model are explained: by score, class, place or number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torchvision import ops

from yolomix import nearest
from yolomix.figures.opening import Image, Subject
from yolomix.host import predicting, scores

LEAST, SUPPRESSING = 0.25, 0.7  # score, and overlap with a stronger one: those of predict
MOST = 16  # predictions in a map


class Chosen(NamedTuple):
    """A prediction.

    Args:
        label: the number of its class.
        name: of its class.
        number: its own, in the order of the head.
        score: 0 to 1.
        box: left, top, right and bottom in fractions of the image, inside of it; None of a class without a place.
    """

    label: int
    name: str
    number: int
    score: float
    box: tuple[float, ...] | None

    @property
    def pair(self) -> tuple[int, int]:
        """Class and number."""
        return self.label, self.number

    @property
    def middle(self) -> tuple[float, float] | None:
        """Of the box, in fractions of width and height."""
        if self.box is None:
            return None
        left, top, right, bottom = self.box
        return (left + right) / 2, (top + bottom) / 2


def labels(subject: Subject, classes: Any) -> list[int] | None:
    """Classes by name or number; None, all of them, for None.

    Raises:
        ValueError: the model has no such class.
    """
    if classes is None:
        return None
    given = classes if isinstance(classes, list | tuple) else [classes]
    names = {str(name): number for number, name in subject.module.names.items()}
    return [_label(subject, names, str(one)) for one in given]


def _label(subject: Subject, names: dict[str, int], given: str) -> int:
    if given in names:
        return names[given]
    if given.isdecimal() and int(given) in subject.module.names:
        return int(given)
    advice = nearest.near(given, names)
    raise ValueError(f"{subject.name} has no class {given!r} among its {len(names)}, 0 to {len(names) - 1}; {advice}")


def chosen(
    subject: Subject, image: Image, labels: Sequence[int] | None, box: int | Sequence[float] | None
) -> list[Chosen]:
    """The predictions that are explained, the strongest first.

    Args:
        subject: the model.
        image: what it is shown.
        labels: only of these classes; None takes all.
        box: only the prediction there, or of that number.

    Raises:
        ValueError: no prediction is there, or scores are no numbers.
    """
    with torch.no_grad():
        found = scores.predictions(subject.module, image.pixels)
    if not found.scores.isfinite().all():
        raise ValueError(f"scores of {subject.name} for {image.name} are NaN or infinite: its weights have diverged")
    wanted = range(len(found.scores)) if labels is None else labels
    best, at = found.scores[[*wanted]].max(0)
    numbers = _strongest(found.boxes, best, at) if box is None else [_there(subject, image, found, best, box)]
    H, W = image.pixels.shape[2:]
    size = torch.tensor([W, H, W, H])
    made = []
    for i in numbers:
        label = wanted[int(at[i])]
        inside = None if found.boxes is None else tuple((found.boxes[i].cpu() / size).clamp(0, 1).tolist())
        made.append(Chosen(label, str(subject.module.names[label]), i, float(best[i]), inside))
    return made


def _strongest(boxes: Tensor | None, best: Tensor, at: Tensor) -> list[int]:
    """The predictions that predict shows, or the strongest alone where it shows none."""
    order = best.argsort(descending=True, stable=True)
    kept = order[best[order] >= LEAST]
    if boxes is not None:
        kept = kept[ops.batched_nms(boxes[kept], best[kept], at[kept], SUPPRESSING)]
    return (kept if len(kept) else order[:1])[:MOST].tolist()


def _there(subject: Subject, image: Image, found: scores.Predictions, best: Tensor, box: int | Sequence[float]) -> int:
    """The number of the prediction at a box."""
    H, W = image.pixels.shape[2:]
    if isinstance(box, int):
        if 0 <= box < len(best):
            return box
        raise ValueError(
            f"{subject.name} makes {len(best)} predictions for an image of {H}x{W} pixels, 0 to {len(best) - 1}, "
            f"got box={box}"
        )
    if found.boxes is None:
        raise ValueError(f"a model for {subject.module.task} has no boxes, so box= chooses nothing; classes= does")
    if len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        raise ValueError(
            f"box is left, top, right, bottom in fractions of the image, or the number of a prediction, got {box}"
        )
    there = np.array([box]) * [W, H, W, H]
    overlaps = predicting.overlaps(found.boxes.cpu().numpy(), there)[:, 0]
    fit = best.cpu().numpy() * overlaps
    if not fit.any():
        raise ValueError(
            f"no prediction of {subject.name} for {image.name} overlaps box={[*box]}; without box= the strongest is "
            "explained"
        )
    return int(fit.argmax())
