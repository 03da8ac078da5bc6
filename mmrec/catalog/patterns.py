"""Addresses that stand for several files: ``shard-{000..099}.tar``, ``{a,b}.tar``, ``*.parquet``."""

import re
from collections.abc import Iterator
from typing import Final

from mmrec.catalog.places import Place
from mmrec.catalog.storage import filesystem
from mmrec.errors import UsageError

__all__ = ["is_pattern", "matching"]

_BRACES: Final = re.compile(r"\{([^{}]*)\}")
_RANGE: Final = re.compile(r"(\d+)\.\.(\d+)", re.ASCII)
_MOST: Final = 1_000_000


def is_pattern(address: str) -> bool:
    """Whether an address has braces or a star in it."""
    return bool(_BRACES.search(address)) or "*" in address


def matching(pattern: Place) -> list[Place]:
    """Return the files that a pattern stands for, in its order. Raises UsageError where one of braces is missing."""
    found: list[Place] = []
    for address in _expanded(str(pattern)):
        if "*" in address:
            system = filesystem(address)
            scheme = address.partition("://")[0] if pattern.is_remote else ""
            names = sorted(str(name) for name in system.glob(address))
            found += [Place(f"{scheme}://{name.lstrip('/')}" if scheme else name) for name in names]
        else:
            found.append(Place(address))
        if len(found) > _MOST:
            raise UsageError(f"{pattern} stands for more than {_MOST:,} files; give the folder they lie in.")
    missing = [place for place in found if not place.exists()]
    if missing or not found:
        named = f", such as {missing[0]}" if missing else ""
        raise UsageError(f"{len(missing) or 'All'} of the files that {pattern} stands for are not there{named}.")
    return found


def _expanded(address: str) -> Iterator[str]:
    match = _BRACES.search(address)
    if match is None:
        yield address
        return
    for choice in _choices(match[1]):
        yield from _expanded(f"{address[: match.start()]}{choice}{address[match.end() :]}")


def _choices(inside: str) -> Iterator[str]:
    bounds = _RANGE.fullmatch(inside)
    if bounds is None:
        yield from inside.split(",")
        return
    first, last = int(bounds[1]), int(bounds[2])
    if first > last:
        raise UsageError(f"{{{inside}}} counts down; write the smaller number first.")
    width = len(bounds[1]) if bounds[1].startswith("0") else 0
    yield from (f"{number:0{width}d}" for number in range(first, last + 1))
