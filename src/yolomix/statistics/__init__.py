"""Statistics of a study: arrays in, numbers out (docs/design/statistics.md)."""

from yolomix.statistics.average_precision import average_precision, has_ramp, mean_over_classes
from yolomix.statistics.contrasts import Combined, Contrast, Shares, combined, contrast
from yolomix.statistics.families import LEVEL, LOOKS, Verdict, holm, verdicts
from yolomix.statistics.matches import Matches
from yolomix.statistics.power import Components, detectable, needed_seeds, needed_units, power
from yolomix.statistics.weightings import Weightings, accuracy, weightings

__all__ = [
    "LEVEL",
    "LOOKS",
    "Combined",
    "Components",
    "Contrast",
    "Matches",
    "Shares",
    "Verdict",
    "Weightings",
    "accuracy",
    "average_precision",
    "combined",
    "contrast",
    "detectable",
    "has_ramp",
    "holm",
    "mean_over_classes",
    "needed_seeds",
    "needed_units",
    "power",
    "verdicts",
    "weightings",
]
