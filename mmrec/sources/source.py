"""Open a catalog of any kind as a stream of items."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Final

import pyarrow as pa

from mmrec.errors import MmrecError, SourceError, UsageError
from mmrec.sources.arrow_files import open_dataset, open_parquet
from mmrec.sources.assemble import assemble
from mmrec.sources.columns import ColumnSpec, ColumnTypes, MixedColumn, check_columns
from mmrec.sources.folder_rows import open_folder
from mmrec.sources.hub_rows import HubReader, is_hub, open_hub
from mmrec.sources.places import Place, expand_pattern, is_pattern, place
from mmrec.sources.rows import Reader, Row, SeenIds, modality_of_name
from mmrec.sources.scalars import is_bytes, schema_of
from mmrec.sources.storage import as_usage_error, first_line
from mmrec.sources.tar_members import SUFFIXES as TARS
from mmrec.sources.tar_rows import open_tars
from mmrec.sources.text_tables import JsonLines, open_csv, open_movielens, open_recbole
from mmrec.types import Item, Modality, Reject, Removal

_CSV: Final = (".csv", ".tsv")
_PARQUET: Final = (".parquet", ".pq")
_SINGLE: Final = (".csv", ".tsv", ".jsonl", ".ndjson")
_NAMED: Final = 5
_OPENERS: Final[dict[str, Callable[[Place], Reader]]] = {
    **dict.fromkeys(_PARQUET, open_parquet),
    **dict.fromkeys((".jsonl", ".ndjson", ".json"), JsonLines),
    **dict.fromkeys(_CSV, open_csv),
    **dict.fromkeys(("u.data", "ratings.dat"), open_movielens),
    ".inter": open_recbole,
}


def open_reader(address: str | Path, encoding: str | None = None, *, infer_types: bool = True) -> Reader:
    """Open a source's rows by what lies at an address.

    `encoding` is for CSV. With `infer_types` a text table is read through at once for the types of its columns. Raises
    UsageError if there is nothing of a known kind.
    """
    reader = _open(address, encoding)
    if infer_types:
        with as_usage_error(str(address)):
            _ = reader.names if isinstance(reader, JsonLines) and not reader.types else reader.types
    return reader


def _open(address: str | Path, encoding: str | None) -> Reader:
    if is_hub(str(address)):
        return open_hub(str(address))
    found = place(address)
    if encoding is not None and found.suffix not in _CSV:
        raise UsageError(f"An encoding is given for {found.name}, which is no CSV file: leave out --encoding.")
    with as_usage_error(str(found)):
        if found.is_folder():
            return _open_folder(found)
        if found.exists():
            return _open_file(found) if encoding is None else open_csv(found, encoding)
        if is_pattern(str(found)):
            return _open_files(found)
    raise UsageError(f"There is no {found}: give a file or a directory that exists.")


def _open_file(found: Place) -> Reader:
    if found.name.lower().endswith(TARS):
        return open_tars(found.parent, [found])
    opener = _OPENERS.get(found.name) or _OPENERS.get(found.suffix)
    if opener is None:
        raise UsageError(f"{found.name} is of no known kind; a source is {_known()}.")
    return opener(found)


def _open_files(pattern: Place) -> Reader:
    files = expand_pattern(pattern)
    folder = files[0].parent
    if all(file.name.lower().endswith(TARS) for file in files):
        return open_tars(folder, files)
    if all(file.suffix in _PARQUET for file in files):
        return open_parquet(folder, files)
    raise UsageError(f"{pattern} matches files that are not all .tar or all .parquet, such as {files[0].name}.")


def _open_folder(folder: Place) -> Reader:
    if folder.join("dataset_dict.json").exists():
        splits = ", ".join(sorted(file.parent.name for file in folder.files("state.json")))
        raise UsageError(
            f"{folder.name} is a `datasets` directory of several splits: give one of {splits}, as PATH/SPLIT."
        )
    if folder.join("state.json").exists() and folder.join("dataset_info.json").exists():
        return open_dataset(folder)
    tables, archives, loose = _contents(folder)
    if tables:
        return open_parquet(folder, tables)
    if archives and loose is not None:
        raise UsageError(
            f"{folder.name} has archives in it, such as {archives[0].relative_to(folder)}, and loose files, such as "
            f"{loose}; name the archives alone, as {folder}/*.tar, or index the loose files from a folder of their own."
        )
    if archives:
        return open_tars(folder, archives)
    single = single_tables(folder)
    if single:
        raise UsageError(
            f"{folder.name or folder} is no folder of images and audio; it holds tables, and a table is indexed by "
            f"its own name. Name one of {', '.join(single[:_NAMED])}{', ...' if len(single) > _NAMED else ''}."
        )
    return open_folder(folder)


def single_tables(folder: Place) -> list[str]:
    """Return the CSV and JSON Lines files right in a folder without media, unless it has more .txt files than these."""
    tables: list[str] = []
    texts = 0
    for inside, names in folder.walk():
        modalities = [modality_of_name(name) for name in names]
        if Modality.IMAGE in modalities or Modality.AUDIO in modalities:
            return []
        texts += modalities.count(Modality.TEXT)
        tables += [] if inside else [name for name in names if name.lower().endswith(_SINGLE)]
    return tables if len(tables) >= texts else []


def _contents(folder: Place) -> tuple[Sequence[Place], Sequence[Place], str | None]:
    """Return the Parquet files and the archives in a folder, and the first loose image or audio file."""
    tables: list[Place] = []
    archives: list[Place] = []
    loose = None
    for inside, names in folder.walk():
        for name in names:
            path = f"{inside}/{name}" if inside else name
            if name.lower().endswith(_PARQUET[0]):
                if not any(part.startswith("_") for part in path.split("/")):
                    tables.append(folder.join(path))
            elif name.lower().endswith(TARS):
                archives.append(folder.join(path))
            elif loose is None and modality_of_name(name) is not None:
                loose = path
    return tables, archives, loose


def _known() -> str:
    return (
        f"a file ({', '.join(chain(_OPENERS, TARS))}), a pattern of such archives or Parquet files, a directory of "
        "them, a `datasets` directory, a folder of media, or hf:OWNER/NAME"
    )


@dataclass(frozen=True, slots=True)
class CatalogSource:
    """A source opened with its columns. Iterate it, as often as you like, for items and rejects in source order.

    Memory does not grow with the source but for eight bytes per id, by which duplicates are found: the first is kept.
    Rows that only say that an item is to go give a Removal. Iterating raises SourceError if the source can no longer be
    read, as when an object store fails. `address` is the file, folder or data set that its bytes lie in.
    """

    address: str
    columns: ColumnSpec
    metadata_schema: pa.Schema
    reader: Reader

    @property
    def mixed_columns(self) -> Sequence[MixedColumn]:
        """Metadata columns that are text only because of a few values of another type than most."""
        types: ColumnTypes | None = getattr(self.reader, "found", None)  # of readers that infer types from values
        found = types.mixed_columns() if types is not None else ()
        text = {column.name for column in self.metadata_schema if pa.types.is_string(column.type)}
        return [one for one in found if one.column in text]

    def is_empty(self, column: str) -> bool:
        """Whether a column is known to have no value in it."""
        return bool(pa.types.is_null(self.reader.types[column]))

    @property
    def count(self) -> int | None:
        """Number of rows, rejects included, where it is known."""
        return self.reader.count

    def __iter__(self) -> Iterator[Item | Removal | Reject]:
        seen = SeenIds()
        for row in self._rows():
            if isinstance(row, Reject):
                yield row
                continue
            for result in assemble(row, self.columns, self.metadata_schema, self.reader.folder):
                if isinstance(result, Reject) or seen.add_new(result.id):
                    yield result
                else:
                    reason = f"An earlier row has the same id, {result.id!r}; it was kept. Ids must be unique."
                    yield Reject(result.row, result.id, self.columns.id, reason, result.where)

    def _rows(self) -> Iterator[Row | Reject]:
        rows = self.reader.rows(self.columns.names)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except MmrecError:
                raise
            except Exception as error:
                if not isinstance(error, OSError | EOFError) and not self.reader.folder.is_remote:
                    raise
                raise SourceError(
                    f"Reading {self.address} stopped: {first_line(error)}. What was encoded is kept: put it right, "
                    "and run the same command again."
                ) from error
            yield row


def open_source(
    address: str | Path,
    columns: ColumnSpec,
    types: Mapping[str, pa.DataType] | None = None,
    encoding: str | None = None,
) -> CatalogSource:
    """Open a catalog by its path or URL.

    It may be a Parquet, JSON Lines or CSV file; a WebDataset archive; a pattern such as ``shard-{000..099}.tar``; a
    folder of Parquet files, of archives or of media; a saved `datasets` directory; or a hub data set,
    ``hf:owner/name?split=train``. URLs are ``s3://``, ``gs://``, ``memory://`` and ``file://``.

    `types` says what some metadata columns hold, whatever is found in them; a value that is none of these is left out
    of its item, with the reason in quarantine. `encoding` is that of a CSV file which is not UTF-8.

    Raises UsageError if there is no such source, or it lacks one of the columns.
    """
    reader = open_reader(address, encoding)
    check_columns(columns, tuple(reader.types))
    binary = [name for name in columns.metadata if is_bytes(reader.types[name])]
    if binary:
        raise UsageError(f"Column {binary[0]!r} holds bytes, which cannot be metadata; leave it out of the metadata.")
    return CatalogSource(media_base(address, reader), columns, _schema(columns, reader, types or {}), reader)


def _schema(columns: ColumnSpec, reader: Reader, types: Mapping[str, pa.DataType]) -> pa.Schema:
    stray = [name for name in types if name not in columns.metadata]
    if stray:
        named = ", ".join(map(repr, columns.metadata)) or "none"
        raise UsageError(f"A type is given for {stray[0]!r}, which is no metadata column; these are {named}.")
    return schema_of(columns.metadata, {**reader.types, **types})


def media_base(address: str | Path, reader: Reader) -> str:
    """Return the file, folder or data set that a source's tables and archives lie in."""
    if isinstance(reader, HubReader):
        return reader.address
    return str(reader.folder if is_pattern(str(address)) else place(address))
