"""Texts and JSON objects that lie beside media, in a folder or in an archive, and say more of the same item."""

import codecs
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from mmrec.catalog.json_objects import parse_object
from mmrec.catalog.rows import Unreadable

__all__ = ["read_json", "read_text", "renamed"]

_LONGEST_TEXT: Final = 1024 * 1024
_LONGEST_JSON: Final = 16 * 1024 * 1024


def read_text(read: Callable[[int], bytes]) -> str | Unreadable:
    """Return a text, cut to a megabyte. `read` gives so many bytes at most."""
    data = read(_LONGEST_TEXT)
    try:
        return codecs.getincrementaldecoder("utf-8-sig")().decode(data, final=len(data) < _LONGEST_TEXT)
    except UnicodeDecodeError as error:
        return Unreadable(f"The text file is not UTF-8 (byte {error.start}).")


def read_json(read: Callable[[int], bytes], name: str) -> Mapping[str, object] | Unreadable:
    """Return a JSON object; `name` is the file's, for the reason why it is none. `read` gives so many bytes at most."""
    data = read(_LONGEST_JSON + 1)
    if len(data) > _LONGEST_JSON:
        return Unreadable(f"{name} cannot be used: it is longer than {_LONGEST_JSON:,} bytes.")
    try:
        return parse_object(data)
    except ValueError as error:
        reason = str(error)
        return Unreadable(f"{name} cannot be used: {reason[:1].lower()}{reason[1:]}")


def renamed(found: Mapping[str, object], is_taken: Callable[[str], bool]) -> Iterable[tuple[str, object]]:
    """Give the keys of a JSON object as columns: ``json_KEY`` where a column of that name comes from elsewhere."""
    for key, value in found.items():
        yield (f"json_{key}" if is_taken(key) else key), value
