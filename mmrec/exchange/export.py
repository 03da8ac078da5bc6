"""Export ids, metadata and vectors to Parquet, CSV, JSON Lines or NumPy files."""

import importlib
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from indexers.atomic import temporary_name
from mmrec.errors import UsageError
from mmrec.exchange.vector_files import METADATA_KEY, Origin
from mmrec.exchange.vectors_of import ContentVectors, ItemVectors, fused_by, read_fusion
from mmrec.files import is_irregular, replace_tree
from mmrec.generation.generation import FUSION
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.stored_item import RESERVED
from mmrec.storage.tables import convert_write_errors

OURS = ("part-*.parquet", "data-*.arrow", "state.json", "dataset_info.json")
"""The files of an export to a directory."""


def check_place(out: Path, store: Path, *, overwrite: bool) -> None:
    """Raise UsageError unless an export may be written to `out`: a directory is replaced only if it is an export."""
    if out.resolve().is_relative_to(store.resolve()):
        raise UsageError(f"{out} is inside the store {store}; export to another place")
    if not out.parent.is_dir():
        raise UsageError(f"there is no directory {out.parent}; make it first, or export to another place")
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise UsageError(f"{out} exists; add --overwrite to replace it, or name another place")
    foreign = _foreign(out)
    if foreign is not None:
        raise UsageError(f"{out} holds {foreign}, which no export wrote, so it is not replaced; name another place")


@contextmanager
def placed(out: Path, store: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path beside `out`; what is written there replaces `out` at the end, and is removed after an error."""
    check_place(out, store, overwrite=overwrite)
    made = out.with_name(temporary_name(out.name))
    try:
        yield made
        check_place(out, store, overwrite=overwrite)  # an hour may have passed
        replace_tree(made, out)
    finally:
        if made.is_file():
            made.unlink()
        shutil.rmtree(made, ignore_errors=True)


def _foreign(out: Path) -> str | None:
    """Something at `out` that no export wrote; None if there is nothing of the kind."""
    if is_irregular(out):
        return "a link or a device"
    if out.is_file():
        return None
    odd = next((path.name for path in sorted(out.iterdir()) if not any(path.match(name) for name in OURS)), None)
    return None if odd is None else repr(odd)


ROWS_PER_FILE = 1_000_000
ROWS_PER_GROUP = 16_384


def write_parquet_file(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, origin: Origin) -> None:
    """One Parquet file, its origin among the file's metadata."""
    source = iter(batches)
    with pq.ParquetWriter(path, schema.with_metadata({METADATA_KEY: origin.dump()}), compression="zstd") as writer:
        while group := list(_at_least(source, ROWS_PER_GROUP)):
            writer.write_table(pa.Table.from_batches(group, schema), row_group_size=ROWS_PER_GROUP)


def write_parquet_directory(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, origin: Origin) -> None:
    """Parquet files of a million rows or so, each with the origin; one without rows where there are none."""
    path.mkdir()
    for number, some in enumerate(_pieces(batches, schema)):
        write_parquet_file(path / f"part-{number:05}.parquet", some, schema, origin)


def write_dataset(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, origin: Origin) -> None:
    """A directory that `datasets.load_from_disk` opens; the origin is the description, as JSON.

    The rows are written twice: once as they come, for `datasets` to map from disk, and then by it. Raises UsageError
    if there are none, for `datasets` could not open that.
    """
    datasets = importlib.import_module("datasets")
    path.mkdir()
    interim = path / "interim" / "rows.arrow"  # `datasets` refuses to write into the folder it reads from
    interim.parent.mkdir()
    with pa.OSFile(str(interim), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
    whole = datasets.Dataset.from_file(str(interim))
    if not len(whole):
        raise UsageError("no item has a vector to export, and a `datasets` directory cannot be empty; widen --where")
    whole.info.description = origin.dump().decode()
    with _without_bars():
        whole.save_to_disk(str(path))
    shutil.rmtree(interim.parent)


def _pieces(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches in runs of `ROWS_PER_FILE`; take each run whole before the next. There is always one."""
    source = iter(batches)
    following: pa.RecordBatch | None = next(source, pa.RecordBatch.from_pylist([], schema=schema))
    while following is not None:
        yield _at_least(chain([following], source), ROWS_PER_FILE)
        following = next(source, None)


def _at_least(source: Iterator[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Take batches until they have so many rows."""
    count = 0
    while count < rows and (batch := next(source, None)) is not None:
        yield batch
        count += len(batch)


@contextmanager
def _without_bars() -> Iterator[None]:
    bars = importlib.import_module("datasets.utils")
    shown = bars.is_progress_bar_enabled()
    bars.disable_progress_bars()
    try:
        yield
    finally:
        if shown:
            bars.enable_progress_bars()


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
    """Where vectors were written, how many, of how many items, and what they are; that is in the files too."""

    path: Path
    rows: int
    items: int
    origin: Origin


def export_vectors(layout: Layout, out: Path, how: Export) -> Exported:
    """Write ids, metadata and vectors: a file where `out` ends in ``.parquet``, else a directory.

    Items and contents without a vector are left out. Memory does not grow with the store. Raises UsageError if the
    place, a column or the filter cannot be used, and StoreError if the generation is damaged or the disk full; what
    was at `out` before is then as it was.
    """
    items = ItemTable(layout.items)
    vectors = fused_by(layout, how.generation) if how.space is None else _contents(layout, how.space, how.generation)
    origin = _origin(layout, vectors, how)
    schema = _schema(items.metadata_schema, vectors, how)
    counts = [0, 0]
    with placed(out, layout.root, overwrite=how.overwrite) as made, convert_write_errors(out):
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
    made, fusion = read_fusion(layout, how.generation)
    own: dict[str, Any] = {
        "kind": "items",
        "space": "fused",
        "fingerprint": made.sha256[FUSION],
        "blocks": {one.name: part.stop - part.start for one, part in zip(fusion.blocks, fusion.slices, strict=True)},
        "modalities": {block.modality for block in fusion.blocks},
    }
    if isinstance(vectors, ContentVectors):
        space = vectors.space
        own = {"kind": "contents", "space": space.name, "fingerprint": space.fingerprint}
        own["modalities"] = vectors.modalities
    own["modalities"] = tuple(sorted(map(str, own["modalities"])))
    return Origin(dim=vectors.dim, dtype=how.dtype, encoders=made.encoders, generation=made.number, **own)


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
