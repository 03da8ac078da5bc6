"""URIs of bytes inside tables and archives.

    /path/file.parquet#row=12&column=image            a cell; `row` is an offset from 0
    s3://bucket/file.parquet#row=12&column=image&item=1   the second of a list in a cell
    hf:owner/name?split=train#row=12&column=image      a cell of a hub data set
    /path/shard-003.tar#member=cat.jpg&offset=1536&size=4096   a member of a tar

A cell of a local Parquet file and a member of an uncompressed tar are read without what lies before them.
"""

import re
from pathlib import Path
from typing import Final
from urllib.parse import quote, unquote

from mmrec.errors import MediaError
from mmrec.sources.arrow_files import cell_of_saved, opened_parquet
from mmrec.sources.hub_rows import cell_of_hub
from mmrec.sources.places import Place
from mmrec.sources.storage import Stamp
from mmrec.sources.tar_members import read_member

_CELL: Final = re.compile(r"(?P<file>.+)#row=(?P<row>\d+)&column=(?P<column>[^&#]+)(&item=(?P<item>\d+))?", re.DOTALL)
_MEMBER: Final = re.compile(
    r"(?P<file>.+)#member=(?P<member>[^&#]+)&offset=(?P<offset>\d+)&size=(?P<size>\d+)", re.DOTALL
)


def table_uri(table: str, row: int, column: str, item: int | None = None) -> str:
    """Name the bytes in one cell, or one of several there. `row` and `item` count from 0."""
    return f"{table}#row={row}&column={quote(column, safe='')}{'' if item is None else f'&item={item}'}"


def member_uri(archive: str, member: str, offset: int, size: int) -> str:
    """Name the bytes of one member of a tar: its data begins at `offset` in the uncompressed archive."""
    return f"{archive}#member={quote(member, safe='/', errors='surrogateescape')}&offset={offset}&size={size}"


def is_in_table(uri: str) -> bool:
    """Whether a URI names a cell of a table or a member of an archive rather than a file."""
    return _CELL.fullmatch(uri) is not None or _MEMBER.fullmatch(uri) is not None


def stat_in_table(uri: str) -> Stamp | None:
    """Return the stamp of a member of a local archive, which changes with the archive; None of anything else."""
    match = _MEMBER.fullmatch(uri)
    try:
        return Stamp(int(match["size"]), Path(match["file"]).stat().st_mtime_ns) if match else None
    except (OSError, ValueError):
        return None


def read_from_table(uri: str, most: int | None = None) -> bytes:
    """Return the bytes in the cell or member that a URI names.

    Raises MediaError if there are none any more, or a member has more than `most`.
    """
    if member := _MEMBER.fullmatch(uri):
        name, offset, size = unquote(member["member"], errors="surrogateescape"), int(member["offset"]), member["size"]
        if most is not None and int(size) > most:
            raise MediaError(f"The content is larger than the limit of {most:,} bytes.")
        return read_member(Place(member["file"]), name, offset, int(size))
    cell = _CELL.fullmatch(uri)
    if cell is None:
        raise MediaError("The address names no cell of a table and no member of an archive.")
    row, column = int(cell["row"]), unquote(cell["column"])
    try:
        value = _cell(cell["file"], row, column)
        if cell["item"] is not None and isinstance(value, list):
            value = value[int(cell["item"])]
    except MediaError:
        raise
    except Exception as error:
        raise MediaError(f"Row {row} of the table, column {column!r}, cannot be read any more.") from error
    if isinstance(value, dict):
        value = value.get("bytes")
    if not isinstance(value, bytes):
        raise MediaError(f"Row {row} of the table holds no bytes in column {column!r}.")
    return value


def _cell(table: str, row: int, column: str) -> object:
    if table.startswith("hf:"):
        return cell_of_hub(table, row, column)
    place = Place(table)
    return (_cell_of_parquet if place.suffix in {".parquet", ".pq"} else cell_of_saved)(place, row, column)


def _cell_of_parquet(path: Place, row: int, column: str) -> object:
    with opened_parquet(path) as file:
        for group in range(file.num_row_groups):
            rows = file.metadata.row_group(group).num_rows
            if row >= rows:
                row -= rows
                continue
            for batch in file.iter_batches(64, row_groups=[group], columns=[column]):
                if row < len(batch):
                    return batch.column(column)[row].as_py()
                row -= len(batch)
    raise IndexError(row)
