"""A file of events, opened by its name: what it is, and which of its columns are what."""

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from mmrec.behaviour.event_columns import EventColumns, check_event_columns, guess_event_columns
from mmrec.behaviour.sources.delimited import DelimitedFile, open_csv_events
from mmrec.behaviour.sources.json_lines import open_json_lines
from mmrec.behaviour.sources.lines import line_chunks
from mmrec.behaviour.sources.parquet import open_parquet_events
from mmrec.behaviour.sources.protocol import EventFile
from mmrec.errors import UsageError

__all__ = ["EventSource", "open_events"]

_MOVIELENS: Final = ("user", "item", "rating", "timestamp")
_BY_SUFFIX: Final[Mapping[str, Callable[[Path], EventFile]]] = {
    ".parquet": open_parquet_events,
    ".pq": open_parquet_events,
    ".jsonl": open_json_lines,
    ".ndjson": open_json_lines,
    ".json": open_json_lines,
    ".csv": open_csv_events,
    ".tsv": open_csv_events,
}


@dataclass(frozen=True, slots=True)
class EventSource:
    """A file of events with its columns.

    Attributes:
        path: Where it is, absolute; the key of what is refused of it.
        file: Its rows.
        columns: Which columns are what.

    """

    path: Path
    file: EventFile
    columns: EventColumns


def open_events(
    path: Path,
    given: Mapping[str, str | None] | None = None,
    context: tuple[str, ...] = (),
    one_kind: str | None = None,
    encoding: str | None = None,
) -> EventSource:
    """Open Parquet, JSON Lines or CSV, MovieLens's ``u.data``, ``ratings.dat`` and ``ratings.csv``, or a RecBole file.

    Args:
        path: The file; a directory of Parquet files is one too.
        given: Columns by part (``user``, ``item``, ``time``, ``kind``, ``value``, ``id``); what is not given is told
            from the names of the columns.
        context: Columns kept beside, whatever they are.
        one_kind: The kind of all events, whatever columns there are.
        encoding: Of a file of delimited text that is not UTF-8.

    Raises:
        UsageError: There is no such file, it is of no known kind, or its columns cannot be told.

    """
    path = path.absolute()
    if not path.exists():
        raise UsageError(f"There is no {path}: give a file of events.")
    file = _open(path, encoding)
    columns = guess_event_columns(file.names, given or {})
    if context:
        columns = replace(columns, context=context)
    if one_kind is not None:
        columns = replace(columns, kind=None, one_kind=one_kind)
    check_event_columns(columns, file.names)
    return EventSource(path, file, columns)


def _open(path: Path, encoding: str | None) -> EventFile:
    if encoding is None:
        return _opened(path)
    if path.suffix.lower() in {".csv", ".tsv"}:
        return open_csv_events(path, encoding)
    raise UsageError(f"An encoding is given for {path.name}, which is no CSV file: leave out --encoding.")


def _opened(path: Path) -> EventFile:
    if path.is_dir():
        return open_parquet_events(path)
    if path.name == "u.data":
        return DelimitedFile(path, _MOVIELENS, "\t", header=False, quoted=False)
    if path.name == "ratings.dat":
        return DelimitedFile(path, _MOVIELENS, "::", header=False, quoted=False)
    if path.suffix == ".inter":
        return _open_recbole(path)
    opener = _BY_SUFFIX.get(path.suffix.lower())
    if opener is None:
        raise UsageError(
            f"{path.name} is of no known kind. Events are read from {', '.join(_BY_SUFFIX)}, u.data and ratings.dat of "
            "MovieLens, and .inter of RecBole."
        )
    return opener(path)


def _open_recbole(path: Path) -> DelimitedFile:
    """A RecBole atomic file: tabs between cells, and a header of ``name:type``."""
    first = next(line_chunks(path, 1), [b""])[0].decode(errors="replace").rstrip("\r\n")
    typed = next(csv.reader([first], delimiter="\t", quoting=csv.QUOTE_NONE), [])
    types = ("token", "token_seq", "float", "float_seq")
    if not typed or any(cell.rpartition(":")[2] not in types for cell in typed):
        raise UsageError(f"The header of {path.name} is not RecBole's: it names columns as user_id:token, with tabs.")
    names = tuple(cell.rpartition(":")[0] for cell in typed)
    return DelimitedFile(path, names, "\t", header=True, quoted=False)
