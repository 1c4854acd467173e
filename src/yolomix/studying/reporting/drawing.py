"""Figures as inline SVG. Along a track positions are per cent, so that it fits a phone and its text keeps its size."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from yolomix.statistics import Shares
from yolomix.studying.reporting.markup import element, text
from yolomix.studying.reporting.numbers import percent
from yolomix.studying.reporting.values import Curve

HEIGHT, AXIS = 30, 22  # pixels of a track and of the axis below
EDGE = 0.06  # of the range that stays free on each side
# From the map cividis, whose steps look equal and stay apart in greyscale.
DARK, MIDDLE, LIGHT = "#123570", "#7d7c78", "#e1cc55"
PANEL = (320, 190, 42, 12, 8, 24)  # width, height, and margins left, right, above, below


class Scale(NamedTuple):
    """From values to per cent of a track."""

    low: float
    high: float

    def at(self, value: float) -> str:
        """Where a value stands.

        >>> Scale(0.0, 2.0).at(0.5)
        '25.00%'
        """
        return f"{100 * (value - self.low) / (self.high - self.low):.2f}%"

    def ticks(self, count: int = 5) -> list[float]:
        """Round values inside, about so many.

        >>> Scale(-0.011, 0.032).ticks()
        [-0.01, 0.0, 0.01, 0.02, 0.03]
        """
        rough = (self.high - self.low) / count
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.999 * rough)
        first, last = math.ceil(self.low / step), math.floor(self.high / step)
        return [round(k * step, 12) for k in range(first, last + 1)]


def scale(values: Iterable[float]) -> Scale:
    """A scale around all values that are finite.

    >>> scale([1.0, 2.0, math.nan])
    Scale(low=0.94, high=2.06)
    """
    finite = [value for value in values if math.isfinite(value)]
    low, high = (min(finite), max(finite)) if finite else (0.0, 1.0)
    edge = EDGE * (high - low) or 0.01
    return Scale(low - edge, high + edge)


class Interval(NamedTuple):
    """A row of a figure of differences."""

    label: str
    value: float
    low: float
    high: float
    runs: Sequence[float]  # of single seeds
    word: str  # the verdict, or an empty text
    said: str  # what stands beside it


def around(rows: Sequence[Interval], margin: float) -> Scale:
    """A scale that has room for all intervals, zero and the margin."""
    values = [0.0, margin, -margin]
    for row in rows:
        values += [row.value, row.low, row.high, *row.runs]
    return scale(values)


def differences(rows: Sequence[Interval], margin: float, on: Scale) -> str:
    """Intervals below each other, with a line at zero and the margin around it as a band."""
    drawn = []
    for row in rows:
        marks = [_band(on, -margin, margin), _vertical(on, 0.0, "zero"), *_interval(on, row)]
        drawn.append(_row(row.label, row.said, marks, f"{row.label}: {row.said}"))
    return element("div", *drawn, _axis(on, sign=True), class_="rows")


def _interval(on: Scale, row: Interval) -> list[str]:
    marks = []
    for value in row.runs:
        marks.append(element("circle", cx=on.at(value), cy=HEIGHT - 7, r=2.5, class_="run"))
    middle = HEIGHT / 2 - 3
    if math.isfinite(row.low):
        marks.append(element("line", x1=on.at(row.low), x2=on.at(row.high), y1=middle, y2=middle, class_="interval"))
    if math.isfinite(row.value):
        filled = "decided" if row.word in ("better", "worse", "equivalent") else "open"
        marks.append(element("circle", cx=on.at(row.value), cy=middle, r=5, class_=filled))
    return marks


class Dots(NamedTuple):
    """A row of a figure of runs."""

    label: str
    values: Sequence[float]
    mean: float
    said: str


def dots(rows: Sequence[Dots]) -> str:
    """Every run of every arm as a dot, the mean as a line."""
    on = scale(value for row in rows for value in row.values)
    drawn = []
    for row in rows:
        marks = []
        for i, value in enumerate(row.values):
            y = 6 + (HEIGHT - 12) * (i + 0.5) / max(len(row.values), 1)
            marks.append(element("circle", cx=on.at(value), cy=f"{y:.1f}", r=3.5, class_="dot"))
        if math.isfinite(row.mean):
            marks.append(_vertical(on, row.mean, "mean"))
        drawn.append(_row(row.label, row.said, marks, f"{row.label}: {row.said}"))
    return element("div", *drawn, _axis(on, sign=False), class_="rows")


def shares(rows: Sequence[tuple[str, Shares]]) -> str:
    """What variances are made of, a bar for each contrast."""
    drawn = []
    for label, parts in rows:
        marks, start = [], 0.0
        for value, colour, ink in zip(parts, (DARK, MIDDLE, LIGHT), ("#fff", "#fff", "#000"), strict=True):
            where = {"x": f"{100 * start:.2f}%", "width": f"{100 * value:.2f}%"}
            marks.append(element("rect", **where, y=4, height=HEIGHT - 8, fill=colour))
            if value >= 0.12:
                x = f"{100 * (start + value / 2):.2f}%"
                marks.append(element("text", percent(value), x=x, y=HEIGHT / 2 + 4, text_anchor="middle", fill=ink))
            start += value
        whole = f"{label}: seeds {percent(parts.seeds)}, images {percent(parts.images)}, rest {percent(parts.rest)}"
        said = " / ".join(f"{100 * part:.0f}" for part in parts)
        drawn.append(_row(label, f"{said} %", marks, whole))
    return element("div", *drawn, class_="rows")


def _row(label: str, said: str, marks: Iterable[str], described: str) -> str:
    track = element("svg", *marks, width="100%", height=HEIGHT, role="img", aria_label=described, class_="track")
    return element(
        "div",
        element("div", text(label), class_="label"),
        track,
        element("div", text(said), class_="said"),
        class_="row",
    )


def _axis(on: Scale, sign: bool) -> str:
    marks = []
    for value in on.ticks():
        marks.append(element("line", x1=on.at(value), x2=on.at(value), y1=0, y2=5, class_="tick"))
        shown = f"{value:+g}" if sign and value else f"{value:g}"
        marks.append(element("text", shown, x=on.at(value), y=18, text_anchor="middle"))
    track = element("svg", *marks, width="100%", height=AXIS, class_="track axis", aria_hidden="true")
    return element("div", element("div", class_="label"), track, element("div", class_="said"), class_="row")


def _vertical(on: Scale, value: float, class_: str) -> str:
    return element("line", x1=on.at(value), x2=on.at(value), y1=0, y2=HEIGHT, class_=class_)


def _band(on: Scale, low: float, high: float) -> str:
    share = (high - low) / (on.high - on.low)
    return element("rect", x=on.at(low), width=f"{100 * share:.2f}%", y=0, height=HEIGHT, class_="margin")


def curves(base: Curve, arm: Curve) -> str:
    """Two arms over epochs: mean over seeds, with a band from the lowest to the highest run."""
    width, height, left, right, above, below = PANEL
    x = Scale(1, max([2, *base.epochs, *arm.epochs]))
    y = scale([*base.low, *base.high, *arm.low, *arm.high])

    def at(epoch: float, value: float) -> str:
        across = left + (width - left - right) * (epoch - x.low) / (x.high - x.low)
        up = above + (height - above - below) * (y.high - value) / (y.high - y.low)
        return f"{across:.1f},{up:.1f}"

    marks = []
    for value in y.ticks(3):
        start, end = at(x.low, value).split(","), at(x.high, value).split(",")
        marks.append(element("line", x1=start[0], y1=start[1], x2=end[0], y2=end[1], class_="grid"))
        marks.append(element("text", f"{value:g}", x=left - 4, y=float(start[1]) + 4, text_anchor="end"))
    for epoch in [tick for tick in x.ticks(4) if tick == int(tick)]:
        place = at(epoch, y.low).split(",")
        marks.append(element("text", f"{epoch:g}", x=place[0], y=height - 8, text_anchor="middle"))
    for curve, class_ in ((base, "of-base"), (arm, "of-arm")):
        there = [at(*point) for point in zip(curve.epochs, curve.high, strict=True)]
        back = [at(*point) for point in zip(curve.epochs, curve.low, strict=True)][::-1]
        marks.append(element("polygon", points=" ".join([*there, *back]), class_=f"band {class_}"))
    for curve, class_ in ((base, "of-base"), (arm, "of-arm")):
        points = " ".join(at(*point) for point in zip(curve.epochs, curve.mean, strict=True))
        marks.append(element("polyline", points=points, class_=f"line {class_}"))
    label = f"{arm.arm} and {base.arm}: {arm.what} over epochs"
    return element("svg", *marks, viewBox=f"0 0 {width} {height}", role="img", aria_label=label, class_="panel")
