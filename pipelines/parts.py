"""The parts of a query, as the command line gives them."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmrec.errors import UsageError
from mmrec.query import Part, PartKind
from pipelines.grammar import parse_weighted

__all__ = ["parse_parts"]


def parse_parts(given: Mapping[PartKind, Sequence[str] | None]) -> tuple[Part, ...]:
    """Read the parts of a query. Raises UsageError where there are none, or a picture or sound is no file."""
    parts = tuple(Part(kind, *parse_weighted(value)) for kind, values in given.items() for value in values or ())
    if not parts:
        raise UsageError("Nothing to search for: give --text, --image, --audio or --item, each as often as you like.")
    for part in parts:
        if part.kind in {"image", "audio"} and _missing(part.value):
            raise UsageError(f"--{part.kind}: there is no file {part.value!r}. Give the path of a file.")
    return parts


def _missing(value: str) -> bool:
    return "://" not in value and "#" not in value and not Path(value).is_file()
