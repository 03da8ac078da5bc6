"""Lists for people from an open store: what an engine does when it recommends."""

import time
from collections.abc import Callable, Sequence
from threading import Lock

from mmrec.queries import QueryMaker
from mmrec.query import Part
from mmrec.recommend.answer import ListOptions, Recommendations
from mmrec.recommend.list_for import hits_for, place, popular_share, ranked
from mmrec.recommend.person import Did, Person, StoreEvents, as_person
from mmrec.recommend.popular_list import PopularList, PopularLists
from mmrec.recommend.taste_space import TasteSpace, content_space
from mmrec.snapshot import Snapshot


class Recommender:
    """Recommends from the snapshot and the events of the moment. Safe to use from several threads."""

    def __init__(
        self,
        snapshot: Callable[[], Snapshot],
        queries: QueryMaker,
        events: StoreEvents,
        space: Callable[[Snapshot], TasteSpace] = content_space,
    ) -> None:
        """Take what gives the snapshot of the moment, what encodes texts, and the events.

        `space` is called once for each snapshot, and gives the model that places people, with the index it needs.
        """
        self._snapshot = snapshot
        self._queries = queries
        self._events = events
        self._space = space
        self._lock = Lock()
        self._ready: tuple[Snapshot, TasteSpace, PopularLists] | None = None

    def recommend(
        self, user: str | None, history: Sequence[tuple[str, str]], text: str | None, wishes: ListOptions
    ) -> Recommendations:
        """Make a list.

        Args:
            user: Whose events the log is asked for.
            history: What else they did, oldest first: ids of items and kinds of events; nothing of it is stored.
            text: What they say they like.
            wishes: What the list should be like.

        """
        started = time.perf_counter()
        now = time.time_ns() // 1000
        snapshot, space, popular_lists = self._prepared()
        done = [] if user is None else self._events.history(user)
        unknown_user = user is not None and not done
        done += [Did(item, kind, now) for item, kind in history]
        person = self._person(snapshot, done)
        wish = None if text is None else self._queries.make([Part("text", text)], snapshot, None)
        placed = place(space, person, wish, now)
        fading = None if text is not None or not len(placed.vectors) else self._events.fading(snapshot, space)
        share = popular_share(person, placed, fading)
        popular = popular_lists.read(self._events.popular(), wishes.where) if share else PopularList.empty()
        allowed = snapshot.rows_allowed(wishes.where, None)
        chosen = ranked(space, person, placed, popular, allowed, wishes, fading)
        hits = hits_for(snapshot, space, person, placed, chosen, explain=wishes.explain)
        return Recommendations(
            tuple(hits),
            tuple(placed.interests.weights.tolist()),
            placed.interests.short_share,
            share,
            person.events,
            person.unknown,
            space.model.name,
            snapshot.generation.manifest.number,
            time.perf_counter() - started,
            unknown_user,
        )

    def _person(self, snapshot: Snapshot, done: Sequence[Did]) -> Person:
        rows = snapshot.items.rows_of(list(dict.fromkeys(one.item for one in done)))
        return as_person(done, rows, self._events.kinds, self._events.ratings(done))

    def _prepared(self) -> tuple[Snapshot, TasteSpace, PopularLists]:
        snapshot = self._snapshot()
        with self._lock:
            if self._ready is None or self._ready[0] is not snapshot:
                self._ready = (snapshot, self._space(snapshot), PopularLists(snapshot))
            return self._ready
