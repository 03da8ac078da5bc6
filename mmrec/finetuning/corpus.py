"""The items and contents that a fine-tuning learns from, by content hash, and which of them are held out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import compress

import numpy as np
from jaxtyping import Bool, Int64
from scipy.sparse import csr_matrix, hstack
from scipy.sparse.csgraph import connected_components

from indexers.vectors import find_rows
from mmrec.errors import UsageError
from mmrec.finetuning.config import HeldOutConfig
from mmrec.types import Modality


@dataclass(frozen=True, slots=True, eq=False)
class ModalityContents:
    """The contents of one modality, each once, however many items have it, by content hash, ascending.

    Those of item i are `places` in `hashes`, from ``offsets[i]`` to ``offsets[i + 1]``.
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

    def draw(self, items: Int64[np.ndarray, " n"], random: np.random.Generator) -> Int64[np.ndarray, " n"]:
        """One content of each item, which must have some."""
        return self.places[self.offsets[items] + random.integers(self.counts[items])]

    def only(self, kept: Bool[np.ndarray, " contents"]) -> "ModalityContents":
        """Those of a mask; items that have no other are left without."""
        fewer = self.matrix[:, np.flatnonzero(kept)]
        return ModalityContents(
            tuple(compress(self.hashes, kept)), fewer.indptr.astype(np.int64), fewer.indices.astype(np.int64)
        )

    @property
    def matrix(self) -> csr_matrix:
        """Items by contents: how often each item has each."""
        shape = (len(self.offsets) - 1, len(self))
        return csr_matrix((np.ones(len(self.places), dtype=np.int32), self.places, self.offsets), shape=shape)


@dataclass(frozen=True, eq=False)
class Corpus:
    """Items in the order of their row numbers, each known by its place in that order, and their contents."""

    rows: Int64[np.ndarray, " items"]
    contents: Mapping[Modality, ModalityContents]

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
        if any(modality not in self.contents for modality in modalities):
            return np.zeros(len(self), dtype=bool)
        return np.all([self.contents[modality].counts > 0 for modality in modalities], axis=0)

    @cached_property
    def placed(self) -> Bool[np.ndarray, " items"]:
        """Which items have any content."""
        return np.any([np.zeros(len(self), dtype=bool), *map(self.have, self.contents)], axis=0)

    def find(self, rows: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Places of items by row number, -1 where there is no such item."""
        return find_rows(self.rows, rows)

    def only(self, kept: Mapping[Modality, Bool[np.ndarray, " _"]]) -> "Corpus":
        """The same items with some of their contents, and of the modalities named alone."""
        return Corpus(self.rows, {modality: self.contents[modality].only(kept[modality]) for modality in sorted(kept)})

    def share(
        self, some: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " m"], modalities: tuple[Modality, ...] = ()
    ) -> Bool[np.ndarray, "n m"]:
        """Which items have a content in common with which; of some modalities, or of any. An item does with itself."""
        found = some[:, None] == others[None, :]
        for modality in modalities or tuple(self.contents):
            shared = self._shared[modality]
            found |= (shared[some] @ shared[others].T).toarray()
        return found

    def share_each(
        self, some: Int64[np.ndarray, " n"], others: Int64[np.ndarray, " n"], modalities: tuple[Modality, ...] = ()
    ) -> Bool[np.ndarray, " n"]:
        """Whether each of some items has a content in common with the one beside it."""
        found = some == others
        for modality in modalities or tuple(self.contents):
            shared = self._shared[modality]
            found |= shared[some].multiply(shared[others]).getnnz(axis=1) > 0
        return found

    @cached_property
    def _shared(self) -> Mapping[Modality, csr_matrix]:
        """For each modality, items by those contents that several items have."""
        found = {}
        for modality in self.contents:
            own = self.contents[modality].matrix.astype(bool)
            own.sum_duplicates()
            found[modality] = own[:, np.flatnonzero(own.getnnz(axis=0) > 1)]
        return found


def _contents(hashes: Sequence[Sequence[bytes]]) -> ModalityContents:
    names = sorted({name for some in hashes for name in some})
    numbers = {name: place for place, name in enumerate(names)}
    offsets = np.concatenate([[0], np.cumsum([len(some) for some in hashes])]).astype(np.int64)
    places = np.array([numbers[name] for some in hashes for name in some], dtype=np.int64)
    return ModalityContents(tuple(names), offsets, places)


@dataclass(frozen=True, slots=True, eq=False)
class HeldOut:
    """Places of items to train on, for early stopping, and for the verdict, ascending; no group is in two of them."""

    groups: Int64[np.ndarray, " items"]
    train: Int64[np.ndarray, " _"]
    validation: Int64[np.ndarray, " _"]
    test: Int64[np.ndarray, " _"]

    @property
    def not_trained(self) -> Int64[np.ndarray, " _"]:
        """What is not learned from, ascending."""
        return np.union1d(self.validation, self.test)

    @property
    def sizes(self) -> dict[str, int]:
        """Items of each part."""
        return {"trained on": len(self.train), "validation": len(self.validation), "test": len(self.test)}


def groups_of(corpus: Corpus, together: tuple[Modality, ...] = ()) -> Int64[np.ndarray, " items"]:
    """Number the groups of items that share contents of some modalities, or of any if none is named."""
    chosen = [modality for modality in together or tuple(corpus.contents) if modality in corpus.contents]
    if not chosen or not len(corpus):
        return np.arange(len(corpus))
    own = hstack([corpus.contents[modality].matrix for modality in chosen]).tocsr()
    # Through the contents and not from item to item: a content of all items would make a square of them.
    count = own.shape[0]
    edges = own.tocoo()
    graph = type(edges)((edges.data, (edges.row, edges.col + count)), shape=(sum(own.shape), sum(own.shape)))
    _, labels = connected_components(graph, directed=False)
    _, groups = np.unique(labels[:count], return_inverse=True)
    return groups.astype(np.int64)


def hold_out(corpus: Corpus, items: Int64[np.ndarray, " n"], config: HeldOutConfig, seed: int) -> HeldOut:
    """Split some items, group by group, in an order that the seed decides.

    A share is filled until the next group would exceed it; one that is larger than that is trained on.
    Raises UsageError where there are none, or either part would be empty, as where all items hang together.
    """
    if not len(items):
        raise UsageError(
            "There is nothing to learn from: no item has what is wanted. For align that is contents of two modalities "
            "that attract each other, for label a value in the column, and always a content that an encoder reads."
        )
    groups = groups_of(corpus, config.together)
    sizes = np.bincount(groups[items], minlength=int(groups.max(initial=-1)) + 1)
    order = np.random.default_rng([seed, len(corpus)]).permutation(np.flatnonzero(sizes))
    parts: list[list[int]] = []
    for share in (config.validation, config.test):
        room, taken = max(1, round(share * len(items))), list[int]()
        used = {group for part in parts for group in part}
        for group in order.tolist():
            if group not in used and sizes[group] <= room:
                taken.append(group)
                room -= sizes[group]
        parts.append(taken)
    chosen = [items[np.isin(groups[items], part)] for part in parts]
    rest = items[~np.isin(groups[items], parts[0] + parts[1])]
    if not all(len(part) for part in (*chosen, rest)):
        raise UsageError(
            f"{len(items)} items cannot be split: those that share contents belong together, and the largest "
            f"such group has {int(sizes.max(initial=0))}. Name fewer modalities in held_out.together, or take in "
            "more items."
        )
    return HeldOut(groups, rest, *chosen)
