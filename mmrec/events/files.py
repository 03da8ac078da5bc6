"""Open a file of events by its name, guess its columns, and read Parquet files."""

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.errors import UsageError
from mmrec.events.event import EventColumns, check_event_columns, guess_event_columns
from mmrec.events.text_files import (
    ROWS_PER_CHUNK,
    DelimitedFile,
    EventFile,
    RawEvents,
    Refusal,
    line_chunks,
    open_csv_events,
    open_json_lines,
)


@dataclass(frozen=True, slots=True)
class ParquetFiles:
    """One file, or all of a directory in the order of their names; rows are numbered through."""

    files: tuple[tuple[Path, int], ...]
    names: tuple[str, ...]

    @property
    def count(self) -> int:
        """Number of rows."""
        return sum(rows for _, rows in self.files)

    def chunks(self, names: Sequence[str]) -> Iterator[RawEvents]:
        """Read these columns of all rows; a row group that is damaged is refused from there on, as so many rows."""
        first = 0
        for path, count in self.files:
            try:
                with pq.ParquetFile(path, pre_buffer=False, buffer_size=1024 * 1024) as file:
                    yield from _file(file, path, first, names)
            except (OSError, pa.ArrowException) as error:
                yield _damaged(path, first, count, error)
            first += count


def open_parquet_events(path: Path) -> ParquetFiles:
    """Open a file or a directory. Raises UsageError where a file is not Parquet or has other columns than the first."""
    paths = [path] if path.is_file() else sorted(path.rglob("*.parquet"))
    files: list[tuple[Path, int]] = []
    names: tuple[str, ...] = ()
    for file in paths:
        try:
            footer = pq.read_metadata(file)
        except (OSError, pa.ArrowException) as error:
            raise UsageError(f"{file.name} is not a Parquet file that can be read: {_first_line(error)}.") from error
        found = tuple(footer.schema.to_arrow_schema().names)
        if len(set(found)) < len(found):
            raise UsageError(f"{file.name} names a column twice: rename one.")
        if files and set(found) != set(names):
            raise UsageError(f"{file.name} has other columns than {files[0][0].name}: import them one by one.")
        names = names or found
        files.append((file, footer.num_rows))
    if not files:
        raise UsageError(f"There is no Parquet file in {path}.")
    return ParquetFiles(tuple(files), names)


def _file(file: pq.ParquetFile, path: Path, first: int, names: Sequence[str]) -> Iterator[RawEvents]:
    for group in range(file.num_row_groups):
        count = file.metadata.row_group(group).num_rows
        done = 0
        try:
            for batch in file.iter_batches(ROWS_PER_CHUNK, row_groups=[group], columns=list(names)):
                rows = np.arange(first + done, first + done + batch.num_rows, dtype=np.int64)
                yield RawEvents(rows, {name: batch.column(name) for name in names})
                done += batch.num_rows
        except (OSError, pa.ArrowException) as error:
            yield _damaged(path, first + done, count - done, error)
        first += count


def _damaged(path: Path, row: int, count: int, error: Exception) -> RawEvents:
    reason = f"{count} rows of {path.name} from here on cannot be read: {_first_line(error)}."
    return RawEvents(np.empty(0, dtype=np.int64), {}, (Refusal(row, "", reason, count=count),))


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200].rstrip(".")


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
