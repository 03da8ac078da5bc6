"""Baseline recommenders: random, popularity, recent popularity, item k-nearest neighbours, mean content."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float32, Int64

from mmrec.errors import UsageError
from mmrec.evaluation.cases import Candidates, history_matrix, positive_counts, positive_events
from mmrec.evaluation.scorer import Scorer, UserModelScorer
from mmrec.events.histories import DecayedPopularity, Histories, HistoryPrefix, sample_prefixes
from mmrec.events.kinds import Kinds
from mmrec.recommend.popularity_blend import (
    KNOWN_EVENTS,
    HeldOutEvents,
    PopularityBlend,
    blended_scores,
    fit_popularity_blend,
)
from mmrec.users.model import History


@dataclass(frozen=True, slots=True, eq=False)
class FunctionScorer:
    """A scorer that calls a function of histories and request times."""

    name: str
    function: Callable[[Sequence[History], Int64[np.ndarray, " q"]], Float32[np.ndarray, "q items"]]

    def scores(self, histories: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        """Score all candidates; see `Scorer`."""
        return self.function(histories, now)


@dataclass(frozen=True, slots=True)
class ContentMean:
    """Mean content vector of the history; after `half_life` later events an event counts half."""

    half_life: float = 5.0
    name: str = "content mean"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Take the contents; nothing is learned from events. Raises UsageError where there are none."""
        del train
        vectors = candidates.vectors
        if vectors is None:
            raise UsageError("The content mean needs content vectors: give candidates that have them.")

        def score(histories: Sequence[History], _: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
            means = history_matrix(histories, candidates, self.half_life) @ vectors
            lengths = np.linalg.norm(means, axis=1, keepdims=True)
            return (means / np.maximum(lengths, 1e-12)).astype(np.float32) @ vectors.T

        return FunctionScorer(self.name, score)


@dataclass(frozen=True, slots=True)
class ItemKNN:
    """Item k-nearest neighbours: sums the co-occurrence cosines of an item with the items of the history.

    Each item keeps so many `neighbours`. `shrinkage` is added to the divisor of the cosine, so that few common users
    count little; after `half_life` later events an event of the history counts half.
    """

    neighbours: int = 200
    shrinkage: float = 10.0
    half_life: float = 20.0
    kinds: Kinds = field(default_factory=Kinds)
    name: str = "item-kNN"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Compare all items with common users."""
        columns, which = candidates.places(train.items), positive_events(train, self.kinds)
        which &= columns >= 0
        seen = sp.coo_array(
            (np.ones(int(which.sum()), dtype=np.float32), (train.owners[which], columns[which])),
            shape=(len(train), len(candidates)),
        ).tocsr()
        seen.data[:] = 1  # several events of a user with an item count once
        together = (seen.T @ seen).tocoo()
        norms = np.sqrt(np.asarray(seen.sum(axis=0)))
        first, second = together.coords
        values = together.data / (norms[first] * norms[second] + self.shrinkage)
        values[first == second] = 0
        similar = sp.coo_array((values.astype(np.float32), (first, second)), shape=together.shape).tocsr()
        similar.eliminate_zeros()
        nearest = _nearest(similar, self.neighbours)

        def score(histories: Sequence[History], _: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
            return (history_matrix(histories, candidates, self.half_life) @ nearest).toarray().astype(np.float32)

        return FunctionScorer(self.name, score)


def _nearest(similar: sp.csr_array, most: int) -> sp.csr_array:
    """The largest values of each row; of equal ones the first columns."""
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
    """Number of positive events of an item; `kinds` says which are."""

    kinds: Kinds = field(default_factory=Kinds)
    name: str = "popularity"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Count events."""
        counts = positive_counts(train, candidates, self.kinds).astype(np.float32)
        return FunctionScorer(self.name, lambda histories, _: np.tile(counts, (len(histories), 1)))


@dataclass(frozen=True, slots=True)
class RandomOrder:
    """Draws an order from the seed, the time and the history's length: the same case gets the same order."""

    seed: int = 0
    name: str = "random"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Take the number of candidates; nothing is learned."""
        del train

        def score(histories: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
            drawn = np.empty((len(histories), len(candidates)), dtype=np.float32)
            for line, (history, moment) in enumerate(zip(histories, now.tolist(), strict=True)):
                last = int(history.rows[-1]) if len(history) else -1
                random = np.random.default_rng([self.seed, abs(moment), len(history), last + 1])
                drawn[line] = random.random(len(candidates), dtype=np.float32)
            return drawn

        return FunctionScorer(self.name, score)


@dataclass(frozen=True, slots=True)
class RecentPopularity:
    """Number of positive training events of an item in a window before the request.

    A request after training gets the last window of training. Ties are broken by popularity in all of training.
    """

    window: timedelta = timedelta(days=14)
    kinds: Kinds = field(default_factory=Kinds)
    name: str = "recent popularity"

    def fit(self, train: Histories, candidates: Candidates) -> Scorer:
        """Sort the events by time."""
        columns, which = candidates.places(train.items), positive_events(train, self.kinds)
        which &= columns >= 0
        order = np.argsort(train.times[which], kind="stable")
        window = self.window // timedelta(microseconds=1)
        columns = columns[which][order]
        total = np.bincount(columns, minlength=len(candidates))
        overall = (total / (total.max(initial=0) + 1)).astype(np.float32)
        times = train.times[which][order]

        def score(histories: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
            end = np.minimum(now, times[-1] + 1 if len(times) else now)
            first = np.searchsorted(times, end - window, side="left").tolist()
            last = np.searchsorted(times, end, side="left").tolist()
            scored = np.empty((len(histories), len(overall)), dtype=np.float32)
            counted = np.zeros(len(overall), dtype=np.float32)
            low = high = 0
            # In the order of time, so that each event enters and leaves the window once.
            for line in np.argsort(end, kind="stable").tolist():
                counted += np.bincount(columns[high : last[line]], minlength=len(overall))
                counted -= np.bincount(columns[low : first[line]], minlength=len(overall))
                low, high = first[line], last[line]
                scored[line] = counted + overall
            return scored

        return FunctionScorer(self.name, score)


_USERS: Final = 100


@dataclass(frozen=True, eq=False)
class PopularityBlendScorer:
    """Mixes popularity at the time and similarity to the history, by shares fitted to held-out training events."""

    interests: UserModelScorer
    popular: Scorer
    blend: PopularityBlend
    name: str

    def scores(self, histories: Sequence[History], now: Int64[np.ndarray, " q"]) -> Float32[np.ndarray, "q items"]:
        """Score all candidates; see `Scorer`."""
        scored = self.popular.scores(histories, now)
        shares = [self.blend.share(len(past)) for past in histories]
        some = np.flatnonzero(shares)
        similarity = self.interests.scores([histories[line] for line in some.tolist()], now[some])
        for line, similar in zip(some.tolist(), similarity, strict=True):
            scored[line] = blended_scores(scored[line], similar, shares[line])
        return scored


def fit_popularity_blend_scorer(
    train: Histories, candidates: Candidates, kinds: Kinds, interests: UserModelScorer, popular: Scorer
) -> Scorer:
    """Fit the shares to the first events of training users; the interests alone where there are too few."""
    weights = train.weights(kinds.weights)
    popularity = DecayedPopularity(train, weights, candidates.rows)
    cases = [
        _held_out(one, train, weights, interests, popularity)
        for one in sample_prefixes(train, weights, KNOWN_EVENTS, _USERS)
    ]
    blend = fit_popularity_blend([one for one in cases if one is not None])
    return interests if blend is None else PopularityBlendScorer(interests, popular, blend, interests.name)


def _held_out(
    one: HistoryPrefix,
    train: Histories,
    weights: Float32[np.ndarray, " n"],
    interests: UserModelScorer,
    popularity: DecayedPopularity,
) -> HeldOutEvents | None:
    candidates, history = interests.candidates, History.of(train, weights, one.past)
    places = candidates.places(one.targets)
    left = np.setdiff1d(np.arange(len(candidates)), candidates.places(history.rows))
    targets = np.searchsorted(left, places[places >= 0])
    if not len(targets):
        return None
    similarity = interests.scores([history], np.array([one.moment]))[0]
    missed = int((places < 0).sum())
    return HeldOutEvents(one.user, one.known, popularity.at(one.moment)[left], similarity[left], targets, missed)
