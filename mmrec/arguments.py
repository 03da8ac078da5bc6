"""Arguments of Python calls, checked where a wrong one would otherwise end deep inside."""

from collections.abc import Iterable, Sequence
from numbers import Real
from typing import Any

from mmrec.errors import UsageError
from mmrec.items import Item
from mmrec.query import Part

__all__ = ["as_id", "as_ids", "as_items", "as_parts"]


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
            f"a query is a text, a Part or a list of Parts; got {_shown(query)}. Write Part('image', 'boat.png') for a "
            "picture, Part('item', 'an id') for an item"
        )
    for part in parts:
        if not isinstance(part.value, str):
            due = {"text": "the text itself", "item": "an id"}.get(part.kind, "the path of a file (save it first)")
            raise UsageError(f"a part of kind {part.kind!r} takes {due}, as a text; got {_shown(part.value)}")
        if isinstance(part.weight, bool) or not isinstance(part.weight, Real):
            raise UsageError(f"the weight of a part is a number; got {_shown(part.weight)}")
    return parts


def as_items(given: Any) -> Iterable[Item]:  # noqa: ANN401 - as above
    """Items, checked as they come. Raises UsageError where one is none, or its id is no text."""
    if isinstance(given, Item) or not isinstance(given, Iterable):
        raise UsageError(f"items are given as a list of Item; got {_shown(given)}")
    return (_item(one) for one in given)


def _item(given: Any) -> Item:  # noqa: ANN401 - as above
    if not isinstance(given, Item):
        raise UsageError(f"an item is a mmrec.Item; got {_shown(given)}")
    if not as_id(given.id):
        raise UsageError("the id of an item must not be empty; give each its own")
    return given


def _shown(given: object) -> str:
    text = repr(given)
    return f"{type(given).__name__} {text if len(text) <= 60 else text[:57] + '...'}"
