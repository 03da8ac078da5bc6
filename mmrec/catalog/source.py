"""A catalog on disk, as a stream of items."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from mmrec.catalog.arrow_rows import open_dataset, open_parquet
from mmrec.catalog.assemble import assemble
from mmrec.catalog.columns import ColumnSpec, check_columns
from mmrec.catalog.csv_rows import open_csv
from mmrec.catalog.folder_rows import open_folder
from mmrec.catalog.jsonl_rows import open_jsonl
from mmrec.catalog.rows import Reader
from mmrec.catalog.scalars import schema_of
from mmrec.catalog.seen import SeenIds
from mmrec.errors import UsageError
from mmrec.items import Item, Reject

__all__ = ["Source", "open_reader", "open_source"]

_BY_SUFFIX: Final[dict[str, Callable[[Path], Reader]]] = {
    ".parquet": open_parquet,
    ".pq": open_parquet,
    ".jsonl": open_jsonl,
    ".ndjson": open_jsonl,
    ".json": open_jsonl,
    ".csv": open_csv,
    ".tsv": open_csv,
}


@dataclass(frozen=True, slots=True)
class Source:
    """A source opened with its columns. Iterate it, as often as you like, for items and rejects in source order.

    Memory does not grow with the source but for eight bytes an id, by which duplicates are found: the first is kept.

    Attributes:
        path: Where it is, absolute.
        columns: Which columns are what.
        metadata_schema: Names and types of the metadata columns.
        reader: The rows behind it.

    """

    path: Path
    columns: ColumnSpec
    metadata_schema: pa.Schema
    reader: Reader

    @property
    def count(self) -> int | None:
        """Number of rows, rejects included, where it is known."""
        return self.reader.count

    def __iter__(self) -> Iterator[Item | Reject]:
        seen = SeenIds()
        for row in self.reader.rows(self.columns.names):
            if isinstance(row, Reject):
                yield row
                continue
            for result in assemble(row, self.columns, self.metadata_schema, self.reader.folder):
                if isinstance(result, Item) and result.id in seen:
                    yield Reject(result.row, result.id, self.columns.id, "An earlier row has the same id; it was kept.")
                    continue
                if isinstance(result, Item):
                    seen.add(result.id)
                yield result


def open_source(path: str | Path, columns: ColumnSpec) -> Source:
    """Open a Parquet file or directory, JSON Lines, CSV, a saved `datasets` directory, or a folder of media.

    Raises UsageError where there is no such source, or it lacks one of the columns.
    """
    reader = open_reader(path)
    check_columns(columns, tuple(reader.types))
    binary = [name for name in columns.metadata if _is_binary(reader.types[name])]
    if binary:
        raise UsageError(f"Column {binary[0]!r} holds bytes, which cannot be metadata; leave it out of the metadata.")
    return Source(Path(path).absolute(), columns, schema_of(columns.metadata, reader.types), reader)


def open_reader(path: str | Path) -> Reader:
    """Open a source's rows by what lies at `path`. Raises UsageError where it is nothing known."""
    path = Path(path).absolute()
    if path.is_dir():
        return _open_directory(path)
    if not path.exists():
        raise UsageError(f"There is no {path}: give a file or a directory that exists.")
    opener = _BY_SUFFIX.get(path.suffix.lower())
    if opener is None:
        raise UsageError(f"{path.name} is of no known kind; a source is {_known()}.")
    return opener(path)


def _open_directory(path: Path) -> Reader:
    if (path / "dataset_dict.json").exists():
        splits = ", ".join(str(child.parent.name) for child in sorted(path.glob("*/state.json")))
        raise UsageError(
            f"{path.name} is a `datasets` directory of several splits: give one of {splits}, as PATH/SPLIT."
        )
    if (path / "state.json").exists() and (path / "dataset_info.json").exists():
        return open_dataset(path)
    if any(path.rglob("*.parquet")):
        return open_parquet(path)
    return open_folder(path)


def _is_binary(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_binary(dtype) or pa.types.is_large_binary(dtype) or pa.types.is_fixed_size_binary(dtype))


def _known() -> str:
    return (
        f"a file ({', '.join(_BY_SUFFIX)}), a directory of Parquet files, a `datasets` directory, or a folder of media"
    )
