"""The job behind ``mmrec quarantine``: what was left out, and trying it again."""

import time
from itertools import islice
from pathlib import Path

from mmrec.embedding.retry import can_be_retried, items_to_retry
from mmrec.encoders.presets import load_encoders, recorded_source
from mmrec.errors import UsageError
from mmrec.indexing import Indexing, index_items
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout
from mmrec.store.quarantine import count_quarantined, quarantined, read_quarantine
from pipelines import answers, console
from pipelines.index import encoders_of
from pipelines.media import opened_media
from pipelines.progress import Reporter, progress

__all__ = ["retry", "show"]

FEW = 50
"""Entries that a terminal shows unless asked for more."""


def show(store: Path, limit: int | None, *, as_json: bool) -> None:
    """Print what was left out: in JSON all of it, as it comes, else the first few; `limit` is for both, 0 for all."""
    layout = Layout(store)
    layout.check()
    path = layout.quarantine
    if as_json:
        entries = read_quarantine(path)
        some = islice(entries, limit) if limit else entries
        console.emit_json_rows("quarantined", answers.quarantine_rows(some))
        return
    few = FEW if limit is None else limit
    rows = list(answers.quarantine_rows(quarantined(path, few or None)))
    answers.print_rows("quarantined", rows, as_json=False, empty="Nothing was left out.")
    more = count_quarantined(path) - len(rows)
    if more > 0:
        console.note(f"{more:,} more: --limit 0 shows all, --json gives all to a program.")


def retry(
    store: Path,
    encoders: str | None,
    device: str,
    dtype: str,
    *,
    trust_code: bool,
    media_root: str | None,
    allow_fetch: bool,
) -> dict[str, object]:
    """Try again what was left out, from where it lies. Returns what is told of it.

    Raises UsageError where the store has encoders of a person's own that are not named, and StoreError.
    """
    started = time.perf_counter()
    layout = Layout(store)
    layout.check()
    entries = count_quarantined(layout.quarantine)
    hopeless = sum(not can_be_retried(entry) for entry in read_quarantine(layout.quarantine))
    told: dict[str, object] = {"before": entries, "need_the_source": hopeless}
    if entries == hopeless:
        return told | {"tried": 0, "recovered": 0, "quarantined": entries, "seconds": time.perf_counter() - started}
    table = ItemTable(layout.items)
    if not table.version:
        raise UsageError(f"{store} has no item yet; index its source again: mmrec index SOURCE {store}")
    chosen = encoders_of(encoders, layout)
    with opened_media(media_root, allow_fetch=allow_fetch) as media, progress("trying again") as advance:
        how = Indexing(encoder_source=recorded_source(chosen), retry=True, media=media, report=Reporter(advance))
        loaded = load_encoders(chosen, device=device, dtype=dtype, trust_code=trust_code)
        tally, made = index_items(items_to_retry(layout, media), table.metadata_schema, layout, loaded, how)
    answers.warn_of(made)
    left = count_quarantined(layout.quarantine)
    return told | {
        "tried": tally.seen,
        "recovered": entries - left,
        "quarantined": left,
        "added": tally.added,
        "changed": tally.changed,
        "generation": made.number,
        "seconds": time.perf_counter() - started,
    }
