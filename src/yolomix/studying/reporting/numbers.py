"""Numbers with the digits that their intervals support."""

from __future__ import annotations

import math

FEWEST, MOST, USUAL = 2, 6, 3  # decimals
SMALL = 3.55  # a first digit below which the second counts too, as the Particle Data Group rounds
WIDE = 0.1  # a half width that leaves two decimals only
NONE = "-"
LEAST_P = 0.001


def decimals(half_width: float) -> int:
    """How many decimals an interval of that half width supports: to its first digit, or the second behind a small one.

    >>> decimals(0.012), decimals(0.0091), decimals(0.0021), decimals(0.12), decimals(math.nan)
    (3, 3, 4, 2, 3)
    """
    if not (math.isfinite(half_width) and half_width > 0):
        return USUAL
    digits, exponent = f"{half_width:.2e}".split("e")  # rounded first: 0.09996 is 0.100
    places = (1 if float(digits) < SMALL else 0) - int(exponent)
    return min(max(places, USUAL if half_width < WIDE else FEWEST), MOST)


def number(value: float | None, half_width: float = math.nan, sign: bool = False) -> str:
    """A value with the digits of its interval; a dash where there is none.

    >>> number(0.49321, 0.011), number(0.0132, 0.017, sign=True), number(None), number(-0.00001, 0.012, sign=True)
    ('0.493', '+0.013', '-', '+0.000')
    """
    if value is None or not math.isfinite(value):
        return NONE
    places = decimals(half_width)
    shown = round(value, places) + 0.0  # no minus before a zero
    return f"{shown:+.{places}f}" if sign else f"{shown:.{places}f}"


def interval(low: float, high: float, sign: bool = True) -> str:
    """Both ends of an interval, with the digits that it supports itself.

    >>> interval(-0.0041, 0.0302), interval(math.nan, math.nan)
    ('[-0.004, +0.030]', '')
    """
    if not (math.isfinite(low) and math.isfinite(high)):
        return ""
    half = (high - low) / 2
    return f"[{number(low, half, sign)}, {number(high, half, sign)}]"


def p_value(p: float | None) -> str:
    """A p-value in two digits.

    >>> p_value(0.2134), p_value(0.0123), p_value(1e-9), p_value(None)
    ('0.21', '0.012', '<0.001', '-')
    """
    if p is None or math.isnan(p):
        return NONE
    if p < LEAST_P:
        return f"<{LEAST_P}"
    return f"{p:.2f}" if p >= 0.095 else f"{p:.3f}"


def percent(share: float) -> str:
    """A share of one, in whole per cent.

    >>> percent(0.423)
    '42 %'
    """
    return f"{100 * share:.0f} %"
