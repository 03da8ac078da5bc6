"""How large a picture encoders want to be given.

An encoder may have one more member beside the protocol, ``picture_side``: the longer side, in pixels, beyond which it
gains nothing. A drawing is made at that size, for the most demanding of the encoders in use, and a large photo is
reduced to no less.
"""

from collections.abc import Iterable
from dataclasses import replace

from mmrec.decoding.limits import Limits
from mmrec.encoders.protocol import Encoder
from mmrec.types import Modality

__all__ = ["limits_for"]


def limits_for(encoders: Iterable[Encoder], limits: Limits) -> Limits:
    """Return the limits with the size of pictures that these encoders want; those that do not say take the default."""
    wanted = [getattr(one, "picture_side", limits.picture_side) for one in encoders if Modality.IMAGE in one.spaces]
    return replace(limits, picture_side=max(wanted, default=limits.picture_side))
