"""A user's list: candidates by interest, negative feedback, popular items, diversity, explanations."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Final

import numpy as np
from jaxtyping import Float32, Int64

from indexers.vectors import NO_ROW
from mmrec.events.ratings import MIN_REASON_STRENGTH
from mmrec.fusion.fusion import Fusion
from mmrec.recommend.answer import CandidateSource, ListOptions, Reason, Recommended
from mmrec.recommend.diversify import blend, diversify, feedback_penalties, trained_feedback_penalties
from mmrec.recommend.popular_list import PopularList
from mmrec.recommend.popularity_blend import PopularityBlend, blended_scores
from mmrec.recommend.user_events import UserContext
from mmrec.recommend.user_item_space import UserItemSpace
from mmrec.snapshot import Snapshot, hit_of, title_of
from mmrec.unit import unit
from mmrec.users.interests import NegativeFeedback, liked_events, negative_feedback
from mmrec.users.model import Interests

_MAX_OVERFETCH: Final = 500
"""Most excluded rows for which a search fetches more; beyond that they are excluded by a filter."""

FULL_WEIGHT: Final = 3.0
"""Sum of event weights from which popularity has no share in a list: three views, two clicks, or one like.

This holds where the log has too few events to fit `mmrec.recommend.popularity_blend`.
"""

DEPTH: Final = 200
"""Candidates that are blended and diversified, where the list itself is not longer."""

MAX_REASONS: Final = 3


@dataclass(frozen=True, slots=True, eq=False)
class RankedItems:
    """Items found by one vector, best first.

    They are ordered by `sort_scores`: the scores, lowered by negative feedback. `by_vector` says that a search found
    them, so that the scores are cosines with a vector of the user.
    """

    rows: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    sort_scores: Float32[np.ndarray, " n"]
    by_vector: bool = True


@dataclass(frozen=True, slots=True, eq=False)
class CandidateList:
    """Candidates of a list, best first, with the ranked list that each came from and its score there.

    `relevance` falls from 1 to 0, and never rises.
    """

    rows: Int64[np.ndarray, " n"]
    lists: Int64[np.ndarray, " n"]
    scores: Float32[np.ndarray, " n"]
    relevance: Float32[np.ndarray, " n"]


@dataclass(frozen=True, slots=True, eq=False)
class PlacedUser:
    """A user in the space of the items.

    `text` is the unit vector of the request's text, `disliked` the negative feedback, `liked` the unit content vectors
    of liked items, none without negative feedback.
    """

    interests: Interests
    text: Float32[np.ndarray, " dim"] | None
    disliked: NegativeFeedback
    liked: Float32[np.ndarray, "l content"]

    @property
    def vectors(self) -> Float32[np.ndarray, "m dim"]:
        """The query vectors: the interests, then the text."""
        found = self.interests.vectors
        return found if self.text is None else np.concatenate([found, self.text[None]])

    @property
    def weights(self) -> Float32[np.ndarray, " m"]:
        """Share of each; a text counts as much as the whole history."""
        found = self.interests.weights
        if self.text is None:
            return found
        return np.append(found / 2, np.float32(0.5 if len(found) else 1))


def place_user(
    space: UserItemSpace, context: UserContext, text: Float32[np.ndarray, " content"] | None, now: int
) -> PlacedUser:
    """Place a user by their history, and by a text's fused vector."""
    history = context.history
    vectors = space.vectors(history.rows)
    interests = space.model.users([history], [vectors], now)[0]
    placed = None if text is None else unit(space.model.items(np.array([-1], dtype=np.int64), text[None]))[0]
    any_disliked = (history.weights < 0).any()
    contents = space.contents(history.rows) if any_disliked else np.zeros((len(history), 0), dtype=np.float32)
    liked = unit(contents[liked_events(history)])
    return PlacedUser(interests, placed, negative_feedback(history, contents), liked)


def popular_share(context: UserContext, placed: PlacedUser, fitted: PopularityBlend | None = None) -> float:
    """Share of popularity in a list: 1 for unknown users, 0 for well-known ones, or with a text."""
    if placed.text is not None:
        return 0.0
    if not len(placed.vectors):
        return 1.0
    if fitted is not None:
        return 1 - fitted.share(len(context.history))
    weights = context.history.weights
    return max(0.0, 1 - float(weights[weights > 0].sum()) / FULL_WEIGHT)


