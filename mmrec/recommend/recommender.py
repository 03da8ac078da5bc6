"""Recommend from an open store: a user's events, their vectors in the space of the items, candidates, and the list."""

import time
from collections.abc import Callable, Sequence
from threading import Lock

from mmrec.queries import QueryMaker
from mmrec.query import Part
from mmrec.recommend.answer import ListOptions, Recommendations
from mmrec.recommend.popular_list import PopularList, PopularLists
from mmrec.recommend.user_events import HistoryEvent, StoreEvents, user_context
from mmrec.recommend.user_item_space import UserItemSpace, content_space
from mmrec.recommend.user_list import make_hits, place_user, popular_share, rank_candidates
from mmrec.snapshot import Snapshot


class Recommender:
    """Recommends from the current snapshot and events. Safe to use from several threads."""

    def __init__(
        self,
        get_snapshot: Callable[[], Snapshot],
        queries: QueryMaker,
        events: StoreEvents,
        make_space: Callable[[Snapshot], UserItemSpace] = content_space,
    ) -> None:
        """`get_snapshot` gives the current snapshot; `make_space` is called once for each."""
        self._get_snapshot = get_snapshot
        self._queries = queries
        self._events = events
        self._make_space = make_space
        self._lock = Lock()
        self._ready: tuple[Snapshot, UserItemSpace, PopularLists] | None = None

    def recommend(
        self, user: str | None, history: Sequence[tuple[str, str]], text: str | None, options: ListOptions
    ) -> Recommendations:
        """Make a list from the user's recorded events, more events (oldest first: item id and kind), and a text."""
        started = time.perf_counter()
        now = time.time_ns() // 1000
        snapshot, space, popular_lists = self._prepared()
        events = [] if user is None else self._events.history(user)
        unknown_user = user is not None and not events
        events += [HistoryEvent(item, kind, now) for item, kind in history]
        rows = snapshot.items.rows_of(list(dict.fromkeys(one.item for one in events)))
        context = user_context(events, rows, self._events.kinds, self._events.ratings(events))
        query = None if text is None else self._queries.make([Part("text", text)], snapshot, None)
        placed = place_user(space, context, query, now)
        blends = text is None and len(placed.vectors)
        blend = self._events.popularity_blend(snapshot, space) if blends else None
        share = popular_share(context, placed, blend)
        popular = popular_lists.read(self._events.popular(), options.where) if share else PopularList.empty()
        allowed = snapshot.rows_allowed(options.where, None)
        ranked = rank_candidates(space, context, placed, popular, allowed, options, blend)
        hits = make_hits(snapshot, space, context, placed, ranked, explain=options.explain)
        return Recommendations(
            tuple(hits),
            tuple(placed.interests.weights.tolist()),
            placed.interests.short_share,
            share,
            len(context.history),
            context.unknown,
            space.model.name,
            snapshot.generation.manifest.number,
            time.perf_counter() - started,
            unknown_user,
        )

    def _prepared(self) -> tuple[Snapshot, UserItemSpace, PopularLists]:
        snapshot = self._get_snapshot()
        with self._lock:
            if self._ready is None or self._ready[0] is not snapshot:
                self._ready = (snapshot, self._make_space(snapshot), PopularLists(snapshot))
            return self._ready
