"""How figures and comparisons are said, in tables and on the page."""

import math
from typing import Final

from mmrec.evaluation.bootstrap import Comparison

__all__ = ["figure", "signed", "verdict"]

_NONE: Final = "\N{EN DASH}"
_MINUS: Final = "\N{MINUS SIGN}"


def verdict(comparison: Comparison) -> str:
    """What a comparison allows to be said: ``above``, ``not below``, ``below``, or that too few people asked."""
    if math.isnan(comparison.difference.low):
        return "too few people"
    return "above" if comparison.above else "not below" if comparison.not_below else "below"


def figure(value: float, digits: int = 4) -> str:
    """A number as tables show it: no zero before the point, a dash where there is none."""
    if math.isnan(value):
        return _NONE
    if abs(value) >= 10:
        return f"{value:,.1f}"
    text = f"{value:.{digits}f}"
    return text.replace("0.", ".", 1) if abs(float(text)) < 1 else text


def signed(value: float) -> str:
    """A difference as tables show it, with its sign."""
    if math.isnan(value):
        return _NONE
    text = figure(abs(value))
    return text if not float(text.replace(",", "")) else f"{'+' if value > 0 else _MINUS}{text}"
