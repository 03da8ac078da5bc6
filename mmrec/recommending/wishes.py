"""What a list should be like, whoever it is for."""

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np

from mmrec.errors import UsageError

__all__ = ["Wishes"]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a list should be like.

    Attributes:
        k: How many items at most.
        where: SQL condition on ``id`` and metadata that items must meet.
        exclude_seen: Leave out what the person has met already; what they turned down is always left out.
        diversity: 0 for the best matches, 1 for items as unlike each other as can be.
        explain: Say which items of the past speak for each.

    """

    k: int = 10
    where: str | None = None
    exclude_seen: bool = True
    diversity: float = 0.0
    explain: bool = False

    def __post_init__(self) -> None:
        """Raise UsageError for numbers that cannot be meant."""
        if isinstance(self.k, bool) or not isinstance(self.k, int | np.integer) or self.k < 1:
            raise UsageError(f"k must be a whole number, at least 1; got {self.k!r}")
        dial = self.diversity
        if isinstance(dial, bool) or not isinstance(dial, Real) or not math.isfinite(dial) or not 0 <= dial <= 1:
            raise UsageError(f"diversity must be a number from 0 to 1; got {dial!r}")
