"""Changes to the items, gathered on disk by a job and committed at once."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import lance
import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.errors import UsageError
from mmrec.store.items import IDS_PER_QUERY, OWN_COLUMNS, RESERVED, StoredItem
from mmrec.store.tables import compact, create, open_table, quoted

__all__ = ["StagedItems", "commit_items", "remove_items"]

INDEX_IDS_FROM = 10_000
"""Rows from which an index over ids pays for itself."""

ROWS_PER_FLUSH = 4096


class StagedItems:
    """Item rows on their way into the table: kept in one Parquet file, so that memory stays bounded."""

    def __init__(self, folder: Path, schema: pa.Schema) -> None:
        self.path = folder / "items.parquet"
        self.schema = schema
        self._writer = pq.ParquetWriter(self.path, schema)
        self._pending: list[dict[str, Any]] = []
        self.count = 0

    def add(self, item: StoredItem) -> None:
        """Stage one new or edited item."""
        own = {"id": item.id, "mmrec_digest": item.digest, "mmrec_text": item.text}
        fields = [{**asdict(field), "modality": str(field.modality)} for field in item.fields]
        self._pending.append({**item.metadata, **own, "mmrec_fields": fields})
        self.count += 1
        if len(self._pending) >= ROWS_PER_FLUSH:
            self._flush()

    def close(self) -> None:
        """Finish the file, so that it can be read; a second call does nothing."""
        if self._writer.is_open:
            self._flush()
            self._writer.close()

    def _flush(self) -> None:
        if self._pending:
            self._writer.write_table(pa.Table.from_pylist(self._pending, schema=self.schema))
            self._pending = []


def commit_items(path: Path, staged: StagedItems) -> None:
    """Insert new items and replace edited ones, in one commit. Hold the commit lock; close `staged` first.

    Raises UsageError where a metadata column changed to a type that does not fit the stored one.
    """
    if not staged.count:
        return
    table = open_table(path) or create(path, staged.schema)
    schema = _reconcile(table, staged.schema)
    reader = pa.RecordBatchReader.from_batches(schema, _cast(pq.ParquetFile(staged.path), schema))
    table.merge_insert("id").when_matched_update_all().when_not_matched_insert_all().execute(reader)
    _index_ids(table)
    compact(table)


def remove_items(path: Path, ids: Sequence[str]) -> int:
    """Delete the items of these ids. Hold the commit lock. Returns how many were there."""
    table = open_table(path)
    if table is None:
        return 0
    before = table.count_rows()
    for start in range(0, len(ids), IDS_PER_QUERY):
        table.delete(f"id IN ({quoted(list(ids[start : start + IDS_PER_QUERY]))})")
    return int(before - table.count_rows())


def _reconcile(table: lance.LanceDataset, staged: pa.Schema) -> pa.Schema:
    """Add the metadata columns that are new; check that the others still fit."""
    new = [field for field in staged if field.name not in table.schema.names]
    if new:
        table.add_columns(pa.schema(new))
    for field in staged:
        kept = table.schema.field(field.name).type
        if field.name not in RESERVED and kept != field.type and not _widens(field.type, kept):
            msg = (
                f"metadata column {field.name!r} is {field.type} in the source but {kept} in the store; "
                "give it the old type, another name, or index into a new store"
            )
            raise UsageError(msg)
    return pa.schema([*OWN_COLUMNS, *(field for field in table.schema if field.name not in RESERVED)])


def _widens(narrow: pa.DataType, wide: pa.DataType) -> bool:
    return pa.types.is_null(narrow) or (pa.types.is_integer(narrow) and pa.types.is_floating(wide))


def _cast(file: pq.ParquetFile, schema: pa.Schema) -> Iterable[pa.RecordBatch]:
    for batch in file.iter_batches(batch_size=ROWS_PER_FLUSH):
        columns = [
            batch.column(field.name).cast(field.type)
            if field.name in batch.schema.names
            else pa.nulls(len(batch), field.type)
            for field in schema
        ]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _index_ids(table: lance.LanceDataset) -> None:
    if any(index.name == "id_idx" for index in table.describe_indices()):
        table.optimize.optimize_indices()
    elif table.count_rows() >= INDEX_IDS_FROM:
        table.create_scalar_index("id", "BTREE", name="id_idx")
