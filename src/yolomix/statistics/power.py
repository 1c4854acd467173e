"""What so many seeds and images can find: the power of a contrast from its three components of variance."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import optimize, special

GUESSED_SD = 0.006  # of single runs, where none has finished: 0.6 points
POWER = 0.8
FEWEST_SEEDS = 3  # fewer get no verdict
MOST_SEEDS, MOST_UNITS = 10_000, 10_000_000  # beyond these we say that no number is enough
NODES = (32, 12, 6)  # of the quadrature over the three estimated variances


class Components(NamedTuple):
    """What one seed, one image and one pair of both add to the variance of a difference of runs."""

    seed: float
    image: float
    rest: float

    @classmethod
    def guessed(cls, sd: float = GUESSED_SD) -> Components:
        """Of the difference of two runs whose seeds spread by ``sd``; noise of images is unknown and comes on top.

        >>> Components.guessed()
        Components(seed=7.2e-05, image=0.0, rest=0.0)
        """
        return cls(2 * sd**2, 0.0, 0.0)

    def variance(self, seeds: int, units: int) -> float:
        """Of the mean difference over so many seeds and images or groups.

        >>> Components(0.4, 8.0, 16.0).variance(seeds=4, units=40)
        0.4
        """
        return self.seed / seeds + self.image / units + self.rest / (seeds * units)


def power(components: Components, seeds: int, units: int, effect: float, level: float = 0.05) -> float:
    """The probability that a true difference is found, with its right sign, at this level.

    Exact for normal effects: the difference is normal, and the three variances in its half width are estimated from
    independent chi-squares, over whose quantiles this integrates.

    Args:
        components: of the variance.
        seeds: S, at least 2.
        units: n, images or groups, at least 2.
        effect: the true difference, positive.
        level: of the two-sided test: 0.05, or that over the number of arms where Holm's correction follows.

    >>> round(power(Components(1.0, 0.0, 0.0), seeds=10, units=100, effect=1.0), 2)
    0.8
    """
    seed, image, rest = components.seed / seeds, components.image / units, components.rest / (seeds * units)
    sd = math.sqrt(seed + image + rest)
    if sd == 0:
        return float(effect > 0)
    freedom = (seeds - 1, units - 1, (seeds - 1) * (units - 1))
    (a, wa), (b, wb), (c, wc) = (_chi_squares(nodes, df) for nodes, df in zip(NODES, freedom, strict=True))
    over_seeds = (seed + rest) * a[:, None, None]
    images_alone = np.maximum((image + rest) * b[:, None] - rest * c, 0.0)
    t_seeds, t_units = (special.stdtrit(df, level / 2) for df in freedom[:2])
    half_width = np.sqrt(t_seeds**2 * over_seeds + t_units**2 * images_alone)
    found = special.ndtr((effect - half_width) / sd)
    return float(np.einsum("ijk,i,j,k", found, wa, wb, wc))


@functools.lru_cache(maxsize=1000)
def _chi_squares(nodes: int, df: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Quantiles of chi-square over its degrees of freedom, and the weights of a mean over them."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return special.chdtri(df, (1 - x) / 2) / df, w / 2


def detectable(components: Components, seeds: int, units: int, level: float = 0.05) -> float:
    """The difference that is found with 80 % power.

    Args:
        components: of the variance; ``Components.guessed()`` before any run has finished.
        seeds: S, at least 2.
        units: n, images or groups, at least 2.
        level: as in ``power``.

    >>> round(detectable(Components.guessed(), seeds=5, units=72), 4)
    0.0143
    """
    sd = math.sqrt(components.variance(seeds, units))
    if sd == 0:
        return 0.0

    def missing(effect: float) -> float:
        return power(components, seeds, units, effect * sd, level) - POWER

    most = 4.0
    while missing(most) < 0:
        most *= 2
    return float(optimize.brentq(missing, 0.0, most, xtol=1e-6)) * sd


def needed_seeds(components: Components, units: int, effect: float, level: float = 0.05) -> int | None:
    """The fewest seeds that find ``effect`` with 80 % power on these images; None where no number does.

    >>> needed_seeds(Components(1.0, 0.0, 0.0), units=100, effect=0.5)
    34
    """
    return _fewest(lambda seeds: power(components, seeds, units, effect, level), FEWEST_SEEDS, MOST_SEEDS)


def needed_units(components: Components, seeds: int, effect: float, level: float = 0.05) -> int | None:
    """The fewest images (or groups) that find ``effect`` with 80 % power with these seeds; None where no number does.

    >>> needed_units(Components(0.0, 1.0, 0.0), seeds=5, effect=0.5)
    34
    """
    return _fewest(lambda units: power(components, seeds, units, effect, level), 2, MOST_UNITS)


def _fewest(power_of: Callable[[int], float], fewest: int, most: int) -> int | None:
    """The smallest number with 80 % power, which grows with it."""
    if power_of(most) < POWER:
        return None
    low, high = fewest - 1, fewest
    while power_of(high) < POWER:
        low, high = high, min(2 * high, most)
    while high - low > 1:
        middle = (low + high) // 2
        if power_of(middle) < POWER:
            low = middle
        else:
            high = middle
    return high
