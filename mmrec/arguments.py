"""Validation of the arguments of the public Python API."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from numbers import Real
from typing import Any

import numpy as np

from mmrec.errors import UsageError
from mmrec.events.event import Event
from mmrec.events.kinds import Kinds
from mmrec.query import Part
from mmrec.types import Item, Modality

DEFAULT_HISTORY_KIND = "like"
"""Kind of a history entry without a kind: an item that the caller names counts as liked, not just as viewed."""


def as_count(given: Any) -> int:  # noqa: ANN401 - whatever a caller may give
    """How many items are wanted. Raises UsageError where it is no whole number of at least 1."""
    if isinstance(given, bool) or not isinstance(given, int | np.integer) or given < 1:
        raise UsageError(f"k must be a whole number, at least 1; got {given!r}")
    return int(given)


def as_id(given: Any) -> str:  # noqa: ANN401 - whatever a caller may give
    """One id. Raises UsageError where it is no text."""
    if not isinstance(given, str):
        raise UsageError(f"an id is a text; got {_shown(given)}. Ids of other types are stored as text: str(id)")
    return given


def as_ids(given: Any) -> list[str]:  # noqa: ANN401 - as above
    """Several ids. Raises UsageError where they are one text, or not all texts."""
    if isinstance(given, str):
        raise UsageError(f"several ids are due, as a list; got the one text {given!r}. Write [{given!r}]")
    if not isinstance(given, Iterable):
        raise UsageError(f"several ids are due, as a list of texts; got {_shown(given)}")
    return [as_id(one) for one in given]


def as_parts(query: Any) -> Sequence[Part]:  # noqa: ANN401 - as above
    """The parts of a query. Raises UsageError where it is neither a text nor made of parts."""
    if isinstance(query, str):
        return [Part("text", query)]
    parts = [query] if isinstance(query, Part) else query
    if not isinstance(parts, Sequence) or not all(isinstance(part, Part) for part in parts):
        raise UsageError(
            f"a query is a text, a Part or a list of Parts; got {_shown(query)}. Write Part.image('boat.png') for an "
            "image, Part.item('an id') for an item"
        )
    for part in parts:
        allowed = {"image": str | bytes, "audio": str | bytes, "vector": tuple}.get(part.kind, str)
        if not isinstance(part.value, allowed):
            due = {"text": "the text itself", "item": "an id, as a text", "vector": "numbers: Part.vector(...)"}
            other = f"a path, a URL or bytes; Part.{part.kind}(...) also takes a decoded one"
            raise UsageError(
                f"a part of kind {part.kind!r} takes {due.get(part.kind, other)}; got {_shown(part.value)}"
            )
        if isinstance(part.weight, bool) or not isinstance(part.weight, Real):
            raise UsageError(f"the weight of a part is a number; got {_shown(part.weight)}")
    return parts


def as_items(given: Any) -> Iterable[Item]:  # noqa: ANN401 - as above
    """Items, checked as they come. Raises UsageError for anything else, or an id that is no text."""
    if isinstance(given, Item) or not isinstance(given, Iterable):
        raise UsageError(f"items are given as a list of Item; got {_shown(given)}")
    return (_item(one) for one in given)


def as_events(given: Any) -> list[Event]:  # noqa: ANN401 - as above
    """Events. Raises UsageError for anything else."""
    if isinstance(given, Event) or not isinstance(given, Iterable):
        raise UsageError(f"events are given as a list of mmrec.Event; got {_shown(given)}")
    events = list(given)
    odd = next((one for one in events if not isinstance(one, Event)), None)
    if odd is not None:
        raise UsageError(f"an event is a mmrec.Event; got {_shown(odd)}")
    for number, event in enumerate(events):
        if not isinstance(event.time, datetime):
            raise UsageError(f"event {number}: its time is a datetime with a time zone; got {_shown(event.time)}")
    return events


def as_history(given: Any, kinds: Kinds) -> list[tuple[str, str]]:  # noqa: ANN401 - as above
    """Ids and kinds of events; an id alone was liked. Raises UsageError where they are something else."""
    if isinstance(given, str) or not isinstance(given, Iterable):
        raise UsageError(f"a history is a list of ids, or of pairs of an id and a kind of event; got {_shown(given)}")
    return [_history_entry(one, kinds) for one in given]


def as_optional_text(given: Any, name: str) -> str | None:  # noqa: ANN401 - as above
    """An optional text. Raises UsageError where it is something else, or blank."""
    if given is not None and (not isinstance(given, str) or not given.strip()):
        raise UsageError(f"{name} is a text with something in it, or None; got {_shown(given)}")
    return given


def as_modalities(against: Any) -> frozenset[Modality] | None:  # noqa: ANN401 - as above
    """Which modalities of the items count; None for all. Raises UsageError for other names, or none at all."""
    if against is None:
        return None
    named = [against] if isinstance(against, str) else list(against)
    unknown = [name for name in named if name not in set(Modality)]
    if unknown or not named:
        raise UsageError(f"against names {unknown or 'nothing'}; allowed are {', '.join(Modality)}, one or several")
    return frozenset(Modality(name) for name in named)


def _history_entry(given: Any, kinds: Kinds) -> tuple[str, str]:  # noqa: ANN401 - as above
    if isinstance(given, str):
        return given, DEFAULT_HISTORY_KIND
    if not isinstance(given, tuple | list) or len(given) != 2 or not all(isinstance(part, str) for part in given):
        raise UsageError(f"an entry of a history is an id, or a pair of an id and a kind of event; got {_shown(given)}")
    kind = kinds.resolve(given[1])
    if kind is None:
        raise UsageError(kinds.unknown_message(given[1]))
    return given[0], kind


def _item(given: Any) -> Item:  # noqa: ANN401 - as above
    if not isinstance(given, Item):
        raise UsageError(f"an item is a mmrec.Item; got {_shown(given)}")
    if not as_id(given.id):
        raise UsageError("the id of an item must not be empty; give each its own")
    return given


def _shown(given: object) -> str:
    text = repr(given)
    return f"{type(given).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