def rank_candidates(
    space: UserItemSpace,
    context: UserContext,
    placed: PlacedUser,
    popular: PopularList,
    allowed: Int64[np.ndarray, " a"] | None,
    options: ListOptions,
    fitted: PopularityBlend | None = None,
) -> tuple[CandidateList, Int64[np.ndarray, " k"]]:
    """Return the candidates, and the positions among them of those to show, in order; popular ones are the last list.

    With a fitted blend, popularity and similarity are mixed by score, else by seats.
    """
    depth = max(DEPTH, 2 * options.k)
    excluded = np.union1d(context.seen, context.disliked) if options.exclude_seen else context.disliked
    share = popular_share(context, placed, fitted)
    weights = np.append(placed.weights * np.float32(1 - share), np.float32(share))
    # Twice the seats of the strongest interest, and long enough to be the whole list.
    deep = min(depth, max(2 * options.k, int(np.ceil(2 * depth * weights[:-1].max(initial=0)))))
    lists = search_candidates(space, placed.vectors, deep, excluded, allowed)
    lists.append(popular_candidates(popular.known() if lists else popular, depth, excluded))
    if fitted is not None and 0 < share < 1:
        candidates = scored_candidates(space, placed, lists, 1 - share, depth)
    else:
        candidates = interleaved_candidates(apply_feedback(space, lists, placed), weights, depth)
    diversity, shape = float(options.diversity), (len(candidates.rows), 0)
    units = unit(space.contents(candidates.rows)) if diversity else np.zeros(shape, dtype=np.float32)
    return candidates, diversify(candidates.relevance, units, options.k, diversity)


def search_candidates(
    space: UserItemSpace,
    vectors: Float32[np.ndarray, "m dim"],
    depth: int,
    excluded: Int64[np.ndarray, " s"],
    allowed: Int64[np.ndarray, " a"] | None,
) -> list[RankedItems]:
    """Search with each vector, `depth` items deep without the excluded rows."""
    if not len(vectors):
        return []
    if len(excluded) > _MAX_OVERFETCH:
        allowed = np.setdiff1d(space.index.rows if allowed is None else allowed, excluded)
    found = space.index.search(vectors, depth + min(len(excluded), _MAX_OVERFETCH), allowed=allowed)
    kept = (found.rows != NO_ROW) & ~np.isin(found.rows, excluded)
    lists = []
    for rows, scores, good in zip(found.rows, found.scores, kept, strict=True):
        lists.append(RankedItems(rows[good][:depth], scores[good][:depth], scores[good][:depth]))
    return lists


def popular_candidates(popular: PopularList, depth: int, excluded: Int64[np.ndarray, " s"]) -> RankedItems:
    """The popular items as one more ranked list; sort scores fall evenly, as only their order counts."""
    good = ~np.isin(popular.rows, excluded)
    rows, scores = popular.rows[good][:depth], popular.scores[good][:depth]
    return RankedItems(rows, scores, np.linspace(1, 0, len(rows), dtype=np.float32), by_vector=False)


def apply_feedback(space: UserItemSpace, lists: Sequence[RankedItems], placed: PlacedUser) -> list[RankedItems]:
    """Lower items that are similar to disliked ones, in all lists."""
    disliked = placed.disliked
    if not len(disliked.vectors):
        return list(lists)
    rows = np.unique(np.concatenate([one.rows for one in lists]))
    units = unit(space.contents(rows))
    cosines = units @ disliked.vectors.T
    liked = (units @ placed.liked.T).max(axis=1, initial=0)
    lowered = []
    for one in lists:
        places = np.searchsorted(rows, one.rows)
        if one.by_vector and space.trained:
            lost = trained_feedback_penalties(cosines[places], disliked.strengths, liked[places], one.scores)
        else:
            scores = one.scores if one.by_vector else np.zeros_like(one.scores)
            lost = feedback_penalties(cosines[places], disliked.strengths, scores)
        ranks = one.sort_scores - lost
        order = np.argsort(-ranks, kind="stable")
        lowered.append(RankedItems(one.rows[order], one.scores[order], ranks[order], one.by_vector))
    return lowered


def interleaved_candidates(
    lists: Sequence[RankedItems], weights: Float32[np.ndarray, " m"], most: int
) -> CandidateList:
    """Merge lists by seats; relevance is the position of an item's sort score between the ends of its list."""
    blended = blend([one.rows for one in lists], weights, most)
    scores = np.zeros(len(blended.rows), dtype=np.float32)
    relevance = np.zeros(len(blended.rows), dtype=np.float32)
    for which, one in enumerate(lists):
        here = blended.lists == which
        places = blended.places[here]
        scores[here] = one.scores[places]
        relevance[here] = _between_ends(one.sort_scores)[places]
    # Relevance must not rise along the list: without diversity its order is the order to show.
    relevance = np.minimum.accumulate(relevance) if len(relevance) else relevance
    return CandidateList(blended.rows, blended.lists, scores, relevance)


