"""Verdicts over a family of planned contrasts: Holm's correction, and what an undecided one would need."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from yolomix.statistics.contrasts import Contrast, check_margin
from yolomix.statistics.power import FEWEST_SEEDS, needed_seeds, needed_units
from yolomix.statistics.weightings import Floats

Word = Literal["equivalent", "better", "worse", "undecided", "no verdict"]
FEW_SEEDS = 5
LEVEL = 0.05
LOOKS = (0.01, 0.04)  # levels of the first and the last of two planned looks; together 0.05, however they correlate


@dataclass(frozen=True)
class Verdict:
    """What is said of one contrast in its family.

    Attributes:
        word: the verdict.
        p: after Holm's correction; NaN where there is none.
        p_equivalent: that of equivalence, after Holm's correction.
        text: the verdict in a line, such as ``undecided: 11 seeds or 240 images``.
        notes: sentences that belong to it.
    """

    word: Word
    p: float
    p_equivalent: float
    text: str
    notes: tuple[str, ...] = ()


def holm(p: npt.ArrayLike) -> Floats:
    """p-values corrected for their number (Holm 1979); NaN, a planned contrast without a p, counts and stays NaN.

    >>> holm([0.01, 0.04, 0.03]).round(3).tolist()
    [0.03, 0.06, 0.06]
    >>> holm([0.01, np.nan]).tolist()
    [0.02, nan]
    """
    given = np.asarray(p, dtype=np.float64)
    order = np.argsort(np.where(np.isnan(given), np.inf, given), kind="stable")
    steps = np.minimum(given[order] * np.arange(len(given), 0, -1), 1.0)
    corrected = np.empty_like(given)
    corrected[order] = np.maximum.accumulate(steps)
    return corrected


def verdicts(
    contrasts: Sequence[Contrast | None], margin: float = 0.005, level: float = LEVEL, unit: str = "images"
) -> list[Verdict]:
    """A verdict for every contrast of one family.

    Args:
        contrasts: of the family as planned; None for an arm of which a run is missing, failed or diverged.
        margin: the smallest difference that matters; within it arms are equivalent.
        level: 0.05, or with two planned looks one of ``LOOKS``.
        unit: what is weighted, ``images`` or ``groups``.

    Raises:
        ValueError: a margin that is not positive.

    >>> rng = np.random.default_rng(0)
    >>> from yolomix.statistics import contrast
    >>> arm = contrast(rng.normal(0.010, 0.004, (500, 5)), rng.normal(0.010, 0.006, 5), units=72)
    >>> [verdict.text for verdict in verdicts([arm, None])]
    ['undecided: 27 seeds (more images alone cannot); few seeds', 'no verdict: a run is missing, failed or diverged']
    """
    check_margin(margin)
    alone = [(math.nan, math.nan) if each is None else (each.p, each.p_equivalent(margin)) for each in contrasts]
    corrected = [holm([pair[which] for pair in alone]) for which in (0, 1)]
    family = _Family(len(contrasts), margin, level, unit)
    return [family.verdict(*row) for row in zip(contrasts, *corrected, strict=True)]


@dataclass(frozen=True)
class _Family:
    size: int
    margin: float
    level: float
    unit: str

    def verdict(self, contrast: Contrast | None, p: float, p_equivalent: float) -> Verdict:
        reason = _no_verdict(contrast)
        if contrast is None or reason:
            return Verdict("no verdict", float(p), float(p_equivalent), f"no verdict: {reason}")
        word, why = self._word(contrast, p, p_equivalent), ""
        if word == "undecided":
            why = f": {self._needed(contrast)}"
        notes = self._notes(contrast, word, p, p_equivalent)
        if contrast.seeds <= FEW_SEEDS:
            why += "; few seeds"
            notes = (*notes, f"few seeds: {contrast.seeds}; the interval is honest, and wide")
        return Verdict(word, float(p), float(p_equivalent), word + why, notes)

    def _word(self, contrast: Contrast, p: float, p_equivalent: float) -> Word:
        if p_equivalent < self.level:
            return "equivalent"
        if p < self.level:
            return "better" if contrast.difference > 0 else "worse"
        return "undecided"

    def _needed(self, contrast: Contrast) -> str:
        """What finds a difference of the margin in 80 % of studies, at the level that Holm asks of the first p."""
        parts, level = contrast.components, self.level / self.size
        seeds = needed_seeds(parts, contrast.units, self.margin, level)
        units = needed_units(parts, contrast.seeds, self.margin, level)
        if seeds is not None and seeds <= contrast.seeds:
            return f"this study finds a difference of {self.margin:g} four times in five"
        if seeds is None and units is None:
            return f"neither more seeds nor more {self.unit} alone can"
        if units is None:
            return f"{seeds} seeds (more {self.unit} alone cannot)"
        if seeds is None:
            return f"{units} {self.unit} (more seeds alone cannot)"
        return f"{seeds} seeds or {units} {self.unit}"

    def _notes(self, contrast: Contrast, word: Word, p: float, p_equivalent: float) -> tuple[str, ...]:
        if word == "equivalent" and p < self.level:
            return (f"the difference is real (Holm p {p:.2g}), and smaller than {self.margin:g}",)
        if word != "undecided":
            return ()
        notes = []
        own, own_equivalent = contrast.p, contrast.p_equivalent(self.margin)
        if own < self.level:
            notes.append(
                f"its interval leaves out 0 (p {own:.2g}), but the family has {self.size} comparisons: "
                f"after Holm's correction p is {p:.2g}, not below {self.level:g}"
            )
        if own_equivalent < self.level:
            notes.append(
                f"it would be equivalent alone (p {own_equivalent:.2g}), but the family has {self.size} comparisons: "
                f"after Holm's correction p is {p_equivalent:.2g}, not below {self.level:g}"
            )
        return tuple(notes)


def _no_verdict(contrast: Contrast | None) -> str:
    """Why nothing is said, or an empty text."""
    if contrast is None:
        return "a run is missing, failed or diverged"
    if contrast.seeds < FEWEST_SEEDS:
        plural = "s" if contrast.seeds > 1 else ""
        return f"{contrast.seeds} seed{plural}, at least {FEWEST_SEEDS} are needed"
    if not contrast.varies:
        return (
            f"the difference is {contrast.difference:g} with every seed and on every image, so nothing says how it "
            "varies; see whether seeds reach the training, and whether the arms are different models"
        )
    return ""
