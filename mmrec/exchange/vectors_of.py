"""The vectors of a store, a batch of items at a time: fused by a generation, or of the contents in one space."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int64

from mmrec.errors import StoreError, UsageError
from mmrec.fusion.files import load_fusion
from mmrec.fusion.fusion import Fusion
from mmrec.generation.fuse import fuse_batch, open_tables
from mmrec.generation.generation import FUSION, MODALITIES, ROWS, VECTORS
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.files import file_sha256
from mmrec.store.generations import Manifest, current, manifest
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout
from mmrec.store.stored_item import as_fields
from mmrec.store.vectors import VectorTable

__all__ = ["ContentVectors", "ItemVectors", "fused_by", "read_fusion"]

CONTENT_COLUMNS = (
    pa.field("mmrec_modality", pa.string()),
    pa.field("mmrec_column", pa.string()),
    pa.field("mmrec_uri", pa.string()),
    pa.field("mmrec_hash", pa.binary(16)),
)


@dataclass(frozen=True)
class ItemVectors:
    """Items as they are now, by the fusion of a generation: its own vectors where an item has not changed since.

    Nothing is held but the row numbers; vectors are mapped from disk.
    """

    layout: Layout
    made: Manifest
    fusion: Fusion
    columns: tuple[pa.Field, ...] = field(default=(), init=False)

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return self.fusion.dim

    def batches(self, items: ItemTable, where: str | None) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Items that have a vector, and their vectors."""
        folder = self.layout.generations / str(self.made.number)
        try:
            rows, vectors, bits = (
                np.load(folder / name, mmap_mode="r", allow_pickle=False) for name in (ROWS, VECTORS, MODALITIES)
            )
        except (OSError, ValueError) as error:
            raise _damaged(self.layout, self.made.number, str(error)) from error
        if rows.shape != (self.made.items,) or vectors.shape != (self.made.items, self.made.dim):
            raise _damaged(self.layout, self.made.number, "its vectors and row numbers are not as many as it says")
        fresh = items.changed_since(self.made.items_version)
        tables = open_tables(self.layout, self.fusion.blocks)
        for batch in items.scan(where):
            numbers = batch.column("_rowid").to_numpy().astype(np.int64)
            known = _is_in(numbers, rows) & ~_is_in(numbers, fresh)
            places = np.searchsorted(rows, numbers)
            found = np.zeros((len(numbers), self.dim), dtype=np.float32)
            has = np.zeros(len(numbers), dtype=bool)
            found[known] = vectors[places[known]]
            has[known] = bits[places[known]] > 0
            if not known.all():
                fields = batch.column("mmrec_fields").filter(pa.array(~known)).to_pylist()
                fused = fuse_batch(self.fusion, tables, [as_fields(entry) for entry in fields])
                found[~known] = fused.vectors
                has[~known] = fused.present.any(axis=1)
            yield batch.filter(pa.array(has)), found[has]


@dataclass(frozen=True)
class ContentVectors:
    """Contents of the items in one space; an item with several has a row for each."""

    layout: Layout
    space: Space
    modalities: frozenset[Modality]
    columns: tuple[pa.Field, ...] = field(default=CONTENT_COLUMNS, init=False)

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return self.space.dim

    def batches(self, items: ItemTable, where: str | None) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Contents that have a vector, each beside its item's columns, and their vectors."""
        table = VectorTable(self.layout.vectors(self.space), self.space)
        for batch in items.scan(where):
            fields = [as_fields(entry) for entry in batch.column("mmrec_fields").to_pylist()]
            pairs = [
                (place, one)
                for place, some in enumerate(fields)
                for one in some
                if one.hash is not None and one.modality in self.modalities
            ]
            has, vectors = table.fetch([one.hash or b"" for _, one in pairs])
            kept = [pair for pair, there in zip(pairs, has.tolist(), strict=True) if there]
            taken = batch.take(pa.array([place for place, _ in kept], pa.int64()))
            values = [
                [str(one.modality) for _, one in kept],
                [one.column for _, one in kept],
                [one.uri for _, one in kept],
                [one.hash for _, one in kept],
            ]
            for column, some in zip(CONTENT_COLUMNS, values, strict=True):
                taken = taken.append_column(column.name, pa.array(some, column.type))
            yield taken, vectors[has]


def read_fusion(layout: Layout, number: int | None) -> tuple[Manifest, Fusion]:
    """The fusion of a generation, by default the current, checked against its manifest.

    Raises StoreError where there is none or it is damaged.
    """
    chosen = current(layout) if number is None else number
    if chosen is None:
        raise StoreError(f"{layout.root} has no generation yet; finish it with `mmrec index SOURCE {layout.root}`")
    if not (layout.generations / str(chosen)).is_dir():
        raise UsageError(f"there is no generation {chosen}; see those there are with `mmrec generations {layout.root}`")
    made = manifest(layout, chosen)
    path = layout.generations / str(chosen) / FUSION
    try:
        if file_sha256(path) != made.sha256[FUSION]:
            raise _damaged(layout, chosen, f"{FUSION} is not the file that was published")
        return made, load_fusion(path)
    except (OSError, ValueError, KeyError) as error:
        raise _damaged(layout, chosen, str(error)) from error


def fused_by(layout: Layout, number: int | None) -> ItemVectors:
    """Item vectors of a generation, its file of vectors checked against the manifest. Raises StoreError."""
    made, fusion = read_fusion(layout, number)
    path = layout.generations / str(made.number) / VECTORS
    try:
        damaged = file_sha256(path) != made.sha256[VECTORS]
    except (OSError, KeyError) as error:
        raise _damaged(layout, made.number, str(error)) from error
    if damaged:
        raise _damaged(layout, made.number, f"{VECTORS} is not the file that was published")
    return ItemVectors(layout, made, fusion)


def _damaged(layout: Layout, number: int, why: str) -> StoreError:
    return StoreError(f"generation {number} of {layout.root} is damaged: {why}; go back with `mmrec rollback`")


def _is_in(numbers: Int64[np.ndarray, " n"], ascending: Int64[np.ndarray, " m"]) -> Bool[np.ndarray, " n"]:
    if not len(ascending):
        return np.zeros(len(numbers), dtype=bool)
    return ascending[np.minimum(np.searchsorted(ascending, numbers), len(ascending) - 1)] == numbers