def scored_candidates(
    space: UserItemSpace, placed: PlacedUser, lists: Sequence[RankedItems], share: float, most: int
) -> CandidateList:
    """Merge lists by the scores of `mmrec.recommend.popularity_blend`, lowered by negative feedback.

    The last list is the popular one, as `popular_candidates` gives it. `share` is that of the similarity.
    """
    popular, vectors, disliked = lists[-1], placed.vectors, placed.disliked
    rows = np.unique(np.concatenate([one.rows for one in lists]))
    near = space.vectors(rows) @ vectors.T
    popularity = np.zeros(len(rows), dtype=np.float32)
    popularity[np.searchsorted(rows, popular.rows)] = popular.scores
    similarity = near.max(axis=1)
    ranks = blended_scores(popularity, similarity, share)
    by_history = blended_scores(np.zeros_like(popularity), similarity, share) >= ranks / 2
    if len(disliked.vectors):
        cosines = unit(space.contents(rows)) @ disliked.vectors.T
        ranks -= feedback_penalties(cosines, disliked.strengths, share * similarity)
    order = np.argsort(-ranks, kind="stable")[:most]
    which = np.where(by_history, near.argmax(axis=1), len(vectors))
    scores = np.where(by_history, similarity, popularity)
    return CandidateList(rows[order], which[order], scores[order], _between_ends(ranks[order]))


def _between_ends(ranks: Float32[np.ndarray, " n"]) -> Float32[np.ndarray, " n"]:
    if not len(ranks):
        return ranks
    span = ranks[0] - ranks[-1]
    return (ranks - ranks[-1]) / span if span > 0 else np.ones_like(ranks)


def make_hits(
    snapshot: Snapshot,
    space: UserItemSpace,
    context: UserContext,
    placed: PlacedUser,
    ranked: tuple[CandidateList, Int64[np.ndarray, " k"]],
    *,
    explain: bool,
) -> list[Recommended]:
    """Look up the items to show, with the reasons for each where these are requested."""
    candidates, order = ranked
    rows = candidates.rows[order]
    stored = snapshot.items.by_row(rows.tolist())
    because: list[tuple[Reason, ...]] = [()] * len(rows)
    if explain:
        past, contents = space.contents(context.history.rows), space.contents(rows)
        because = _titled(snapshot, reasons(snapshot.generation.fusion, context, past, contents))
    users, vectors = placed.vectors, space.vectors(rows)
    hits = []
    for at, row in enumerate(rows.tolist()):
        if row in stored:
            which, score = int(candidates.lists[order[at]]), float(candidates.scores[order[at]])
            shares = {"popular": score} if which == len(users) else space.shares(users[which], vectors[at])
            hit, source = hit_of(stored[row], score, shares), _source(placed, which)
            own = {one.name: getattr(hit, one.name) for one in fields(hit)}
            interest = which if source == "history" else None
            hits.append(Recommended(**own, source=source, interest=interest, because=because[at]))
    return hits


def _source(placed: PlacedUser, which: int) -> CandidateSource:
    if which < len(placed.interests.vectors):
        return "history"
    return "text" if which < len(placed.vectors) else "popular"


def reasons(
    fusion: Fusion, context: UserContext, past: Float32[np.ndarray, "n dim"], items: Float32[np.ndarray, "m dim"]
) -> list[tuple[Reason, ...]]:
    """Return for each item the liked items of the history that are most similar to it by content, each once.

    An item that was rated below average is no reason, even where its event has a small positive weight. `past` has the
    fused vectors of the history, event by event, `items` those of the items to explain.
    """
    history = context.history
    good = history.weights > 0
    if history.strengths is not None:
        good &= ~(history.strengths < MIN_REASON_STRENGTH)
    good &= ~np.isin(history.rows, context.disliked)
    latest = {int(history.rows[place]): place for place in np.flatnonzero(good).tolist()}
    places = sorted(latest.values())
    if not places:
        return [()] * len(items)
    cosines = unit(items) @ unit(past[places]).T
    best = np.argsort(-cosines, axis=1, kind="stable")[:, :MAX_REASONS]
    return [
        tuple(_reason(fusion, context, places[one], past[places[one]], item) for one in order.tolist() if row[one] > 0)
        for item, row, order in zip(items, cosines, best, strict=True)
    ]


def _reason(
    fusion: Fusion,
    context: UserContext,
    place: int,
    past: Float32[np.ndarray, " dim"],
    item: Float32[np.ndarray, " dim"],
) -> Reason:
    length = float(np.linalg.norm(past) * np.linalg.norm(item))
    shares = {name: share / length for name, share in fusion.contributions(past, item).items()}
    return Reason(context.ids[place], context.history.kinds[place], sum(shares.values()), shares)


def _titled(snapshot: Snapshot, because: list[tuple[Reason, ...]]) -> list[tuple[Reason, ...]]:
    """Add the titles of the items of the history."""
    past = snapshot.items.by_id(sorted({one.id for some in because for one in some}))
    titles = {item_id: title_of(item) for item_id, item in past.items()}
    return [tuple(replace(one, title=titles.get(one.id, "")) for one in some) for some in because]
