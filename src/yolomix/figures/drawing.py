"""Panels on one colour scale: all drawing of maps, so that figures look alike and can be read in grey.

Colour maps are perceptually uniform, and brighter means more in all of them: a figure keeps its order in print.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]

COLOURS = "magma"
WIDTH, FONT = 2.2, 8  # inches of a panel, points
MARK = {"color": "white", "marker": "o", "markersize": 7, "markerfacecolor": "none", "markeredgewidth": 1.2}


class Panel(NamedTuple):
    """One map.

    Args:
        values: (H, W) on the colour scale, or (h, w, 3), an image, 0 to 1.
        title: above it.
        mark: x and y of what is marked, in fractions of width and height.
    """

    values: Array
    title: str = ""
    mark: tuple[float, float] | None = None


class Scale(NamedTuple):
    """The colours of all maps of a figure.

    Args:
        label: what they mean, with the unit.
        logarithmic: whether they are of the logarithm.
        low: what the darkest means; None takes the smallest value.
        high: what the brightest means; None takes the largest.
    """

    label: str
    logarithmic: bool = False
    low: float | None = None
    high: float | None = None


def panels(rows: Sequence[Sequence[Panel]], names: Sequence[str], scale: Scale, footer: str = "") -> Figure:
    """Rows of panels, each row with a name, and one colour bar.

    Args:
        rows: from top to bottom; all maps share the scale, images have their own colours.
        names: of the rows.
        scale: of the maps.
        footer: a line below.
    """
    from matplotlib import colors
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    columns = max(map(len, rows))
    figure = Figure(figsize=(WIDTH * columns + 1.4, WIDTH * len(rows) + 0.7), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    maps = [panel.values for row in rows for panel in row if panel.values.ndim == 2]
    low = min(float(values.min()) for values in maps) if scale.low is None else scale.low
    high = max(float(values.max()) for values in maps) if scale.high is None else scale.high
    high = high if high > low else low + 1.0
    norm = colors.LogNorm(low, high, clip=True) if scale.logarithmic else colors.Normalize(low, high)
    for row, row_axes, name in zip(rows, axes, names, strict=True):
        for axis in row_axes:
            axis.set_axis_off()
        for panel, axis in zip(row, row_axes, strict=False):
            _draw(axis, panel, norm)
        place = row_axes[0].transAxes
        row_axes[0].text(-0.04, 0.5, name, rotation=90, ha="right", va="center", transform=place, fontsize=FONT)
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, shrink=0.9, aspect=30, pad=0.02)
    bar.set_label(scale.label, fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT)
    if footer:
        figure.supxlabel(footer, fontsize=FONT - 1)
    return figure


def _draw(axis: Any, panel: Panel, norm: Any) -> None:
    axis.set_axis_on()
    height, width = panel.values.shape[:2]
    axis.set_xticks([])
    axis.set_yticks([])
    place: dict[str, Any] = {"extent": (0, width, height, 0), "interpolation": "nearest"}
    if panel.values.ndim == 3:
        axis.imshow(panel.values, **place)
    else:
        axis.imshow(panel.values, cmap=COLOURS, norm=norm, **place)
    if panel.mark is not None:
        axis.plot(panel.mark[0] * width, panel.mark[1] * height, **MARK)
    axis.set_title(panel.title, fontsize=FONT)


def short(name: str) -> str:
    """A model's name as long as a panel: of a training its folder.

    >>> short("runs/detect/train3/weights/best.pt"), short("a/very/long/way/to/yolo11n.yaml")
    ('train3 best.pt', 'yolo11n.yaml')
    """
    path = Path(name)
    if path.parent.name == "weights":
        return f"{path.parent.parent.name} {path.name}"
    return path.name


def as_image(pixels: Any) -> Array:
    """An image (1, C, H, W) as it is drawn: (H, W, 3), 0 to 1; the first three channels, or the first alone."""
    shown = pixels[0].detach().float().cpu().numpy()
    shown = shown[:3] if shown.shape[0] >= 3 else np.repeat(shown[:1], 3, axis=0)
    low, high = float(shown.min()), float(shown.max())
    if low < 0 or high > 1:  # a classifier sees them normalised
        shown = (shown - low) / max(high - low, 1e-9)
    return np.asarray(shown.transpose(1, 2, 0))
