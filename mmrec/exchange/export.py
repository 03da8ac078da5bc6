"""A store's vectors into files: ids, metadata, and what the items or their contents are in the space."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa

from mmrec.errors import UsageError
from mmrec.exchange.origin import Origin
from mmrec.exchange.places import placed
from mmrec.exchange.vectors_of import ContentVectors, ItemVectors, fused_by, read_fusion
from mmrec.exchange.writers import write_dataset, write_parquet_directory, write_parquet_file
from mmrec.generation.generation import FUSION
from mmrec.store.item_schema import RESERVED
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout
from mmrec.store.tables import writing

__all__ = ["Export", "Exported", "export_vectors"]


@dataclass(frozen=True, slots=True)
class Export:
    """What is exported, and how.

    Attributes:
        space: Name of a space, for the vectors of the contents in it; None for the items' own, fused ones.
        generation: Whose fusion and blocks; None for the current generation. The items are those of now.
        where: SQL condition on ``id`` and metadata that items must meet.
        dtype: How a number is stored; the store itself keeps float16.
        format: ``parquet`` or ``datasets``.
        vector_column: Name of the column of vectors.
        overwrite: Replace an export that is there.

    """

    space: str | None = None
    generation: int | None = None
    where: str | None = None
    dtype: Literal["float16", "float32"] = "float16"
    format: Literal["parquet", "datasets"] = "parquet"
    vector_column: str = "vector"
    overwrite: bool = False


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written.

    Attributes:
        path: Where.
        rows: How many vectors.
        items: How many items they are of.
        origin: What the vectors are; it is in the files too.

    """

    path: Path
    rows: int
    items: int
    origin: Origin


def export_vectors(layout: Layout, out: Path, how: Export) -> Exported:
    """Write ids, metadata and vectors: a file where `out` ends in ``.parquet``, else a directory.

    Items and contents without a vector are left out. Memory does not grow with the store. Raises UsageError where the
    place, a column or the filter cannot be used, and StoreError where the generation is damaged or the disk full; what
    was at `out` before is then as it was.
    """
    items = ItemTable(layout.items)
    vectors = fused_by(layout, how.generation) if how.space is None else _contents(layout, how.space, how.generation)
    origin = _origin(layout, vectors, how)
    schema = _schema(items.metadata_schema, vectors, how)
    counts = [0, 0]
    with placed(out, layout.root, overwrite=how.overwrite) as made, writing(out):
        batches = _batches(vectors, items, how, schema, counts)
        if how.format == "datasets":
            write_dataset(made, batches, schema, origin)
        elif out.suffix == ".parquet":
            write_parquet_file(made, batches, schema, origin)
        else:
            write_parquet_directory(made, batches, schema, origin)
    return Exported(out, counts[0], counts[1], origin)


def _contents(layout: Layout, name: str, number: int | None) -> ContentVectors:
    _, fusion = read_fusion(layout, number)
    of_name = [block for block in fusion.blocks if block.space.name == name]
    if not of_name:
        there = ", ".join(sorted({block.space.name for block in fusion.blocks}))
        raise UsageError(f"this generation has no space {name!r}; there are {there}")
    return ContentVectors(layout, of_name[0].space, frozenset(block.modality for block in of_name))


def _origin(layout: Layout, vectors: ItemVectors | ContentVectors, how: Export) -> Origin:
    made, _ = read_fusion(layout, how.generation)
    if isinstance(vectors, ContentVectors):
        return Origin(
            kind="contents",
            space=vectors.space.name,
            fingerprint=vectors.space.fingerprint,
            dim=vectors.dim,
            dtype=how.dtype,
            encoders=made.encoders,
            generation=made.number,
            modalities=tuple(sorted(str(one) for one in vectors.modalities)),
        )
    fusion = vectors.fusion
    return Origin(
        kind="items",
        space="fused",
        fingerprint=made.sha256[FUSION],
        dim=vectors.dim,
        dtype=how.dtype,
        encoders=made.encoders,
        generation=made.number,
        blocks={one.name: part.stop - part.start for one, part in zip(fusion.blocks, fusion.slices, strict=True)},
        modalities=tuple(sorted({str(block.modality) for block in fusion.blocks})),
    )


def _schema(metadata: pa.Schema, vectors: ItemVectors | ContentVectors, how: Export) -> pa.Schema:
    if how.vector_column in {*metadata.names, *RESERVED, *(column.name for column in vectors.columns)}:
        raise UsageError(
            f"a column {how.vector_column!r} is there already; name the column of vectors with --vector-column"
        )
    numbers = pa.float16() if how.dtype == "float16" else pa.float32()
    vector = pa.field(how.vector_column, pa.list_(numbers, vectors.dim))
    return pa.schema([pa.field("id", pa.string()), *vectors.columns, vector, *metadata])


def _batches(
    vectors: ItemVectors | ContentVectors, items: ItemTable, how: Export, schema: pa.Schema, counts: list[int]
) -> Iterator[pa.RecordBatch]:
    numbers = np.float16 if how.dtype == "float16" else np.float32
    for batch, found in vectors.batches(items, how.where):
        counts[0] += len(batch)
        counts[1] += len(set(batch.column("id").to_pylist()))
        flat = pa.array(found.astype(numbers).reshape(-1))
        column = pa.FixedSizeListArray.from_arrays(flat, vectors.dim)
        columns = [column if field.name == how.vector_column else batch.column(field.name) for field in schema]
        yield pa.RecordBatch.from_arrays(columns, schema=schema)
