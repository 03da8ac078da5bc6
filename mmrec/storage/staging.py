"""Stage item changes on disk and commit them at once; metadata columns widen to a common type."""

import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.compute as pc

from mmrec.errors import UsageError
from mmrec.sources.scalars import common_type
from mmrec.storage.scratch import ROWS_PER_FLUSH, StagedRows
from mmrec.storage.stored_item import OWN_COLUMNS, RESERVED, StoredItem, as_item, as_table
from mmrec.storage.tables import (
    VALUES_PER_QUERY,
    compact,
    convert_write_errors,
    create_table,
    open_table,
    value_filters,
)

INTERIM = "mmrec_retyped"
"""Name of a column between its old and its new type; what it holds is given by the suffix."""

SQL = {pa.float64(): "double", pa.string(): "string", pa.timestamp("us"): "timestamp"}


@dataclass(frozen=True, slots=True)
class Retyping:
    """A metadata column with another type in a source than in the store, and the type it gets in the store."""

    column: str
    stored: pa.DataType
    given: pa.DataType
    becomes: pa.DataType


def retypings(stored: pa.Schema, given: pa.Schema) -> Iterator[Retyping]:
    """Columns whose type in the source differs from the store, with the resulting type."""
    for column in given:
        place = stored.get_field_index(column.name)
        if place >= 0 and stored.field(place).type != column.type and not pa.types.is_null(column.type):
            kept = stored.field(place).type
            yield Retyping(column.name, kept, column.type, common_type(kept, column.type))


def as_json(lists: pa.Array) -> pa.Array:
    """Lists as JSON texts, for a column that is not of lists alone."""
    texts = [None if one is None else json.dumps(one, ensure_ascii=False, default=str) for one in lists.to_pylist()]
    return pa.array(texts, pa.string())


def retype(table: lance.LanceDataset, column: str, wanted: pa.DataType) -> None:
    """Change the type of a column, values and row numbers kept. Hold the commit lock.

    Three commits: a copy, the old one dropped, the copy renamed. `finish_retyping` completes it after a crash.
    """
    kept = table.schema.field(column).type
    if wanted not in SQL and not pa.types.is_list(wanted):
        raise UsageError(
            f"metadata column {column!r} is {kept} in the store and cannot become {wanted}; "
            "give it another name in the source, or index into a new store"
        )
    interim = f"{INTERIM} {column}"
    if pa.types.is_list(kept):
        _add_cast_lists(table, column, pa.field(interim, wanted))
    else:
        table.add_columns({interim: f"cast(`{column}` as {SQL[wanted]})"})
    table.drop_columns([column])
    _rename(table, interim, column)


def _add_cast_lists(table: lance.LanceDataset, column: str, interim: pa.Field) -> None:
    schema = pa.schema([interim])

    def cast(batch: pa.RecordBatch) -> pa.RecordBatch:
        lists = batch.column(column)
        return pa.record_batch([as_json(lists) if interim.type == pa.string() else lists.cast(interim.type)], schema)

    table.add_columns(lance.batch_udf(output_schema=schema)(cast), read_columns=[column])


def finish_retyping(table: lance.LanceDataset) -> None:
    """Finish or undo an interrupted change of type. Hold the commit lock."""
    for interim in [name for name in table.schema.names if name.startswith(f"{INTERIM} ")]:
        column = interim.removeprefix(f"{INTERIM} ")
        if column in table.schema.names:
            table.drop_columns([interim])
        else:
            _rename(table, interim, column)


def _rename(table: lance.LanceDataset, old: str, new: str) -> None:
    change: Any = {"path": old, "name": new}
    table.alter_columns(change)


INDEX_IDS_FROM = 10_000
"""Rows from which an index over ids pays for itself."""

ROWS_PER_COMMIT = 64 * ROWS_PER_FLUSH


