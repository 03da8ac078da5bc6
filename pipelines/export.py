"""The job behind ``mmrec export``."""

import time
from pathlib import Path
from typing import Literal

from mmrec.errors import UsageError
from mmrec.exchange.export import Export, export_vectors
from mmrec.store.layout import Layout

__all__ = ["chosen_format", "run"]


def run(store: Path, out: Path, how: Export) -> dict[str, object]:
    """Export a store's vectors. Returns what is told of it. Raises UsageError or StoreError."""
    started = time.perf_counter()
    layout = Layout(store)
    layout.check()
    done = export_vectors(layout, out, how)
    told = {
        "path": str(done.path),
        "format": how.format,
        "vectors": done.rows,
        "items": done.items,
        **done.origin.model_dump(exclude={"blocks"}),
        "seconds": time.perf_counter() - started,
    }
    return told | ({"blocks": done.origin.blocks} if done.origin.blocks else {})


def chosen_format(given: str | None, out: Path) -> Literal["parquet", "datasets"]:
    """The format as given, else by the place: Parquet for a name that ends so, else a `datasets` directory."""
    if given is None:
        return "parquet" if out.suffix == ".parquet" else "datasets"
    if given == "parquet":
        return "parquet"
    if given != "datasets":
        raise UsageError(f"There is no format {given!r}: choose parquet or datasets.")
    if out.suffix == ".parquet":
        raise UsageError(f"{out} is named as a Parquet file, and datasets is a directory: name the place otherwise.")
    return "datasets"
