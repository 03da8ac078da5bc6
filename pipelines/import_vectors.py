"""The job behind ``mmrec import-vectors``."""

import time
from pathlib import Path

from mmrec.compute import own_threads
from mmrec.exchange.importing import Import, import_vectors
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout
from pipelines import answers, console

__all__ = ["run"]


def run(store: Path, file: Path, how: Import) -> dict[str, object]:
    """Bring vectors into a store. Returns what is told of it. Raises UsageError, SpaceMismatchError or StoreError."""
    started = time.perf_counter()
    own_threads()
    layout = Layout(store)
    tally, space, made = import_vectors(layout, file, how)
    answers.warn_of(made)
    if tally.shared:
        console.note(
            f"{tally.shared:,} of {tally.seen:,} vectors are of {space.modality} contents equal to that of an earlier "
            "row; equal contents have one vector, and the first was kept."
        )
    return {
        "items": len(ItemTable(layout.items)),
        "rows": tally.seen,
        "vectors": tally.vectors,
        "known": tally.known,
        "shared": tally.shared,
        "added": tally.added,
        "changed": tally.changed,
        "quarantined": tally.quarantined,
        "space": space.model_dump(mode="json"),
        "generation": made.number,
        "seconds": time.perf_counter() - started,
    }
