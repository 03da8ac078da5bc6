"""What may be learned from: items and their contents, by content hash. No vector and no file is here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Int64
from scipy.sparse import csr_matrix

from mmrec.errors import UsageError
from mmrec.finetuning.sharing import Sharing
from mmrec.modality import Modality

__all__ = ["Contents", "Corpus"]


@dataclass(frozen=True, slots=True, eq=False)
class Contents:
    """The contents of one modality, each once, however many items have it.

    Attributes:
        hashes: Content hash of each, ascending.
        offsets: The contents of the item at place i are those from ``offsets[i]`` to ``offsets[i + 1]`` in `places`.
        places: Place of each in `hashes`.

    """

    hashes: tuple[bytes, ...]
    offsets: Int64[np.ndarray, " items_and_one"]
    places: Int64[np.ndarray, " n"]

    def __len__(self) -> int:
        """Number of distinct contents."""
        return len(self.hashes)

    @property
    def counts(self) -> Int64[np.ndarray, " items"]:
        """How many each item has."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Int64[np.ndarray, " n"]:
        """Item of each entry of `places`."""
        return np.repeat(np.arange(len(self.offsets) - 1), self.counts)

    def of(self, item: int) -> Int64[np.ndarray, " _"]:
        """Places of one item's contents."""
        return self.places[self.offsets[item] : self.offsets[item + 1]]

    def drawn(self, items: Int64[np.ndarray, " n"], random: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """One content of each item, which must have some."""
        return self.places[self.offsets[items] + random.integers(self.counts[items])]

    def only(self, kept: Bool[np.ndarray, " contents"]) -> "Contents":
        """Those of a mask; items that have no other are left without."""
        there = kept[self.places]
        counts = np.bincount(self.owners[there], minlength=len(self.offsets) - 1)
        numbers = np.cumsum(kept) - 1
        hashes = tuple(name for name, keep in zip(self.hashes, kept.tolist(), strict=True) if keep)
        return Contents(hashes, np.concatenate([[0], np.cumsum(counts)]).astype(np.int64), numbers[self.places[there]])


@dataclass(frozen=True, eq=False)
class Corpus:
    """Items in the order of their row numbers; an item is known here by its place in that order.

    Attributes:
        rows: Row numbers, ascending.
        contents: What the items have of each modality, in the order of the modalities' names.

    """

    rows: Int64[np.ndarray, " items"]
    contents: Mapping[Modality, Contents]

    @classmethod
    def of(cls, rows: Sequence[int], hashes: Mapping[Modality, Sequence[Sequence[bytes]]]) -> "Corpus":
        """Make one of row numbers in any order, and the content hashes of each modality that each row has.

        Raises UsageError where a row number comes twice.
        """
        order = np.argsort(np.asarray(rows, dtype=np.int64), kind="stable")
        ascending = np.asarray(rows, dtype=np.int64)[order]
        if (ascending[1:] == ascending[:-1]).any():
            raise UsageError("Two items have one row number; each item may be given once.")
        parts = {modality: _contents([hashes[modality][at] for at in order]) for modality in sorted(hashes)}
        return cls(ascending, parts)

    def __len__(self) -> int:
        """Number of items."""
        return len(self.rows)

    def have(self, *modalities: Modality) -> Bool[np.ndarray, " items"]:
        """Which items have a content of each of these modalities."""
        there = np.ones(len(self), dtype=bool)
        for modality in modalities:
            contents = self.contents.get(modality)
            there &= np.zeros(len(self), dtype=bool) if contents is None else contents.counts > 0
        return there

    @cached_property
    def placed(self) -> Bool[np.ndarray, " items"]:
        """Which items have any content."""
        some = np.zeros(len(self), dtype=bool)
        for modality in self.contents:
            some |= self.have(modality)
        return some

    def find(self, rows: Int64[np.ndarray, " n"]) -> tuple[Int64[np.ndarray, " n"], Bool[np.ndarray, " n"]]:
        """Places of items by row number, and which are there at all; the place of one that is not means nothing."""
        if not len(self):
            return np.zeros(len(rows), dtype=np.int64), np.zeros(len(rows), dtype=bool)
        places = np.minimum(np.searchsorted(self.rows, rows), len(self) - 1)
        return places, self.rows[places] == rows

    def only(self, kept: Mapping[Modality, Bool[np.ndarray, " _"]]) -> "Corpus":
        """The same items with some of their contents, and of the modalities named alone."""
        return Corpus(self.rows, {modality: self.contents[modality].only(kept[modality]) for modality in sorted(kept)})

    def share(
        self, some: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " m"], modalities: tuple[Modality, ...] = ()
    ) -> Bool[np.ndarray, "n m"]:
        """Which items have a content in common with which; of some modalities, or of any. An item does with itself."""
        met = some[:, None] == others[None, :]
        for modality in modalities or tuple(self.contents):
            self._sharing[modality].meet(some, others, met)
        return met

    def share_each(
        self, some: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " n"], modalities: tuple[Modality, ...] = ()
    ) -> Bool[np.ndarray, " n"]:
        """Whether each of some items has a content in common with the one beside it."""
        met = some == others
        for modality in modalities or tuple(self.contents):
            met |= self._sharing[modality].meet_each(some, others)
        return met

    @cached_property
    def _sharing(self) -> Mapping[Modality, Sharing]:
        return {modality: Sharing.of(own.offsets, own.places) for modality, own in self.contents.items()}

    def matrix(self, modality: Modality) -> csr_matrix:
        """Items by contents: how often each item has each."""
        own = self.contents[modality]
        shape = (len(self), len(own))
        return csr_matrix((np.ones(len(own.places), dtype=np.int32), own.places, own.offsets), shape=shape)


def _contents(hashes: Sequence[Sequence[bytes]]) -> Contents:
    names = sorted({name for some in hashes for name in some})
    numbers = {name: place for place, name in enumerate(names)}
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in hashes])]).astype(np.int64)
    places = np.array([numbers[name] for some in hashes for name in some], dtype=np.int64)
    return Contents(tuple(names), offsets, places)
