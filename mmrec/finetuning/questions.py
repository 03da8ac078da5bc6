"""Retrieval questions on held-out items, their ranks, and the training task that they judge.

One modality of an item asks for another, or an item asks for related items. Where all relevant items are held out,
the candidates are the held-out items alone: training moves the training items, and removing them from the
neighbourhood of a held-out item would look like an improvement.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from jaxtyping import Float32, Float64, Int64

from mmrec.evaluation.metrics import accuracy, mean_rank
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import ContentVectors, FinetuneObjective, item_vectors
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
        answers: The answer of each, as a number of the gallery.
        gallery: The item that each row of the gallery's vectors belongs to, ascending; its nearest row counts.
        out: Item of the gallery that each question leaves out, itself mostly; -1 for none.
        units: Cluster of each question in the bootstrap: its group or user.

    """

    name: str
    queries: Int64[np.ndarray, " q"]
    answers: tuple[Int64[np.ndarray, " _"], ...]
    gallery: Int64[np.ndarray, " rows"]
    out: Int64[np.ndarray, " q"]
    units: Int64[np.ndarray, " q"]

    def __len__(self) -> int:
        """Number of questions."""
        return len(self.queries)


@dataclass(frozen=True, slots=True, eq=False)
class RetrievalRanks:
    """Ranks of the answers: of the best one, where a question has several.

    Attributes:
        above: Number of items above the answer.
        tied: Number of items level with it, itself included.
        units: As in `RetrievalQuestions`.

    """

    above: Int64[np.ndarray, " q"]
    tied: Int64[np.ndarray, " q"]
    units: Int64[np.ndarray, " q"]

    def metric(self, name: str) -> Float64[np.ndarray, " q"]:
        """``r@1``, ``r@10`` or ``mrr`` of each question; what is tied is averaged over all orders."""
        if name == "mrr":
            most = int((self.above + self.tied).max(initial=1))
            return accuracy("mrr", most, self.above, self.tied)
        return accuracy("hr", int(name.removeprefix("r@")), self.above, self.tied)

    @property
    def median(self) -> float:
        """Median rank, from 1."""
        return float(np.median(mean_rank(self.above, self.tied))) if len(self.above) else float("nan")


