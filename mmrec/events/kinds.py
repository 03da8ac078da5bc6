"""Kinds of events: weights, aliases, and which of them are ratings."""

import math
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
from jaxtyping import Float32

from mmrec.errors import UsageError

DEFAULT_WEIGHTS: Final[Mapping[str, float]] = {
    "view": 1.0,
    "click": 2.0,
    "rate": 2.0,
    "cart": 4.0,
    "like": 4.0,
    "purchase": 8.0,
    "dislike": -4.0,
    "hide": -8.0,
}
"""What a kind weighs by default.

Each step of effort or cost doubles the weight: a view may be an accident (1), a click is a choice (2), a like or a
place in the basket is a statement (4), money is the strongest one (8). To rate is to have chosen the item (2); the
stars make it anything from a dislike to a like, see `mmrec.events.ratings`. What is said against an item mirrors
what is said for it: a dislike takes back a like, and a hide, which asks never to see the item again, takes back even
a purchase.
"""

DEFAULT_RATINGS: Final[Mapping[str, float | None]] = {"rate": None}
"""Kinds whose values are ratings; the values of all others, such as seconds or prices, say nothing about taste."""

_LONGEST: Final = 64


@dataclass(frozen=True, slots=True)
class Kinds:
    """Weights of the kinds of events, aliases, and which are ratings.

    Attributes:
        weights: By kind, in lower case; below 0 speaks against the item, 0 says nothing.
        aliases: Kind by the word that a source uses, in lower case.
        ratings: Kinds whose values are ratings, each with the least value of a like, below which it is a dislike; None
            compares each rating with the means of its user and its item.

    """

    weights: Mapping[str, float] = field(default_factory=lambda: dict(DEFAULT_WEIGHTS))
    aliases: Mapping[str, str] = field(default_factory=dict)
    ratings: Mapping[str, float | None] = field(default_factory=lambda: dict(DEFAULT_RATINGS))

    def __post_init__(self) -> None:
        """Raise UsageError for invalid names and weights, and aliases of unknown kinds."""
        for name, weight in self.weights.items():
            if not (0 < len(name) <= _LONGEST and name.isprintable() and name == name.strip().lower()):
                raise UsageError(f"{name!r} is no kind of event: write 1 to {_LONGEST} lower-case printable letters.")
            if not -1e6 <= weight <= 1e6:
                raise UsageError(f"The weight {weight!r} of {name!r} must be a number from -1000000 to 1000000.")
        for word, kind in self.aliases.items():
            if kind not in self.weights or word in self.weights or word != word.strip().lower():
                raise UsageError(
                    f"The alias {word!r} = {kind!r} must be a lower-case word that is no kind itself, for one of "
                    f"{', '.join(self.weights)}."
                )
        for name, threshold in self.ratings.items():
            known = name in self.weights or name in DEFAULT_RATINGS
            if not known or (threshold is not None and not math.isfinite(threshold)):
                raise UsageError(
                    f"{name!r} cannot be a kind of ratings at {threshold!r}: give one of {', '.join(self.weights)}, "
                    "and the least value of a like, or no value to compare ratings with the means of users and items."
                )

    @property
    def names(self) -> tuple[str, ...]:
        """The kinds in the order of their codes."""
        return tuple(self.weights)

    def weights_of(self, names: Sequence[str]) -> Float32[np.ndarray, "names"]:
        """Weight of each of some kinds, 0 for unknown ones."""
        return np.array([self.weights.get(name, 0.0) for name in names], dtype=np.float32)

    def resolve(self, word: str) -> str | None:
        """Return the kind of a source's word, whatever its case; None where there is none."""
        plain = word.strip().lower()
        plain = self.aliases.get(plain, plain)
        return plain if plain in self.weights else None

    def unknown_message(self, word: str) -> str:
        """Say why a word cannot be used, and what to do."""
        return (
            f"The kind {word[:_LONGEST]!r} has no weight. Known are {', '.join(self.weights)}; give it a weight under "
            "[weights], or say which of these it means under [aliases], in a file named with --kinds."
        )


def load_kinds(path: Path) -> Kinds:
    """Read ``[weights]`` and ``[ratings]``, which override the defaults, and ``[aliases]``. Raises UsageError.

    A kind under ``[ratings]`` is ``"relative"`` to the means of users and items, or the least value of a like, or
    ``"ignored"``.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a TOML file that can be read: {error}.") from error
    odd = sorted(document.keys() - {"weights", "aliases", "ratings"})
    if odd:
        raise UsageError(
            f"{path} has {odd[0]!r}, which is not known here; it may have [weights], [ratings] and [aliases]."
        )
    weights, aliases = document.get("weights", {}), document.get("aliases", {})
    if not _holds(weights, (int, float)) or not _holds(aliases, (str,)):
        raise UsageError(f"{path}: [weights] holds a number for each kind, [aliases] a kind for each word.")
    whole = {**DEFAULT_WEIGHTS, **{name: float(weight) for name, weight in weights.items()}}
    ratings = _ratings(document.get("ratings", {}), path)
    return Kinds(whole, aliases, ratings)


def _ratings(table: object, path: Path) -> dict[str, float | None]:
    found = dict(DEFAULT_RATINGS)
    given: dict[str, object] = table if isinstance(table, dict) else {"the whole": table}
    for name, how in given.items():
        if how == "ignored":
            found.pop(name, None)
        elif how == "relative":
            found[name] = None
        elif isinstance(how, int | float) and not isinstance(how, bool):
            found[name] = float(how)
        else:
            raise UsageError(
                f'{path}: {name} = {how!r} under [ratings] is not known; write "relative", "ignored", or the least '
                "value of a like, such as 3.5."
            )
    return found


def _holds(table: object, types: tuple[type, ...]) -> bool:
    return isinstance(table, dict) and all(type(value) in types for value in table.values())
