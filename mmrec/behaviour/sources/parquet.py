"""Events in Parquet files."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.behaviour.raw import RawEvents, Refusal
from mmrec.behaviour.sources.protocol import ROWS_PER_CHUNK
from mmrec.errors import UsageError

__all__ = ["ParquetFiles", "open_parquet_events"]


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