def ask(
    asked: RetrievalQuestions, blocks: Sequence[tuple[Float32[np.ndarray, "_ _"], Float32[np.ndarray, "rows _"]]]
) -> RetrievalRanks:
    """Rank the gallery for each question, by the sum of its similarities in some spaces.

    Args:
        asked: The questions.
        blocks: For each space, the vectors that ask and those of the gallery.

    """
    starts = np.flatnonzero(np.diff(asked.gallery, prepend=-1))
    items = asked.gallery[starts]
    above, tied = np.empty(len(asked), dtype=np.int64), np.empty(len(asked), dtype=np.int64)
    step = max(1, _SCORES // max(1, len(asked.gallery)))
    for start in range(0, len(asked), step):
        part = slice(start, start + step)
        near = np.zeros((len(asked.queries[part]), len(asked.gallery)), dtype=np.float32)
        for queries, rows in blocks:
            near += queries[asked.queries[part]] @ rows.T
        scores = np.maximum.reduceat(near, starts, axis=1)
        scores[asked.out[part, None] == items] = -np.inf
        above[part], tied[part] = _standing(scores, items, asked.answers[part])
    return RetrievalRanks(above, tied, asked.units)


def _standing(
    scores: Float32[np.ndarray, "q items"], items: Int64[np.ndarray, " items"], answers: Sequence[np.ndarray]
) -> tuple[Int64[np.ndarray, " q"], Int64[np.ndarray, " q"]]:
    """How many wrong items are above the best answer of each question, and how many level with it, that one included.

    Writes over the scores.
    """
    counts = np.array([len(some) for some in answers])
    lines = np.repeat(np.arange(len(answers)), counts)
    right = np.searchsorted(items, np.concatenate(answers))
    best = np.maximum.reduceat(scores[lines, right], np.cumsum(counts) - counts)[:, None]
    # Other answers are neither above nor level: nothing compares with what is no number.
    scores[lines, right] = np.nan
    return np.count_nonzero(scores > best, axis=1), np.count_nonzero(scores == best, axis=1) + 1


def pooled(found: Sequence[RetrievalRanks]) -> RetrievalRanks:
    """All questions of several kinds."""
    return RetrievalRanks(
        *(np.concatenate([getattr(one, name) for one in found]) for name in ("above", "tied", "units"))
    )


Spaces = Sequence[ContentVectors]
"""The spaces that are asked in, their similarities added: of each, vectors of the modalities that can be compared."""


@dataclass(frozen=True, slots=True, eq=False)
class Questions:
    """Questions of one or several kinds, on one corpus.

    Attributes:
        corpus: Its contents are what vectors belong to.
        sides: The kinds, and which modality asks for which; none where whole items ask for whole items.

    """

    corpus: Corpus
    sides: Sequence[tuple[RetrievalQuestions, tuple[Modality, Modality] | None]]

    def __len__(self) -> int:
        """Number of questions."""
        return sum(len(asked) for asked, _ in self.sides)

    def ask(self, spaces: Spaces) -> dict[str, RetrievalRanks]:
        """Answer all, by kind. Where no space has both sides all answers are tied, which is chance."""
        return {asked.name: ask(asked, self._blocks(asked, pair, spaces)) for asked, pair in self.sides}

    def _blocks(
        self, asked: RetrievalQuestions, pair: tuple[Modality, Modality] | None, spaces: Spaces
    ) -> list[tuple[Float32[np.ndarray, "_ _"], Float32[np.ndarray, "_ _"]]]:
        if pair is None:
            placed = [item_vectors(self.corpus, space)[0] for space in spaces]
            return [(vectors, vectors[asked.gallery]) for vectors in placed]
        asks, gives = pair
        met = [space for space in spaces if asks in space and gives in space]
        own = self.corpus.contents[gives]
        rows = own.places[np.isin(own.owners, asked.gallery)]
        return [(space[asks], space[gives][rows]) for space in met]


def centred(vectors: ContentVectors) -> ContentVectors:
    """Subtract the shrunken mean of each modality, as a store does."""
    return {modality: centre(some, shrunken_mean(some)) for modality, some in vectors.items()}


def across(
    corpus: Corpus,
    pairs: Sequence[tuple[Modality, Modality]],
    items: Int64[np.ndarray, " n"],
    groups: Int64[np.ndarray, " items"],
    among: Int64[np.ndarray, " m"],
) -> Questions:
    """Return questions that search items of one modality with each content of another, both ways.

    Args:
        corpus: The items.
        pairs: The two sides.
        items: The answers.
        groups: Bootstrap cluster of each item of the corpus.
        among: The candidates, as far as they have a content of the modality that is searched.

    """
    sides = []
    for one, other in pairs:
        for asks, gives in ((one, other), (other, one)):
            both = items[corpus.have(asks, gives)[items]]
            asking = corpus.contents.get(asks)
            if asking is None or not len(both):
                continue
            owners = np.repeat(both, asking.counts[both])
            queries = np.concatenate([asking.of(item) for item in both.tolist()])
            answers = tuple(np.array([owner]) for owner in owners.tolist())
            nobody = np.full(len(owners), -1)
            gallery = corpus.contents[gives].owners
            gallery = gallery[np.isin(gallery, among)]
            asked = RetrievalQuestions(f"{asks} -> {gives}", queries, answers, gallery, nobody, groups[owners])
            sides.append((asked, (asks, gives)))
    return Questions(corpus, sides)


def of_items(
    corpus: Corpus,
    asked: Mapping[str, Sequence[tuple[int, Sequence[int]]]],
    units: Mapping[str, Sequence[int]],
    among: Mapping[str, Int64[np.ndarray, " _"]] | None = None,
) -> Questions:
    """Return questions that search whole items with whole items.

    Args:
        corpus: The items.
        asked: By kind, the query item and the relevant ones, each of them another item.
        units: By kind, the bootstrap cluster of each question.
        among: By kind, the candidates, ascending; all items for a kind that is not named.

    """
    sides = []
    everyone = np.arange(len(corpus))
    for name, pairs in asked.items():
        queries = np.array([item for item, _ in pairs], dtype=np.int64)
        answers = tuple(np.array(right, dtype=np.int64) for _, right in pairs)
        gallery = (among or {}).get(name, everyone)
        sides.append(
            (RetrievalQuestions(name, queries, answers, gallery, queries, np.array(units[name], dtype=np.int64)), None)
        )
    return Questions(corpus, sides)


Kind = Literal["align", "coengage", "label"]
SENTENCES: Final[Mapping[str, str]] = {
    "align": "Contents of different kinds that are of one item attract each other.",
    "coengage": "Items that the same users take one after the other attract each other.",
    "label": "Items of one label attract each other.",
}


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneTask:
    """A training objective and the questions that judge it.

    Attributes:
        objective: The objective.
        train: The training items.
        validation: Questions for early stopping.
        test: Questions for the verdict.
        whole_items: Whether whole items are compared rather than single contents.
        counts: Numbers of training and test data.
        metric: The metric that decides: R@1 for labels, which have so many items that one of them is near the top in
            any case; the reciprocal rank for others, since with few held-out items R@10 would be reached by chance.
        learned: What of a store or a log, beside its contents, decides the steps: pairs of items, or labels.
        targets: Where items should lie for heads in closed form, a row each, zero for those of which nothing is known;
            None where a frozen modality says so.

    """

    objective: FinetuneObjective
    train: Int64[np.ndarray, " n"]
    validation: Questions
    test: Questions
    whole_items: bool
    counts: Mapping[str, int]
    metric: str = "mrr"
    learned: tuple[Int64[np.ndarray, " _"], ...] = ()
    targets: Callable[[], Float64[np.ndarray, "items _"]] | None = None
