"""Read queries from a file, with the items that are right for each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mmrec.errors import UsageError
from mmrec.query import Part, PartKind
from mmrec.sources.assemble import BadValueError, id_of
from mmrec.sources.places import Place
from mmrec.sources.source import open_reader
from mmrec.types import Reject

_KINDS: Final[Mapping[str, PartKind]] = {"text": "text", "image": "image", "audio": "audio", "id": "item"}
_RELEVANT: Final = "relevant"


@dataclass(frozen=True, slots=True)
class JudgedQuery:
    """One query, and the ids of the items that answer it, each once; empty where it is not judged."""

    part: Part
    relevant: tuple[str, ...] = ()


def read_judged_queries(file: str | Path) -> list[JudgedQuery]:
    """Read queries from JSON Lines, CSV or Parquet: of ``text``, ``image``, ``audio`` and ``id`` one a row.

    The column ``relevant`` holds an id or a list of ids, in CSV a JSON list; it may be missing, or empty in some rows.
    Paths of images and audio are relative to the file. Raises UsageError where a row is no query, or none is there.
    """
    reader = open_reader(file)
    kinds = [name for name in _KINDS if name in reader.types]
    if not kinds:
        held = ", ".join(map(repr, reader.types)) or "none"
        raise UsageError(
            f"{file} has no column that could be a query: name one of {', '.join(map(repr, _KINDS))}, and the items "
            f"that are right in {_RELEVANT!r}. It has {held}."
        )
    names = [*kinds, *([_RELEVANT] if _RELEVANT in reader.types else [])]
    queries = []
    for row in reader.rows(names):
        if isinstance(row, Reject):
            raise UsageError(f"{row.where or file}: {row.reason}")
        queries.append(_query(row.values, kinds, reader.folder, row.where))
    if not queries:
        raise UsageError(f"{file} holds no query: write one a row.")
    return queries


def _query(values: Mapping[str, object], kinds: Sequence[str], folder: Place, where: str) -> JudgedQuery:
    given = [name for name in kinds if values.get(name) not in (None, "")]
    if len(given) != 1:
        found = " and ".join(map(repr, given)) or "none"
        raise UsageError(f"{where}: a query is one of {', '.join(map(repr, kinds))}; this row has {found}.")
    name, value = given[0], values[given[0]]
    try:
        if name == "id":
            part = Part("item", id_of(value))
        elif isinstance(value, str):
            part = Part(_KINDS[name], value if name == "text" else folder.resolve(value))
        else:
            raise UsageError(f"{where}: {name!r} takes a text; this row has a {type(value).__name__}.")
        return JudgedQuery(part, _relevant(values.get(_RELEVANT)))
    except BadValueError as error:
        raise UsageError(f"{where}: {error}") from error


def _relevant(value: object) -> tuple[str, ...]:
    if value is None or value == "":
        return ()
    if isinstance(value, str) and value.lstrip().startswith("["):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise BadValueError(f"{value!r} is no JSON list of ids.") from error
    several = value if isinstance(value, list | tuple) else [value]
    return tuple(dict.fromkeys(id_of(one) for one in several))
