"""Untrained user model: a few interest vectors, clustered from the content vectors of the items in a user's history.

Events are clustered by average linkage and each cluster gives one vector, as in Pal et al., "PinnerSage", KDD 2020. An
event's weight is that of its kind, decayed by its age and by the number of events since.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mmrec.unit import unit
from mmrec.users.model import History, Interests, RequestTimes, request_times

DAY: Final = 86_400_000_000
"""Microseconds."""


@dataclass(frozen=True, slots=True, eq=False)
class NegativeFeedback:
    """Items that a user disliked: unit vectors, and the strength of each from 0 to 1."""

    vectors: Float32[np.ndarray, "h dim"]
    strengths: Float32[np.ndarray, " h"]


def liked_events(history: History) -> Bool[np.ndarray, " n"]:
    """Return which events are positive feedback on an item whose feedback is positive in sum."""
    _, groups = np.unique(history.rows, return_inverse=True)
    return (history.weights > 0) & (np.bincount(groups, history.weights)[groups] > 0)


def negative_feedback(history: History, vectors: Float32[np.ndarray, "n dim"]) -> NegativeFeedback:
    """Return the items whose events add up to a negative weight; `vectors` are those of the events' items."""
    rows, first, groups = np.unique(history.rows, return_index=True, return_inverse=True)
    net = np.bincount(groups, history.weights, len(rows))
    disliked = (net < 0) & vectors[first].any(axis=1)
    strengths = np.minimum(1, -net[disliked] / max(1e-9, float(np.abs(history.weights).max(initial=0))))
    return NegativeFeedback(unit(vectors[first[disliked]]), strengths.astype(np.float32))


