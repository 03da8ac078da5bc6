"""The jobs behind ``mmrec verify``, ``mend``, ``gc``, ``quarantine``, ``export`` and ``import-vectors``."""

import time
from collections.abc import Mapping
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Literal

from mmrec.compute import own_threads
from mmrec.embedding.retry import can_be_retried, items_to_retry
from mmrec.encoders.presets import load_encoders, recorded_source
from mmrec.errors import UsageError
from mmrec.exchange.export import Export, export_vectors
from mmrec.exchange.importing import Import, import_vectors
from mmrec.indexing import Indexing, index_items, spaces_of
from mmrec.storage.collect import Policy, collect
from mmrec.storage.generations import manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.quarantine import count_quarantined, quarantined, read_quarantine
from mmrec.trust import check_encoders, remember
from mmrec.types import Modality, Space
from mmrec.verification.findings import VerificationReport
from mmrec.verification.repair import repair_store
from mmrec.verification.verify import verify_store
from pipelines import answers, console
from pipelines.index import encoders_of
from pipelines.options import opened_media
from pipelines.progress import Reporter, progress


def verify(store: Path, *, full: bool, as_json: bool) -> bool:
    """Check a store and print what was found. Returns whether it is sound. Raises StoreError where there is none."""
    report = verify_store(Layout(store), full=full)
    if as_json:
        console.emit_json(_document(report))
    else:
        answers.print_values({**report.checked, "seconds": round(report.seconds, 2)}, as_json=False)
        rows = [{"check": one.check, "where": one.where, "what": one.what} for one in report.findings]
        if rows:
            answers.print_rows("findings", rows, as_json=False, empty="")
    for remark in report.notes:
        console.note(remark)
    if report.sound and report.unborn:
        console.note(report.unborn)
    elif report.sound:
        console.note(f"{store} is sound.")
    else:
        console.warn(f"{store} is damaged. Run: {' ; '.join(report.commands)}")
    return report.sound


def mend(store: Path, *, encoders: str | None, trust_code: bool, as_json: bool) -> None:
    """Put right what needs no source, and print what was done. Raises StoreError."""
    mended = repair_store(Layout(store), lambda made_with: _spaces(store, encoders, made_with, trust_code=trust_code))
    if as_json:
        console.emit_json(asdict(mended))
    for action in mended.actions or ["found nothing that can be mended without the source"]:
        console.note(f"{action[:1].upper()}{action[1:]}.")
    if mended.generation is not None:
        answers.warn_of(manifest(Layout(store), mended.generation))
    if mended.incomplete:
        console.warn(f"items may be lost or outdated; index their source again: mmrec index SOURCE {store}")
    console.note(f"Check it with: mmrec verify {store}")


def gc(store: Path, policy: Policy, *, as_json: bool) -> None:
    """Give back the room of what no generation needs, and print it. Raises StoreError."""
    done = collect(Layout(store), policy)
    answers.print_values(asdict(done), as_json=as_json)
    if policy.dry_run:
        console.note("Nothing was removed: this was a dry run.")


def _document(report: VerificationReport) -> dict[str, object]:
    return {
        "sound": report.sound,
        "unborn": report.unborn,
        "findings": [asdict(one) for one in report.findings],
        "run": report.commands,
        "checked": report.checked,
        "notes": report.notes,
        "seconds": report.seconds,
    }


def _spaces(
    store: Path, given: str | None, made_with: str, *, trust_code: bool
) -> Mapping[Modality, tuple[Space, ...]]:
    """The spaces of the encoders a person gave, or of those that the store was made with."""
    if given is None:
        check_encoders(Layout(store), made_with, console.confirmed)
    else:
        remember(Layout(store), given)
    return spaces_of(load_encoders(made_with if given is None else given, trust_code=trust_code), Layout(store))


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


def run_export(store: Path, out: Path, how: Export) -> dict[str, object]:
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


def run_import_vectors(store: Path, file: Path, how: Import) -> dict[str, object]:
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
