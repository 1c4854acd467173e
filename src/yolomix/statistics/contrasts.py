"""The difference of two arms, for new seeds and new images alike: one half width gives interval, p and equivalence.

Every seed is evaluated on the same images, so what belongs to a seed *and* an image ("rest") is in the spread over
seeds and in that over images. It is subtracted once; neither spread alone, nor their sum, is the variance.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import optimize, special

from yolomix.statistics.power import Components
from yolomix.statistics.weightings import Floats, check_units

ROUNDING = 1e-24  # a variance of a metric between 0 and 1 below this is rounding
TINIEST = 1e-300  # the smallest p that is told from 0
IN_GENERAL = 5  # datasets from which on a summary speaks of others


class Shares(NamedTuple):
    """Parts of the variance of a difference; they add up to 1, or are all 0 where nothing varies."""

    seeds: float
    images: float
    rest: float


@dataclass(frozen=True)
class Contrast:
    """An arm minus another, over paired seeds.

    Attributes:
        difference: Δ, the mean over seeds.
        sd: of the difference over seeds; NaN with one seed.
        seed_variance: Vs, seeds and rest; NaN with one seed.
        image_variance: Vi, images and rest.
        rest_variance: Vx, rest; NaN with one seed.
        seeds: S.
        units: n, images or groups of images.
    """

    difference: float
    sd: float
    seed_variance: float
    image_variance: float
    rest_variance: float
    seeds: int
    units: int

    @property
    def images_alone(self) -> float:
        """I, the variance that images give without the rest."""
        return max(self.image_variance - self.rest_variance, 0.0) if self.seeds > 1 else math.nan

    @property
    def varies(self) -> bool:
        """Whether anything differs between seeds or images; a p or an interval needs it, and two seeds."""
        return self.seeds > 1 and self.seed_variance + self.images_alone > 0

    def half_width(self, level: float = 0.05) -> float:
        """h(p): half the width of the interval at confidence 1 - ``level``; 0 if nothing varies, NaN with one seed.

        >>> contrast(np.zeros((2, 3)), np.array([0.01, 0.02, 0.03]), units=50).half_width().__round__(4)
        0.0248
        """
        if self.seeds < 2:
            return math.nan
        t_seeds, t_units = (-float(special.stdtrit(n - 1, level / 2)) for n in (self.seeds, self.units))
        return math.sqrt(t_seeds**2 * self.seed_variance + t_units**2 * self.images_alone)

    def half_width_images(self, level: float = 0.05) -> float:
        """Half the width of the interval for other images and the very same runs, as of one pair of weights.

        >>> contrast(np.array([[0.01], [0.03]]), np.array([0.02]), units=50).half_width_images().__round__(4)
        0.029
        """
        return -float(special.stdtrit(self.units - 1, level / 2)) * math.sqrt(self.image_variance)

    def interval(self, level: float = 0.05) -> tuple[float, float]:
        """From the difference minus to the difference plus the half width."""
        half = self.half_width(level)
        return self.difference - half, self.difference + half

    @functools.cached_property
    def p(self) -> float:
        """Where the half width equals the absolute difference; NaN if nothing varies."""
        return self._level_of(abs(self.difference))

    def p_equivalent(self, margin: float) -> float:
        """The p of the claim that the true difference lies within ± ``margin`` (two one-sided tests); NaN as for ``p``.

        Raises:
            ValueError: a margin that is not positive.
        """
        check_margin(margin)
        room = margin - abs(self.difference)
        # A one-sided quantile at p is the two-sided one at 2 p; outside of the margin it is negative.
        half = self._level_of(abs(room)) / 2
        return half if room > 0 else 1 - half

    def _level_of(self, width: float) -> float:
        """The p whose half width this is: where one variance alone has it, a lower bound is known."""
        if not self.varies:
            return math.nan
        if width == 0:
            return 1.0
        alone = [TINIEST]
        for variance, df in ((self.seed_variance, self.seeds - 1), (self.images_alone, self.units - 1)):
            if variance > 0:
                alone.append(2 * float(special.stdtr(df, -width / math.sqrt(variance))))

        def excess(log_p: float) -> float:
            return self.half_width(math.exp(log_p)) - width

        low = math.log(max(alone))
        if excess(low) <= 0:  # one variance alone, or smaller than can be told
            return math.exp(low)
        return math.exp(optimize.brentq(excess, low, 0.0, xtol=1e-13))

    @property
    def better(self) -> float:
        """P(better): how often one new pair of runs ranks the arm first on these images (arXiv:2103.03098)."""
        if self.seeds < 2:
            return math.nan
        if self.sd == 0:
            return 0.5 + 0.5 * float(np.sign(self.difference))
        return float(special.ndtr(self.difference / self.sd))

    def better_interval(self, level: float = 0.05) -> tuple[float, float]:
        """Of P(better), from the noncentral t distribution; NaN where runs do not vary."""
        if self.seeds < 2 or self.sd == 0:
            return math.nan, math.nan
        root = math.sqrt(self.seeds)
        t = self.difference / self.sd * root
        low, high = (special.nctdtrinc(self.seeds - 1, p, t) for p in (1 - level / 2, level / 2))
        return float(special.ndtr(low / root)), float(special.ndtr(high / root))

    @property
    def shares(self) -> Shares:
        """What the variance of the difference is made of."""
        seeds = max(self.seed_variance - self.rest_variance, 0.0)
        total = seeds + self.images_alone + self.rest_variance
        if total == 0:
            return Shares(0.0, 0.0, 0.0)
        return Shares(seeds / total, self.images_alone / total, self.rest_variance / total)

    @property
    def components(self) -> Components:
        """The variance per seed, image and pair of both, from which other designs are computed; NaN with one seed."""
        seed = self.seeds * max(self.seed_variance - self.rest_variance, 0.0)
        return Components(seed, self.units * self.images_alone, self.seeds * self.units * self.rest_variance)


def contrast(weighted: Floats, unweighted: Floats, units: int) -> Contrast:
    """Compare two arms.

    Args:
        weighted: D, (B, S): metric of the arm minus that of the other, for every weighting and seed.
        unweighted: d, (S,): the same with weights of one.
        units: n, how many images, or groups of images, were weighted independently.

    Raises:
        ValueError: fewer than two images or groups, fewer than two weightings, or values that are not finite.

    >>> rng = np.random.default_rng(0)
    >>> found = contrast(rng.normal(0.01, 0.004, (500, 5)), rng.normal(0.01, 0.006, 5), units=72)
    >>> [round(end, 3) for end in found.interval()], round(found.p, 3)
    ([-0.003, 0.016], 0.145)
    """
    check_units(units)
    if weighted.ndim != 2 or len(weighted) < 2 or unweighted.shape != weighted.shape[1:] or not len(unweighted):
        raise ValueError(
            "a contrast needs differences of shape (weightings, seeds), at least 2 and 1, and (seeds,); "
            f"got {weighted.shape} and {unweighted.shape}"
        )
    if not (np.isfinite(weighted).all() and np.isfinite(unweighted).all()):
        raise ValueError("differences must be finite; leave out seeds of which a run has failed or diverged")
    seeds = len(unweighted)
    mean = weighted.mean(axis=1)
    factor = (units + 1) / (units - 1)  # exponential weights spread a mean by 1 / (n + 1), images by 1 / (n - 1)
    over_images = _variance(mean) * factor
    if seeds == 1:
        return Contrast(float(unweighted[0]), math.nan, math.nan, over_images, math.nan, 1, units)
    of_seeds = [_variance(column) for column in (weighted - mean[:, None]).T]
    rest = sum(of_seeds) * factor / (seeds * (seeds - 1))
    variance = _variance(unweighted)
    sd, difference = math.sqrt(variance), float(unweighted.mean())
    return Contrast(difference, sd, variance / seeds, over_images, rest, seeds, units)


def _variance(values: Floats) -> float:
    found = float(values.var(ddof=1))
    return found if found > ROUNDING else 0.0


def check_margin(margin: float) -> None:
    """Raise unless a margin can be compared with.

    Raises:
        ValueError: not positive.
    """
    if not margin > 0:
        raise ValueError(f"margin must be above 0, got {margin}; it is the smallest difference that matters, say 0.005")


class Combined(NamedTuple):
    """A difference over several datasets."""

    difference: float
    half_width: float
    datasets: int

    @property
    def in_general(self) -> bool:
        """Whether there are enough datasets to speak of others."""
        return self.datasets >= IN_GENERAL


def combined(contrasts: Sequence[Contrast], level: float = 0.05) -> Combined:
    """The mean of the differences on several datasets, with equal weights, and its half width.

    Args:
        contrasts: the same arms on each dataset.
        level: 1 minus the confidence.

    Raises:
        ValueError: no contrast.
    """
    if not contrasts:
        raise ValueError("a summary needs the contrast of at least 1 dataset, got none")
    count = len(contrasts)
    squares = sum(each.half_width(level) ** 2 for each in contrasts)
    return Combined(sum(each.difference for each in contrasts) / count, math.sqrt(squares) / count, count)
