"""What several people did, as one padded batch."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int64
from torch import Tensor

__all__ = ["Sequences"]


@dataclass(frozen=True, slots=True, eq=False)
class Sequences:
    """Events of several people, oldest first, padded at the end; what the padding holds does not matter.

    Attributes:
        vectors: Unit vector of each event's item.
        kinds: Code of each event's kind, 0 for one that is not known.
        liked: Whether the event's kind speaks for its item, however it was rated.
        times: When it was, microseconds since 1970 in UTC.
        asked: When the question was put that is answered after this event: in training the time of the next event, in
            service, for the last one, now.
        ratings: Level of each event's rating, 0 where it is none.

    """

    vectors: Float[Tensor, "b l dim"]
    kinds: Int64[Tensor, "b l"]
    liked: Bool[Tensor, "b l"]
    times: Int64[Tensor, "b l"]
    asked: Int64[Tensor, "b l"]
    ratings: Int64[Tensor, "b l"]
