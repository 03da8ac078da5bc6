"""The items of a store, as behaviour knows them: their ids and row numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64

__all__ = ["KnownItems"]


@dataclass(frozen=True, slots=True, eq=False)
class KnownItems:
    """Ids of items, ascending, and the row number of each.

    Attributes:
        ids: Ids, ascending by their UTF-8 bytes.
        rows: Row number of each id, as the item table and the indexes use it.

    """

    ids: pa.StringArray
    rows: Int64[np.ndarray, " items"]

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch]) -> "KnownItems":
        """Take batches with columns ``id`` and ``_rowid``, as `ItemTable.id_rows` gives them."""
        schema = pa.schema([("id", pa.string()), ("_rowid", pa.int64())])
        table = pa.Table.from_batches([batch.select(schema.names).cast(schema) for batch in batches], schema)
        table = table.sort_by("id").combine_chunks()
        ids = pa.chunked_array(table["id"], pa.string()).combine_chunks()
        return cls(ids, table["_rowid"].to_numpy())

    @classmethod
    def numbered(cls, ids: Sequence[str]) -> "KnownItems":
        """Number items by their place in a list: for behaviour without a store."""
        columns = {"id": pa.array(ids, pa.string()), "_rowid": pa.array(range(len(ids)), pa.int64())}
        return cls.of([pa.record_batch(columns)])

    def among(self, rows: Int64[np.ndarray, " some"]) -> "KnownItems":
        """Those of some row numbers."""
        there = np.isin(self.rows, rows)
        return KnownItems(self.ids.filter(pa.array(there)), self.rows[there])

    def __len__(self) -> int:
        """Number of items."""
        return len(self.ids)

    def rows_of(self, ids: pa.StringArray) -> Int64[np.ndarray, " n"]:
        """Row number of each id, -1 where there is no such item."""
        places = pc.index_in(ids, value_set=self.ids).fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
        found = places >= 0
        rows = np.full(len(places), -1, dtype=np.int64)
        rows[found] = self.rows[places[found]]
        return rows
