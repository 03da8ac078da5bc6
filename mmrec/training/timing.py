"""What many steps will take, from a few that are taken here and now."""

from collections.abc import Callable, Sequence
from time import perf_counter
from typing import Final, TypeVar

__all__ = ["FEW", "seconds_for"]

FEW: Final = 4
"""Steps that are taken: one that is not timed, since it finds nothing warm, and three that are."""

Taken = TypeVar("Taken")


def seconds_for(
    total: float, steps: Sequence[Taken], size: Callable[[Taken], float], take: Callable[[Taken], object]
) -> float:
    """Return the seconds that steps of a total size take.

    Args:
        total: Size of all steps together.
        steps: Some of them, of which the first `FEW` are taken; where there is but one, it is taken twice.
        size: Of a step; time is shared out by it.
        take: Takes a step to its end, also on a device that works by itself.

    """
    if not steps:
        return 0.0
    take(steps[0])
    timed = steps[1:FEW] or steps[:1]
    began = perf_counter()
    for step in timed:
        take(step)
    return (perf_counter() - began) * total / sum(size(step) for step in timed)
