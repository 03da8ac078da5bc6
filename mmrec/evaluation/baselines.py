"""Baseline recommenders: random, popularity, recent popularity, item k-nearest neighbours, mean content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Int64

from mmrec.errors import UsageError
from mmrec.evaluation.questions import Candidates, counts, past_matrix, speaking
from mmrec.evaluation.scorer import Scorer, UserModelScorer
from mmrec.events.histories import DecayedPopularity, Histories, Opening, openings
from mmrec.events.kinds import Kinds
from mmrec.recommend.popularity_blend import (
    KNOWN_EVENTS,
    HeldOutEvents,
    PopularityBlend,
    blended_scores,
    fit_popularity_blend,
)
from mmrec.users.model import History


@dataclass(frozen=True, slots=True)
class ContentMean:
    """Averages the content vectors of the past; after `half_life` later events an event counts half."""

    half_life: float = 5.0
    name: str = "content mean"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Take the contents; nothing is learned of behaviour. Raises UsageError where there are none."""
        del train
        if candidates.vectors is None:
            raise UsageError("The content mean needs content vectors: give candidates that have them.")
        return _FittedContentMean(self.name, candidates, candidates.vectors, self.half_life)


@dataclass(frozen=True, slots=True, eq=False)
class _FittedContentMean:
    name: str
    candidates: Candidates
    vectors: Float32[np.ndarray, "items dim"]
    half_life: float

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"rows": self.candidates.rows, "vectors": self.vectors}

    def scores(self, pasts: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        del now
        means = past_matrix(pasts, self.candidates, self.half_life) @ self.vectors
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        return (means / np.maximum(lengths, 1e-12)).astype(np.float32) @ self.vectors.T


@dataclass(frozen=True, slots=True)
class ItemKNN:
    """Sums the similarities of an item to those of the past.

    Attributes:
        neighbours: How many of the most similar items each item keeps.
        shrinkage: Added to the divisor of the cosine, so that two people who happen to agree prove little.
        half_life: After so many later events an event of the past counts half.
        kinds: Which events speak for an item.
        name: What it is called in tables.

    """

    neighbours: int = 200
    shrinkage: float = 10.0
    half_life: float = 20.0
    kinds: Kinds = field(default_factory=Kinds)
    name: str = "item-kNN"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Compare all items that anyone met together."""
        columns, which = candidates.places(train.items), speaking(train, self.kinds)
        which &= columns >= 0
        met = sp.coo_array(
            (np.ones(int(which.sum()), dtype=np.float32), (train.owners[which], columns[which])),
            shape=(len(train), len(candidates)),
        ).tocsr()
        met.data[:] = 1  # who met an item several times is one person
        together = (met.T @ met).tocoo()
        norms = np.sqrt(np.asarray(met.sum(axis=0)))
        first, second = together.coords
        values = together.data / (norms[first] * norms[second] + self.shrinkage)
        values[first == second] = 0
        similar = sp.coo_array((values.astype(np.float32), (first, second)), shape=together.shape).tocsr()
        similar.eliminate_zeros()
        return _FittedItemKNN(self.name, candidates, _nearest(similar, self.neighbours), self.half_life)


@dataclass(frozen=True, slots=True, eq=False)
class _FittedItemKNN:
    name: str
    candidates: Candidates
    similar: sp.csr_array
    half_life: float

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"data": self.similar.data, "indices": self.similar.indices, "indptr": self.similar.indptr}

    def scores(self, pasts: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        del now
        return (past_matrix(pasts, self.candidates, self.half_life) @ self.similar).toarray().astype(np.float32)


def _nearest(similar: sp.csr_array, most: int) -> sp.csr_array:
    """The largest values of each row; of those level the first columns."""
    similar.sort_indices()
    lines = np.repeat(np.arange(similar.shape[0]), np.diff(similar.indptr))
    order = np.lexsort((similar.indices, -similar.data, lines))
    ranks = np.empty(len(order), dtype=np.int64)
    ranks[order] = np.arange(len(order)) - similar.indptr[lines[order]]
    keep = ranks < most
    entries = (similar.data[keep], (lines[keep], similar.indices[keep]))
    kept = sp.coo_array(entries, shape=similar.shape).tocsr()
    kept.sort_indices()
    return kept


@dataclass(frozen=True, slots=True)
class Popularity:
    """Counts the events that speak for an item; `kinds` says which do."""

    kinds: Kinds = field(default_factory=Kinds)
    name: str = "popularity"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Count events."""
        return _FittedPopularity(self.name, counts(train, candidates, self.kinds))


@dataclass(frozen=True, slots=True, eq=False)
class _FittedPopularity:
    name: str
    counts: Int64[np.ndarray, " items"]

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"counts": self.counts}

    def scores(self, pasts: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        del now
        return np.tile(self.counts.astype(np.float32), (len(pasts), 1))


@dataclass(frozen=True, slots=True)
class RandomOrder:
    """Draws an order from the seed, the moment and the length of the past: the same question gets the same order."""

    seed: int = 0
    name: str = "random"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Take the number of candidates; nothing is learned."""
        del train
        return _FittedRandomOrder(self.name, self.seed, len(candidates))


@dataclass(frozen=True, slots=True)
class _FittedRandomOrder:
    name: str
    seed: int
    items: int

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"seed": np.array([self.seed]), "items": np.array([self.items])}

    def scores(self, pasts: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        drawn = np.empty((len(pasts), self.items), dtype=np.float32)
        for line, (past, moment) in enumerate(zip(pasts, now.tolist(), strict=True)):
            last = int(past.rows[-1]) if len(past) else -1
            seed = [self.seed, abs(moment), len(past), last + 1]
            drawn[line] = np.random.default_rng(seed).random(self.items, dtype=np.float32)
        return drawn


@dataclass(frozen=True, slots=True)
class RecentPopularity:
    """Counts the training events that speak for an item within a window before the moment of asking.

    A moment after training gets the last window of training. Items level in the window are told apart by their
    popularity in all of training.

    Attributes:
        window: Length of the window.
        kinds: Which events speak for an item.
        name: What it is called in tables.

    """

    window: timedelta = timedelta(days=14)
    kinds: Kinds = field(default_factory=Kinds)
    name: str = "recent popularity"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Sort the events by time."""
        columns, which = candidates.places(train.items), speaking(train, self.kinds)
        which &= columns >= 0
        order = np.argsort(train.times[which], kind="stable")
        window = self.window // timedelta(microseconds=1)
        columns = columns[which][order]
        total = np.bincount(columns, minlength=len(candidates))
        behind = (total / (total.max(initial=0) + 1)).astype(np.float32)
        return _FittedRecentPopularity(self.name, columns, train.times[which][order], behind, window)


@dataclass(frozen=True, slots=True, eq=False)
class _FittedRecentPopularity:
    name: str
    columns: Int64[np.ndarray, " n"]
    times: Int64[np.ndarray, " n"]
    behind: Float32[np.ndarray, "items"]
    window: int

    @property
    def items(self) -> int:
        return len(self.behind)

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        return {"columns": self.columns, "times": self.times, "behind": self.behind, "window": np.array([self.window])}

    def scores(self, pasts: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        end = np.minimum(now, self.times[-1] + 1 if len(self.times) else now)
        first = np.searchsorted(self.times, end - self.window, side="left")
        last = np.searchsorted(self.times, end, side="left")
        scored = np.empty((len(pasts), self.items), dtype=np.float32)
        counted = np.zeros(self.items, dtype=np.float32)
        low = high = 0
        # Moments in their order, so that each event enters and leaves the window once.
        for line in np.argsort(end, kind="stable").tolist():
            counted += self._counts(high, int(last[line]))
            counted -= self._counts(low, int(first[line]))
            low, high = int(first[line]), int(last[line])
            scored[line] = counted + self.behind
        return scored

    def _counts(self, start: int, stop: int) -> Int64[np.ndarray, "items"]:
        return np.bincount(self.columns[start:stop], minlength=self.items)


_PEOPLE = 100


@dataclass(frozen=True, eq=False)
class PopularityBlendScorer:
    """Mixes what is popular and what is like the past, by the shares that held-out events of training call for.

    Attributes:
        interests: Places users by their past.
        popular: Popularity at the moment of asking.
        fading: The shares.
        name: What it is called in tables.

    """

    interests: UserModelScorer
    popular: Scorer
    fading: PopularityBlend
    name: str

    @property
    def state(self) -> Mapping[str, np.ndarray]:
        """Where the items lie, the shares, and what is popular."""
        return {**self.popular.state, **self.interests.state, "fading": np.array([self.fading.limit, self.fading.half])}

    def scores(self, pasts: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        """Score all candidates; see `Scorer`."""
        scored = self.popular.scores(pasts, now)
        shares = [self.fading.share(len(past)) for past in pasts]
        some = np.flatnonzero(shares)
        likeness = self.interests.scores([pasts[line] for line in some.tolist()], now[some])
        for line, alike in zip(some.tolist(), likeness, strict=True):
            scored[line] = blended_scores(scored[line], alike, shares[line])
        return scored


def fit_popularity_blend_scorer(
    train: Histories, candidates: Candidates, kinds: Kinds, interests: UserModelScorer, popular: Scorer
) -> Scorer:
    """Fit the shares to the openings of users of the training part; the interests alone where there are too few."""
    weights = train.weights(kinds.weights)
    popularity = DecayedPopularity(train, weights, candidates.rows)
    asked = []
    for one in openings(train, weights, KNOWN_EVENTS, _PEOPLE):
        question = _asked(one, train, weights, interests, popularity)
        if question is not None:
            asked.append(question)
    fading = fit_popularity_blend(asked)
    return interests if fading is None else PopularityBlendScorer(interests, popular, fading, interests.name)


def _asked(
    one: Opening,
    train: Histories,
    weights: Float32[np.ndarray, " n"],
    interests: UserModelScorer,
    popularity: DecayedPopularity,
) -> HeldOutEvents | None:
    candidates, at = interests.candidates, one.past
    kinds = tuple(train.kind_names[kind] for kind in train.kinds[at].tolist())
    strengths = None if train.strengths is None else train.strengths[at]
    past = History(train.items[at], kinds, weights[at], train.times[at], strengths)
    places = candidates.places(one.targets)
    left = np.setdiff1d(np.arange(len(candidates)), candidates.places(past.rows))
    targets = np.searchsorted(left, places[places >= 0])
    if not len(targets):
        return None
    likeness = interests.scores([past], np.array([one.moment]))[0]
    return HeldOutEvents(
        one.person, one.known, popularity.at(one.moment)[left], likeness[left], targets, int((places < 0).sum())
    )
