"""Gates of grafts over a training, which say whether a block was used at all."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from yolomix.figures import drawing, opening
from yolomix.figures.values import Array, Figure, Row
from yolomix.host import gates as recorded
from yolomix.surgery.graph import Layer

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Drawing

OPEN = 0.1  # from which on a gate counts as open: a tenth of the block's change arrives
UNUSED, USED = 0.05, 0.5  # shares of channels below and above which a block is called so


class _Course(NamedTuple):
    """One gate over the epochs of one training."""

    model: str
    module: str
    block: str
    level: str
    epochs: Array  # (E,)
    values: Array  # (E, C)

    @property
    def open_share(self) -> float:
        """Of the channels, 0 to 1, at the end."""
        return float((np.abs(self.values[-1]) > OPEN).mean())

    @property
    def verdict(self) -> str:
        """Whether the block is used, in a sentence."""
        share = self.open_share
        when = f"after {self.epochs[-1]} epochs" if self.epochs[-1] else "now"
        word = "not used" if share < UNUSED else "used in part" if share < USED else "used"
        return (
            f"{self.block}@{self.level} ({self.module}): {share:.0%} of {self.values.shape[1]} channels above {OPEN} "
            f"{when}: {word}"
        )


def gates(models: Any) -> Figure:
    """The gate of every graft, for each channel over the epochs, and whether its block is used.

    Args:
        models: one or several, each the folder of a training, or a checkpoint in it (``weights/last.pt``). Of a
            checkpoint that is alone, and of a model, there is one moment: now.

    Raises:
        ValueError: a model has no graft with a gate.
        FileNotFoundError: there is no such folder or checkpoint.
    """
    given = list(models) if isinstance(models, list | tuple) else [models]
    courses = [course for one in given for course in _courses(one)]
    table: list[Row] = [("model", "module", "block", "epochs", "mean |gate|", "largest |gate|", f"above {OPEN}")]
    arrays = dict[str, Array]()
    for i, course in enumerate(courses):
        last = np.abs(course.values[-1])
        numbers = (f"{last.mean():.3g}", f"{last.max():.3g}", f"{course.open_share:.0%}")
        table.append((course.model, course.module, course.block, str(course.epochs[-1]), *numbers))
        arrays |= {f"gate{i}_epochs": course.epochs, f"gate{i}_values": course.values}
    done = opening.said([opening.name(one) for one in given], [], modules=[course.module for course in courses])
    verdict = "\n".join(course.verdict for course in courses)
    return Figure("gates", arrays, done, table, functools.partial(_drawn, courses), verdict)


def _courses(model: Any) -> list[_Course]:
    folder = _folder(model)
    history = recorded.read(folder) if folder is not None else {}
    subject = opening.opened(model)[0]
    if not history:
        now = recorded.of(subject.module)
        if not now:
            raise ValueError(
                f"{subject.name} has no graft with a gate. A graft gets one where its layer stays, as in "
                "yolomix graft model=yolo11n.pt block=MLLABlock at=p5; gate=false leaves it out"
            )
        history = {0: now}
    epochs = np.array(sorted(history))
    found = []
    for module, gate in history[int(epochs[-1])].items():
        values = np.array([history[int(epoch)][module].values for epoch in epochs])
        level = _level(subject.layers, module)
        found.append(_Course(str(model) if folder else subject.name, module, gate.block, level, epochs, values))
    return found


def _folder(model: Any) -> Path | None:
    """The folder of a training: itself, or that of a checkpoint in ``weights``."""
    if not isinstance(model, str | Path):
        return None
    path = Path(model)
    if path.is_dir():
        return path
    return path.parent.parent if path.parent.name == "weights" else None


def _level(layers: Sequence[Layer], module: str) -> str:
    """The pyramid level of a module's layer, as an insertion point is named; the layer where it has no stride."""
    index = opening.layer_of(module)
    stride = None if index is None else layers[index].stride
    return f"p{stride.bit_length() - 1}" if stride else str(index)


def _drawn(courses: Sequence[_Course]) -> Drawing:
    from matplotlib.figure import Figure as Drawing

    figure = Drawing(figsize=(7.5, 2.6 * len(courses) + 0.6), layout="constrained")
    axes = figure.subplots(len(courses), 1, squeeze=False)[:, 0]
    highest = max(float(np.abs(course.values).max()) for course in courses)
    for course, axis in zip(courses, axes, strict=True):
        by_size = np.abs(course.values)[:, np.argsort(-np.abs(course.values[-1]))]  # (E, C)
        first, last = course.epochs[0] - 0.5, course.epochs[-1] + 0.5
        place = {"extent": (first, last, by_size.shape[1], 0), "aspect": "auto", "interpolation": "nearest"}
        drawn = axis.imshow(by_size.T, cmap=drawing.COLOURS, vmin=0.0, vmax=highest or 1.0, **place)
        when = f"after {course.epochs[-1]} epochs" if course.epochs[-1] else "now"
        words = f"{course.open_share:.0%} of channels above {OPEN} {when}"
        axis.set_title(f"{drawing.short(course.model)}, {course.block}@{course.level}: {words}", fontsize=drawing.FONT)
        axis.set_ylabel("channel, widest open first", fontsize=drawing.FONT)
        axis.tick_params(labelsize=drawing.FONT)
        if len(course.epochs) == 1:
            axis.set_xticks([])
    axes[-1].set_xlabel("epoch", fontsize=drawing.FONT)
    bar = figure.colorbar(drawn, ax=axes, pad=0.02)
    bar.set_label("|gate|: 0 shut, 1 the block alone", fontsize=drawing.FONT)
    bar.ax.tick_params(labelsize=drawing.FONT)
    return figure
