"""Histories cut into windows of one length, and these into batches."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor, nn

from mmrec.events.histories import Histories
from mmrec.users.networks import Sequences
from mmrec.users.tower_config import rating_levels

_POOL = 8


@dataclass(frozen=True, slots=True, eq=False)
class TowerEvents:
    """The events of all users, one after the other, as a tower reads them; see `Sequences`.

    Items are places in the array of rows that the events were made with. Low-rated items are still targets; the rating
    is a separate input. `offsets` are where each user's events begin, and at last where all end.
    """

    items: Int64[np.ndarray, " n"]
    kinds: Int64[np.ndarray, " n"]
    liked: Bool[np.ndarray, " n"]
    times: Int64[np.ndarray, " n"]
    offsets: Int64[np.ndarray, " users_and_one"]
    ratings: Int64[np.ndarray, " n"]

    @classmethod
    def of(
        cls,
        histories: Histories,
        rows: Int64[np.ndarray, " items"],
        kinds: tuple[str, ...],
        weights: Mapping[str, float],
    ) -> "TowerEvents":
        """Take histories; `rows` are ascending and hold the items of all events."""
        codes = np.array([kinds.index(name) + 1 if name in kinds else 0 for name in histories.kind_names])
        return cls(
            np.searchsorted(rows, histories.items),
            codes[histories.kinds].astype(np.int64),
            histories.kind_weights(weights, 1.0) > 0,
            histories.times,
            histories.offsets,
            rating_levels(histories.strengths, len(histories.items)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class Windows:
    """Spans of events from a start to a stop; the event at the stop is the target of the last one in the window."""

    starts: Int64[np.ndarray, " w"]
    stops: Int64[np.ndarray, " w"]

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.starts)


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Windows of one length, as `TowerEvents`, padded with item 0; `requested` is the time of the next event.

    Targets are the places of the next events' items, -1 where they are none.
    """

    items: Int64[Tensor, "b l"]
    targets: Int64[Tensor, "b l"]
    kinds: Int64[Tensor, "b l"]
    liked: Bool[Tensor, "b l"]
    times: Int64[Tensor, "b l"]
    requested: Int64[Tensor, "b l"]
    ratings: Int64[Tensor, "b l"]

    def to(self, device: torch.device) -> "Batch":
        """The same batch on a device."""
        return Batch(*(getattr(self, name).to(device) for name in self.__slots__))

    def sequences(self, items: Float[Tensor, "m dim"]) -> Sequences:
        """The input of a tower, from the vectors of all items."""
        vectors = nn.functional.embedding(self.items, items)
        return Sequences(vectors, self.kinds, self.liked, self.times, self.requested, self.ratings)


def cut_windows(
    offsets: Int64[np.ndarray, " users_and_one"], length: int, every_event: bool, random: np.random.Generator
) -> Windows:
    """Cut each user's history into windows that end at their newest event.

    With `every_event`, a history that does not fit one window is cut into several, at places that differ from epoch to
    epoch, so that each event is a target once an epoch, with contexts of all lengths.
    """
    firsts, lasts = offsets[:-1], offsets[1:] - 1
    there = lasts > firsts
    firsts, lasts = firsts[there], lasts[there]
    if not every_event:
        return Windows(np.maximum(firsts, lasts - length), lasts)
    counts = lasts - firsts
    shifts = np.where(counts > length, random.integers(0, length, len(counts)), 0)
    pieces = -(-(counts + shifts) // length)
    owner = np.repeat(np.arange(len(counts)), pieces)
    piece = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    stops = lasts[owner] - piece * length + shifts[owner]
    starts = np.maximum(firsts[owner], stops - length)
    return Windows(starts, np.minimum(stops, lasts[owner]))


def batches(windows: Windows, size: int, random: np.random.Generator) -> list[Int64[np.ndarray, " _"]]:
    """Batches of windows: random, but of similar length, which saves padding."""
    lengths = windows.stops - windows.starts
    order = random.permutation(len(windows))
    pools = [order[start : start + size * _POOL] for start in range(0, len(order), size * _POOL)]
    alike = [pool[np.argsort(lengths[pool], kind="stable")] for pool in pools]
    found = [pool[start : start + size] for pool in alike for start in range(0, len(pool), size)]
    return [found[place] for place in random.permutation(len(found))]


def batch_of(events: TowerEvents, windows: Windows, which: Int64[np.ndarray, " b"]) -> Batch:
    """Read some windows, padded at the end to the longest of them."""
    starts, lengths = windows.starts[which], windows.stops[which] - windows.starts[which]
    steps = np.arange(max(1, int(lengths.max(initial=0))))
    real = steps < lengths[:, None]
    here = np.where(real, starts[:, None] + steps, starts[:, None])
    following = np.where(real, here + 1, here)
    targets = np.where(real & events.liked[following], events.items[following], -1)
    return Batch(
        torch.from_numpy(np.where(real, events.items[here], 0)),
        torch.from_numpy(targets),
        torch.from_numpy(events.kinds[here]),
        torch.from_numpy(events.liked[here]),
        torch.from_numpy(events.times[here]),
        torch.from_numpy(events.times[following]),
        torch.from_numpy(events.ratings[here]),
    )
