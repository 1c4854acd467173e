"""The parts of the page that are drawn: runs, differences, classes, sizes, and curves over the epochs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from yolomix.studying.reporting import drawing, tables
from yolomix.studying.reporting.drawing import Dots, Interval, Scale
from yolomix.studying.reporting.markup import details, element, paragraph, section, text
from yolomix.studying.reporting.numbers import interval, number
from yolomix.studying.reporting.result import Analysis, mean_sd
from yolomix.studying.reporting.values import Curve, Difference, OnDataset, Part

MOST = 12  # classes that are shown at once


def runs(analysis: Analysis, data: OnDataset) -> Iterator[str]:
    """Every run as a dot, every difference as an interval, and what the intervals are made of."""
    rows = []
    for arm in analysis.design.arms:
        values = data.scores(arm.name)
        rows.append(Dots(tables.title(arm), values, mean_sd(values)[0], tables.mean(values)))
    yield element("h3", text(f"{analysis.design.metric} of every run"))
    yield paragraph(
        "A dot is a run, in the order of seeds from above; the line is their mean. Beside it mean±sd.", "soft"
    )
    yield drawing.dots(rows)
    compared = [one for one in data.differences if one.contrast is not None]
    if not compared:
        return
    margin = analysis.design.plan.margin
    yield element("h3", text(f"Differences in {analysis.design.metric}, {tables.confidence(analysis)} intervals"))
    yield paragraph(
        f"Filled: decided. Open: undecided, or in no family. Small rings: single seeds. The band is the margin of "
        f"±{analysis.design.plan.margin:g}.",
        "soft",
    )
    rows_of = [_row(analysis, data, one) for one in compared]
    yield drawing.differences(rows_of, margin, drawing.around(rows_of, margin))
    varying = [(_label(one), one.contrast.shares) for one in compared if one.contrast and one.contrast.varies]
    if varying:
        yield element("h3", text("What the uncertainty of each difference is made of"))
        named = (
            ("more seeds shrink it", drawing.DARK),
            ("more images shrink it", drawing.MIDDLE),
            ("either does", drawing.LIGHT),
        )
        swatches = []
        for (said, colour), name in zip(named, ("seeds", "images", "rest"), strict=True):
            swatches.append(element("span", class_="swatch", style=f"background:{colour}") + text(f"{name} ({said})"))
        yield element("p", *swatches, class_="legend")
        yield drawing.shares(varying)


def _label(one: Difference) -> str:
    return f"{one.planned.arm} - {one.planned.other}"


def _row(analysis: Analysis, data: OnDataset, one: Difference) -> Interval:
    assert one.contrast is not None, "only contrasts are drawn"
    low, high = one.interval
    by_place = {(run.spec.arm, run.pair): value for run, value in data.runs}
    singles = []
    for seed in analysis.look.seeds:
        singles.append(by_place[one.planned.arm, seed] - by_place[one.planned.other, seed])
    said = f"{number(one.contrast.difference, one.half_width, sign=True)} {interval(low, high)}"
    return Interval(
        _label(one), one.contrast.difference, low, high, singles, one.verdict.word if one.verdict else "", said
    )


def where(analysis: Analysis, data: OnDataset, name: str, title: str) -> str:
    """Differences per class and per size of objects."""
    parts = []
    for rows, what in ((data.classes, "Per class"), (data.sizes, "Per size of objects")):
        drawn = {arm: [*_parts(analysis, rows, arm)] for arm in dict.fromkeys(part.arm for part in rows)}
        on = drawing.around([one for each in drawn.values() for one in each], analysis.design.plan.margin)
        for arm, intervals in drawn.items():
            if intervals:
                parts.append(element("h3", text(f"{what}: {arm} - {analysis.design.plan.base}")))
                parts += _most_first(intervals, analysis.design.plan.margin, on)
    if not parts:
        return ""
    intro = ["Descriptions, not corrected for their number: for the next study, not for a claim."]
    if data.few:
        named = ", ".join(f"{label} ({count})" for label, count in data.few.items())
        intro.append(f"Fewer than 10 labelled images in the {data.split} split: {named}.")
    if data.bins:
        intro.append(
            f"Sizes: {data.bins}. Differences per size are approximate: which object a detection found is not "
            "recorded, so an image counts, class by class, with the share of its labels of that size."
        )
    return section(name, title, *(paragraph(line, "soft") for line in intro), *parts)


def _most_first(intervals: Sequence[Interval], margin: float, on: Scale) -> Iterator[str]:
    """All of them; of many those that differ most, and the others for those who open them."""
    if len(intervals) <= MOST:
        yield drawing.differences(intervals, margin, on)
        return
    ordered = sorted(intervals, key=lambda one: -abs(one.value))
    yield drawing.differences(ordered[:MOST], margin, on)
    yield details(f"{len(ordered) - MOST} with smaller differences", drawing.differences(ordered[MOST:], margin, on))


def _parts(analysis: Analysis, rows: Sequence[Part], arm: str) -> Iterator[Interval]:
    level = analysis.look.level
    for part in rows:
        if part.arm == arm and part.contrast is not None:
            low, high = part.contrast.interval(level)
            value, half = part.contrast.difference, part.contrast.half_width(level)
            said = f"{number(value, half, sign=True)} {interval(low, high)}"
            yield Interval(f"{part.name} ({part.labels} in {part.images} images)", value, low, high, (), "", said)


def training(analysis: Analysis, data: OnDataset, name: str, title: str) -> str:
    """Curves over the epochs, every arm beside the base."""
    base = {curve.what: curve for curve in data.curves if curve.arm == analysis.design.plan.base}
    panels = []
    for what, of_base in base.items():
        others = [curve for curve in data.curves if curve.what == what and curve.arm != of_base.arm]
        drawn = [_panel(of_base, curve) for curve in others]
        if drawn:
            panels += [element("h3", text(_named(what))), element("div", *drawn, class_="panels")]
    if not panels:
        return ""
    said = "Mean over seeds, and a band from the lowest to the highest run. Dashed and grey: the base."
    return section(name, title, paragraph(said, "soft"), *panels)


def _named(what: str) -> str:
    return what if not what.startswith("metrics/") else f"{what.removeprefix('metrics/')} on the val split"


def _panel(base: Curve, arm: Curve) -> str:
    return element("figure", drawing.curves(base, arm), element("figcaption", text(f"{arm.arm}, over epochs")))