@dataclass(frozen=True, slots=True)
class ContentInterests:
    """Interests as weighted means of content vectors; items keep their content vectors.

    Attributes:
        dim: Length of the items' vectors.
        most: Interests at most; the weight of smaller ones goes to the nearest of these.
        min_cosine: Mean cosine from which events are of one interest. Between centred vectors of different subjects it
            is about 0, between those of one subject .1 to .5.
        min_share: Least share of an interest, so that it has a place in a list of twenty.
        shrinkage: Weight of the sum of all events in each interest: one event alone is a noisy sign of a subject. On
            four small catalogs the share of the right subject in the top five, after three events, was .73 at 0, .75 at
            .5.
        recent: Number of events of the short term.
        short_share: Share of the short term where it continues interests of the long term.
        switched_share: Its share where it is of another subject altogether.
        half_events: Events after which the weight of an older one is halved, in the long term.
        half_days: Days after which it is halved; and after which the share of the short term is, without new events.
        negative_weight: How much of a disliked item's vector is subtracted from an interest.
        events: Newest events that are used.

    """

    dim: int
    most: int = 4
    min_cosine: float = 0.1
    min_share: float = 0.06
    shrinkage: float = 0.5
    recent: int = 3
    short_share: float = 0.5
    switched_share: float = 0.9
    half_events: float = 30.0
    half_days: float = 90.0
    negative_weight: float = 0.5
    events: int = 200

    @property
    def name(self) -> str:
        """Its name in tables and manifests."""
        return "content interests"

    def items(
        self, rows: Int64[np.ndarray, " n"], contents: Float32[np.ndarray, "n content"]
    ) -> Float32[np.ndarray, "n content"]:
        """Return the fused vectors as they are: shorter than 1 where an item lacks a modality that others have."""
        del rows
        return contents

    def users(
        self, histories: Sequence[History], vectors: Sequence[Float32[np.ndarray, "_ dim"]], now: RequestTimes = None
    ) -> list[Interests]:
        """Return the interests of users; see `mmrec.users.model.UserModel`."""
        times = request_times(histories, now)
        return [self._interests(*one) for one in zip(histories, vectors, times, strict=True)]

    def _interests(self, history: History, vectors: Float32[np.ndarray, "n dim"], now: int) -> Interests:
        liked = liked_events(history) & vectors.any(axis=1)
        places = np.flatnonzero(liked)[-self.events :]
        if not len(places):
            return Interests.none(self.dim)
        some = vectors[places]
        clusters = self._clusters(unit(some))
        long = self._long_term(history, places, now)
        short = np.where(np.arange(len(places)) >= len(places) - self.recent, history.weights[places], 0)
        short_share = self._short_share(clusters, long, short) * _decay(now - history.times[places[-1]], self.half_days)
        weights = (1 - short_share) * long / long.sum() + short_share * short / short.sum()
        centres, shares = self._centres(some, clusters, weights)
        centres = self._subtract(centres, negative_feedback(history, vectors))
        kept = centres.any(axis=1)
        if not kept.any():
            return Interests.none(self.dim)
        shares = (shares[kept] / shares[kept].sum()).astype(np.float32)
        return Interests(centres[kept], shares, float(short_share))

    def _clusters(self, units: Float32[np.ndarray, "n dim"]) -> Int64[np.ndarray, " n"]:
        """Number of each event's interest, from 0."""
        if len(units) == 1:
            return np.zeros(1, dtype=np.int64)
        from scipy.cluster.hierarchy import fcluster, linkage  # noqa: PLC0415 - opening a store needs no SciPy
        from scipy.spatial.distance import squareform  # noqa: PLC0415

        distances = np.maximum(0, 1 - units @ units.T)
        np.fill_diagonal(distances, 0)
        tree = linkage(squareform(distances, checks=False), method="average")
        return fcluster(tree, 1 - self.min_cosine, criterion="distance").astype(np.int64) - 1

    def _long_term(self, history: History, places: Int64[np.ndarray, " m"], now: int) -> Float32[np.ndarray, " m"]:
        since = np.arange(len(places) - 1, -1, -1)
        ages = now - history.times[places]
        # The newest event counts in full: where all are old, they are still all there is.
        by_time = _decay(ages - ages.min(), self.half_days)
        return (history.weights[places] * by_time * 0.5 ** (since / self.half_events)).astype(np.float32)

    def _short_share(
        self, clusters: Int64[np.ndarray, " m"], long: Float32[np.ndarray, " m"], short: Float32[np.ndarray, " m"]
    ) -> float:
        """Between the two shares, by the part of the short term that is of interests unknown to the events before."""
        before = np.where(short > 0, 0, long)
        if not before.any():
            return self.short_share
        count = int(clusters.max()) + 1
        known = np.bincount(clusters, before, count) / before.sum()
        lately = np.bincount(clusters, short, count) / short.sum()
        unknown = float((lately * np.maximum(0, 1 - known * np.count_nonzero(known))).sum())
        return self.short_share + (self.switched_share - self.short_share) * unknown

    def _centres(
        self, vectors: Float32[np.ndarray, "m dim"], clusters: Int64[np.ndarray, " m"], weights: np.ndarray
    ) -> tuple[Float32[np.ndarray, "g dim"], Float32[np.ndarray, " g"]]:
        """Unit vectors of the heaviest clusters, heaviest first, and their shares with those nearest to them."""
        count = int(clusters.max()) + 1
        sums = np.zeros((count, vectors.shape[1]), dtype=np.float32)
        np.add.at(sums, clusters, (vectors * weights[:, None]).astype(np.float32))
        shares = np.bincount(clusters, weights, count)
        order = np.argsort(-shares, kind="stable")
        centres = unit(sums[order] + self.shrinkage * shares[order][:, None].astype(np.float32) * sums.sum(axis=0))
        kept, rest = centres[: self.most], centres[self.most :]
        counted = shares[order][: self.most].copy()
        np.add.at(counted, (rest @ kept.T).argmax(axis=1), shares[order][self.most :])
        counted = np.maximum(counted, self.min_share)
        again = np.argsort(-counted, kind="stable")
        return kept[again], counted[again].astype(np.float32)

    def _subtract(
        self, centres: Float32[np.ndarray, "g dim"], disliked: NegativeFeedback
    ) -> Float32[np.ndarray, "g dim"]:
        """Subtract each disliked item from the interest that it is nearest to, in proportion to their cosine."""
        if not len(disliked.vectors):
            return centres
        cosines = centres @ disliked.vectors.T
        nearest = np.arange(len(centres))[:, None] == cosines.argmax(axis=0)
        pulls = np.where(nearest, np.maximum(0, cosines) * disliked.strengths, 0).astype(np.float32)
        # Many similar disliked items must not turn an interest into its opposite.
        pulls /= np.maximum(1, pulls.sum(axis=1, keepdims=True))
        return unit(centres - np.float32(self.negative_weight) * (pulls @ disliked.vectors))


def _decay(ages: np.ndarray | np.int64 | int, half_days: float) -> np.ndarray:
    return np.asarray(0.5 ** (np.maximum(0, ages) / (half_days * DAY)))