class StagedItems(StagedRows):
    """Item rows to be committed."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        super().__init__(folder / "items.parquet", schema)
        self._names = frozenset(schema.names)  # of thousands of columns, a list for each look-up takes minutes
        self._dropped: frozenset[str] = frozenset()

    def add(self, item: StoredItem) -> None:
        """Stage one new or edited item, each id once. Raises UsageError where metadata does not fit the columns."""
        unknown = item.metadata.keys() - self._names
        if unknown:
            raise UsageError(
                f"item {item.id!r} has metadata {min(unknown)!r}, which is not among the columns "
                f"{[name for name in self.schema.names if name not in RESERVED]}; declare it in the metadata schema"
            )
        self.add_row(item)

    def is_empty(self, column: str) -> bool:
        """Whether no staged row has a value in a column. Close first."""
        return all(batch.column(0).null_count == len(batch) for batch in self.read([column]))

    def items(self, ids: Collection[str]) -> dict[str, StoredItem]:
        """The staged items of these ids. Close first."""
        wanted = pa.array(list(ids), pa.string())
        rows = (batch.filter(pc.is_in(batch.column("id"), wanted)).to_pylist() for batch in self.read())
        return {row["id"]: as_item(row) for some in rows for row in some}

    def drop(self, ids: Collection[str]) -> set[str]:
        """Exclude these items from the commit. Call it once, after closing. Returns the ids that were staged."""
        wanted = pa.array(sorted(ids), pa.string())
        staged: set[str] = set()
        for batch in self.read(["id"]) if len(wanted) else ():
            staged.update(batch.column("id").filter(pc.is_in(batch.column("id"), wanted)).to_pylist())
        self._dropped = frozenset(staged)
        self.count -= len(staged)
        return staged

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The staged rows that were not dropped. Close first."""
        dropped = pa.array(sorted(self._dropped), pa.string())
        for batch in self.read():
            yield batch.filter(pc.invert(pc.is_in(batch.column("id"), dropped))) if self._dropped else batch

    def as_table(self, items: list[StoredItem]) -> pa.Table:
        """Items as a table. Raises UsageError naming one that does not fit the columns."""
        try:
            return as_table(items, self.schema)
        except (pa.ArrowException, OverflowError, TypeError, UnicodeError) as error:
            if len(items) > 1:
                for item in items:
                    self.as_table([item])
            columns = {field.name: str(field.type) for field in self.schema if field.name not in RESERVED}
            raise UsageError(
                f"item {items[0].id!r} does not fit the metadata columns {columns}: {error}; convert it in the source"
            ) from error


def commit_items(path: Path, staged: StagedItems) -> None:
    """Insert new items and replace edited ones. Hold the commit lock; close `staged` first.

    One commit, or one per `ROWS_PER_COMMIT` where more are merged into a table that is not empty: a merge is held in
    memory. A metadata column of another type than the stored one widens it. Raises StoreError on failure.
    """
    if not staged.count:
        return
    with convert_write_errors(path):
        table = open_table(path)
        if table is None:
            table = create_table(path, staged.schema)
        schema = _reconcile(table, staged)
        batches = _cast(staged.batches(), schema)
        if table.count_rows() == 0:
            reader = pa.RecordBatchReader.from_batches(schema, batches)
            table = lance.write_dataset(reader, str(path), mode="append")
        else:
            while piece := list(islice(batches, ROWS_PER_COMMIT // ROWS_PER_FLUSH)):
                merge = table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all()
                merge.execute(pa.Table.from_batches(piece))
        _index_ids(table)
        compact(table)


def remove_items(path: Path, ids: Sequence[str]) -> int:
    """Delete the items of these ids, in one commit. Hold the commit lock. Returns how many existed."""
    table = open_table(path)
    if table is None or not ids:
        return 0
    if len(ids) <= VALUES_PER_QUERY and not table.count_rows(next(value_filters("id", ids))):
        return 0  # the deletion of nothing would be a commit too
    with convert_write_errors(path):
        gone = pa.table({"id": pa.array(ids, pa.string())})
        return int(table.merge_insert("id").when_matched_delete().execute(gone)["num_deleted_rows"])


def _reconcile(table: lance.LanceDataset, staged: StagedItems) -> pa.Schema:
    """Add new metadata columns and widen those of another type. Returns all columns."""
    finish_retyping(table)
    empty = [field.name for field in table.schema if pa.types.is_null(field.type)]
    incoming = frozenset(staged.schema.names)
    filled = [name for name in empty if name in incoming and not pa.types.is_null(staged.schema.field(name).type)]
    if filled:
        table.drop_columns(filled)  # nothing was ever in them, so their type is only now known
    there = frozenset(table.schema.names)
    new = [field for field in staged.schema if field.name not in there]
    if new:
        table.add_columns(pa.schema(new))
    kept_types = {field.name: field.type for field in table.schema}
    for field in staged.schema:
        kept = kept_types[field.name]
        if field.name not in RESERVED and kept != field.type and not staged.is_empty(field.name):
            wanted = common_type(kept, field.type)
            if wanted != kept:
                retype(table, field.name, wanted)
    return pa.schema([*OWN_COLUMNS, *(field for field in table.schema if field.name not in RESERVED)])


def _cast(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    for batch in batches:
        there = frozenset(batch.schema.names)
        columns = [
            _cast_column(batch.column(field.name), field.type)
            if field.name in there
            else pa.nulls(len(batch), field.type)
            for field in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast_column(column: pa.Array, wanted: pa.DataType) -> pa.Array:
    if column.null_count == len(column):
        return pa.nulls(len(column), wanted)  # texts cannot be cast to lists, not even where there are none
    if pa.types.is_list(column.type) and pa.types.is_string(wanted):
        return as_json(column)
    return column.cast(wanted)


def _index_ids(table: lance.LanceDataset) -> None:
    if any(index.name == "id_idx" for index in table.describe_indices()):
        table.optimize.optimize_indices()
    elif table.count_rows() >= INDEX_IDS_FROM:
        table.create_scalar_index("id", "BTREE", name="id_idx")
