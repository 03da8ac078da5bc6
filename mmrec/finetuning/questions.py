"""Retrieval questions on held-out items, and their ranks.

One modality of an item asks for another, or an item asks for related items. Where all relevant items are held out,
the candidates are the held-out items alone: training moves the training items, and removing them from the
neighbourhood of a held-out item would look like an improvement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mmrec.evaluation.metrics import mean_rank, rank_counts, single_target_metric
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import ContentVectors, item_vectors
from mmrec.fusion.blocks import centre, shrunken_mean
from mmrec.types import Modality

METRICS = ("r@1", "r@10", "mrr")
"""Metrics that are means over questions; the median of the ranks is beside them."""

_SCORES = 2**24
"""Similarities in memory at a time."""


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalQuestions:
    """Questions of one kind.

    Attributes:
        name: As in ``text -> image``.
        queries: Row of the query vectors of each question.
        answers: The right items of each, of those in the gallery.
        gallery: The item that each row of the gallery's vectors belongs to, ascending; its nearest row counts.
        excluded: Item of the gallery that each question leaves out, itself mostly; -1 for none.
        units: Cluster of each question in the bootstrap: its group or user.
        modalities: Which modality searches which; None where whole items search whole items.

    """

    name: str
    queries: Int64[np.ndarray, " q"]
    answers: tuple[Int64[np.ndarray, " _"], ...]
    gallery: Int64[np.ndarray, " rows"]
    excluded: Int64[np.ndarray, " q"]
    units: Int64[np.ndarray, " q"]
    modalities: tuple[Modality, Modality] | None = None

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.queries)

    def rank(
        self, blocks: Sequence[tuple[Float32[np.ndarray, "_ _"], Float32[np.ndarray, "rows _"]]]
    ) -> "RetrievalRanks":
        """Rank the gallery by the sum of its similarities in some spaces: of each, query and gallery vectors."""
        starts = np.flatnonzero(np.diff(self.gallery, prepend=-1))
        items = self.gallery[starts]
        above, tied = np.empty(len(self), dtype=np.int64), np.empty(len(self), dtype=np.int64)
        step = max(1, _SCORES // max(1, len(self.gallery)))
        for start in range(0, len(self), step):
            part = slice(start, start + step)
            near = np.zeros((len(self.queries[part]), len(self.gallery)), dtype=np.float32)
            for queries, rows in blocks:
                near += queries[self.queries[part]] @ rows.T
            scores = np.maximum.reduceat(near, starts, axis=1)
            scores[self.excluded[part, None] == items] = -np.inf
            above[part], tied[part] = _best_answer(scores, items, self.answers[part])
        return RetrievalRanks(above, tied, self.units)


def _best_answer(
    scores: Float32[np.ndarray, "q items"], items: Int64[np.ndarray, " items"], answers: Sequence[np.ndarray]
) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
    """Rank counts of the best answer of each question among the wrong items. Writes over the scores."""
    counts = np.array([len(some) for some in answers])
    lines = np.repeat(np.arange(len(answers)), counts)
    right = np.searchsorted(items, np.concatenate(answers))
    best = np.maximum.reduceat(scores[lines, right], np.cumsum(counts) - counts)[:, None]
    scores[lines, right] = np.nan
    above, tied = rank_counts(scores, best)
    return above, tied + 1


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalRanks:
    """Rank counts of the best answer of each question: items above it, and level with it, itself included."""

    above: Int64[np.ndarray, " q"]
    tied: Int64[np.ndarray, " q"]
    units: Int64[np.ndarray, " q"]

    def metric(self, name: str) -> Float64[np.ndarray, " q"]:
        """``r@1``, ``r@10`` or ``mrr`` of each question; what is tied is averaged over all orders."""
        if name == "mrr":
            most = int((self.above + self.tied).max(initial=1))
            return single_target_metric("mrr", most, self.above, self.tied)
        return single_target_metric("hr", int(name.removeprefix("r@")), self.above, self.tied)

    @property
    def median(self) -> float:
        """Median rank, from 1."""
        return float(np.median(mean_rank(self.above, self.tied))) if len(self.above) else float("nan")


def pooled(found: Sequence[RetrievalRanks]) -> RetrievalRanks:
    """All questions of several kinds."""
    return RetrievalRanks(
        *(np.concatenate([getattr(one, name) for one in found]) for name in ("above", "tied", "units"))
    )


Spaces = Sequence[ContentVectors]
"""The spaces that are asked in, their similarities added: of each, vectors of the modalities that can be compared."""


@dataclass(frozen=True, slots=True, eq=False)
class HeldOutQuestions:
    """Questions of one or several kinds about the contents of one corpus."""

    corpus: Corpus
    kinds: Sequence[RetrievalQuestions]

    def __len__(self) -> int:
        """Number of questions."""
        return sum(map(len, self.kinds))

    def rank(self, spaces: Spaces) -> dict[str, RetrievalRanks]:
        """Answer all, by kind. Where no space has both sides all answers are tied, which is chance."""
        return {kind.name: kind.rank(self._blocks(kind, spaces)) for kind in self.kinds}

    def _blocks(
        self, kind: RetrievalQuestions, spaces: Spaces
    ) -> list[tuple[Float32[np.ndarray, "_ _"], Float32[np.ndarray, "_ _"]]]:
        if kind.modalities is None:
            placed = [item_vectors(self.corpus, space) for space in spaces]
            return [(vectors, vectors[kind.gallery]) for vectors in placed]
        asks, gives = kind.modalities
        own = self.corpus.contents[gives]
        rows = own.places[np.isin(own.owners, kind.gallery)]
        return [(space[asks], space[gives][rows]) for space in spaces if asks in space and gives in space]


def centred(vectors: ContentVectors) -> ContentVectors:
    """Subtract the shrunken mean of each modality, as a store does."""
    return {modality: centre(some, shrunken_mean(some)) for modality, some in vectors.items()}


def cross_modal_questions(
    corpus: Corpus,
    pairs: Sequence[tuple[Modality, Modality]],
    items: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " items"],
    among: Int64[np.ndarray, " m"],
) -> HeldOutQuestions:
    """Return questions that search some items of one modality with each content of another, both ways.

    The candidates are the items of `among` with a content of the modality that is searched, and `groups` are bootstrap
    clusters of the items.
    """
    kinds = []
    for asks, gives in [way for one, other in pairs for way in ((one, other), (other, one))]:
        both = items[corpus.have(asks, gives)[items]]
        if not len(both):
            continue
        asking = corpus.contents[asks]
        owners = np.repeat(both, asking.counts[both])
        queries = np.concatenate([asking.of(item) for item in both.tolist()])
        gallery = corpus.contents[gives].owners
        kinds.append(
            RetrievalQuestions(
                name=f"{asks} -> {gives}",
                queries=queries,
                answers=tuple(owners[:, None]),
                gallery=gallery[np.isin(gallery, among)],
                excluded=np.full(len(owners), -1),
                units=groups[owners],
                modalities=(asks, gives),
            )
        )
    return HeldOutQuestions(corpus, kinds)


def item_questions(
    corpus: Corpus,
    kinds: Mapping[str, Sequence[tuple[int, Sequence[int], int]]],
    among: Mapping[str, Int64[np.ndarray, " _"]] | None = None,
) -> HeldOutQuestions:
    """Return questions that search whole items with whole items.

    By kind, each is a query item, the relevant ones, none of them itself, and a bootstrap cluster. The candidates, by
    kind and ascending, are those of `among`, else all items.
    """
    made = []
    for name, questions in kinds.items():
        queries, units = (np.array([one[at] for one in questions], dtype=np.int64) for at in (0, 2))
        answers = tuple(np.array(right, dtype=np.int64) for _, right, _ in questions)
        gallery = (among or {}).get(name, np.arange(len(corpus)))
        made.append(RetrievalQuestions(name, queries, answers, gallery, queries, units))
    return HeldOutQuestions(corpus, [kind for kind in made if len(kind)])
