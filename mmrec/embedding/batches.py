"""Batches of samples of like cost, so that little is padded."""

from bisect import insort
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from random import Random

from mmrec.encoders.protocol import Sample
from mmrec.store.quarantine import Quarantined

__all__ = ["Bucket", "Pending"]

WINDOW_BATCHES = 16
WINDOW_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pending:
    """A prepared sample that waits for its batch, and what to put into quarantine should encoding it fail."""

    hash: bytes
    sample: Sample
    blame: Quarantined


class Bucket:
    """A bounded window of pending samples of one encoder and modality, kept in order of cost.

    A batch is a run of neighbours in that order. It starts at a random place, so that neither short nor long samples
    pile up in the window.
    """

    def __init__(self, batch_cost: int, seed: int = 0) -> None:
        self._batch_cost = batch_cost
        self._random = Random(seed)  # noqa: S311 -- order of work, not a secret
        self._window: list[Pending] = []
        self._cost = 0
        self._bytes = 0

    def add(self, pending: Pending) -> None:
        """Put a sample into the window."""
        insort(self._window, pending, key=lambda waiting: waiting.sample.cost)
        self._cost += pending.sample.cost
        self._bytes += pending.sample.tensor.nbytes

    @property
    def is_full(self) -> bool:
        """Whether `full_batches` would give one."""
        return self._is_even_batch or self._is_above_bounds

    def drop(self, hashes: Collection[bytes]) -> list[Pending]:
        """Take the samples of these contents out, not to be encoded."""
        dropped = [pending for pending in self._window if pending.hash in hashes]
        self._window = [pending for pending in self._window if pending.hash not in hashes]
        self._forget(dropped)
        return dropped

    @property
    def hashes(self) -> list[bytes]:
        """The contents that wait."""
        return [pending.hash for pending in self._window]

    def full_batches(self) -> Iterator[list[Pending]]:
        """Take batches until the window is below its bounds; where all cost the same, each as soon as it is full."""
        while self._is_even_batch:
            yield self._take(len(self._window) - 1)
        while self._is_above_bounds:
            yield self._take(self._random.randrange(len(self._window)))

    def last_batches(self) -> Iterator[list[Pending]]:
        """Empty the window, the most costly first."""
        while self._window:
            yield self._take(len(self._window) - 1)

    @property
    def _is_above_bounds(self) -> bool:
        return self._cost > WINDOW_BATCHES * self._batch_cost or self._bytes > WINDOW_BYTES

    @property
    def _is_even_batch(self) -> bool:
        """Whether waiting for others of like cost is of no use."""
        full = self._cost >= self._batch_cost
        return full and self._window[0].sample.cost == self._window[-1].sample.cost

    def _take(self, last: int) -> list[Pending]:
        """Take the batch whose most costly sample is at `last`; it fills up downwards."""
        widest = self._window[last].sample.cost
        count = min(max(1, self._batch_cost // max(widest, 1)), len(self._window))
        first = max(0, last + 1 - count)
        batch = self._window[first : last + 1]
        del self._window[first : last + 1]
        self._forget(batch)
        return batch

    def _forget(self, taken: list[Pending]) -> None:
        self._cost -= sum(pending.sample.cost for pending in taken)
        self._bytes -= sum(pending.sample.tensor.nbytes for pending in taken)
