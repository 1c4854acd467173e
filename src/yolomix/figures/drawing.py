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
BAR, LONGEST = 0.16, 5.0  # inches of the colour bar, across and along
DECADES = 10.0  # from this ratio of largest to smallest on, a scale is logarithmic
RING = {"marker": "o", "markersize": 7, "markerfacecolor": "none"}


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
        logarithmic: whether they are of the logarithm, where values differ that much.
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

    columns, height = max(map(len, rows)), WIDTH * len(rows) + 0.7
    figure = Figure(figsize=(WIDTH * columns + 1.4, height), layout="constrained")
    axes = figure.subplots(len(rows), columns, squeeze=False)
    maps = [panel.values for row in rows for panel in row if panel.values.ndim == 2]
    low = min(float(values.min()) for values in maps) if scale.low is None else scale.low
    high = max(float(values.max()) for values in maps) if scale.high is None else scale.high
    high = high if high > low else low + 1.0
    is_log = scale.logarithmic and high >= DECADES * low
    norm = colors.LogNorm(low, high, clip=True) if is_log else colors.Normalize(low, high)
    for row, row_axes, name in zip(rows, axes, names, strict=True):
        for axis in row_axes:
            axis.set_axis_off()
        for panel, axis in zip(row, row_axes, strict=False):
            _draw(axis, panel, norm)
        row_axes[0].set_ylabel(name, fontsize=FONT)
    length = min(0.9 * height, LONGEST)
    place: dict[str, Any] = {"shrink": length / height, "aspect": length / BAR, "anchor": (0.0, 0.97), "pad": 0.02}
    bar = figure.colorbar(ScalarMappable(norm, COLOURS), ax=axes, **place)
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
        for colour, thick in (("black", 2.6), ("white", 1.2)):  # seen on light and dark
            where = panel.mark[0] * width, panel.mark[1] * height
            axis.plot(*where, color=colour, markeredgewidth=thick, **RING)
    axis.set_title(panel.title, fontsize=FONT)


def cell(place: Sequence[float], size: Sequence[int]) -> int:
    """The cell of a map (H, W), counted row by row, that x and y in fractions of the image are in.

    >>> cell((0.5, 0.0), (3, 4))
    2
    """
    return int(place[1] * size[0]) * size[1] + int(place[0] * size[1])


def middle(place: Sequence[float], size: Sequence[int]) -> tuple[float, float]:
    """The middle of the cell of a map (H, W) that a place is in, x and y in fractions of the image.

    >>> middle((0.5, 0.0), (2, 4))
    (0.625, 0.25)
    """
    row, column = divmod(cell(place, size), size[1])
    return (column + 0.5) / size[1], (row + 0.5) / size[0]


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
