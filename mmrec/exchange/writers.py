"""Record batches into the files that other programs read, a batch in memory at a time."""

import importlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.errors import UsageError
from mmrec.exchange.origin import METADATA_KEY, Origin

__all__ = ["write_dataset", "write_parquet_directory", "write_parquet_file"]

ROWS_PER_FILE = 1_000_000
ROWS_PER_GROUP = 16_384


def write_parquet_file(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, origin: Origin) -> None:
    """One Parquet file, its origin among the file's metadata."""
    pending: list[pa.RecordBatch] = []
    with pq.ParquetWriter(path, schema.with_metadata({METADATA_KEY: origin.dump()}), compression="zstd") as writer:
        for batch in batches:
            pending.append(batch)
            if sum(len(one) for one in pending) >= ROWS_PER_GROUP:
                writer.write_table(pa.Table.from_batches(pending, schema), row_group_size=ROWS_PER_GROUP)
                pending.clear()
        if pending:
            writer.write_table(pa.Table.from_batches(pending, schema), row_group_size=ROWS_PER_GROUP)


def write_parquet_directory(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, origin: Origin) -> None:
    """Parquet files of a million rows or so, each with the origin; one without rows where there are none."""
    path.mkdir()
    for number, some in enumerate(_pieces(batches, schema)):
        write_parquet_file(path / f"part-{number:05}.parquet", some, schema, origin)


def write_dataset(path: Path, batches: Iterable[pa.RecordBatch], schema: pa.Schema, origin: Origin) -> None:
    """A directory that `datasets.load_from_disk` opens; the origin is the description, as JSON.

    The rows are written twice: once as they come, for `datasets` to map from disk, and then by it. Raises UsageError
    where there are none, for `datasets` could not open that.
    """
    datasets = importlib.import_module("datasets")
    path.mkdir()
    interim = path / "interim"
    interim.mkdir()
    files = []
    for number, some in enumerate(_pieces(batches, schema)):
        files.append(interim / f"{number:05}.arrow")
        with pa.OSFile(str(files[-1]), "wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for batch in some:
                writer.write_batch(batch)
    parts = [datasets.Dataset.from_file(str(file)) for file in files]
    whole = datasets.concatenate_datasets(parts) if len(parts) > 1 else parts[0]  # it takes none without rows
    if not len(whole):
        raise UsageError("no item has a vector to export, and a `datasets` directory cannot be empty; widen --where")
    whole.info.description = origin.dump().decode()
    with _without_bars():
        whole.save_to_disk(str(path))
    for file in files:
        file.unlink()
    interim.rmdir()


def _pieces(batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> Iterator[Iterator[pa.RecordBatch]]:
    """The batches in runs of `ROWS_PER_FILE`; take each run whole before the next. There is always one."""
    source = iter(batches)
    first = next(source, pa.RecordBatch.from_pylist([], schema=schema))

    def run(batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        count = 0
        for one in chain([batch], source):
            yield one
            count += len(one)
            if count >= ROWS_PER_FILE:
                return

    following: pa.RecordBatch | None = first
    while following is not None:
        yield run(following)
        following = next(source, None)


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
