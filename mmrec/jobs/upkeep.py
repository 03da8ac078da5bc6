"""Maintain a store: repair it, retry its quarantine, export and import vectors."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from mmrec.compute import configure_threads
from mmrec.embedding.retry import can_be_retried, items_to_retry
from mmrec.encoders.presets import load_encoders, recorded_source
from mmrec.errors import UsageError
from mmrec.exchange.export import Export, export_vectors
from mmrec.exchange.importing import Import, import_vectors
from mmrec.indexing import Indexing, index_items, spaces_of
from mmrec.jobs.index import encoders_of
from mmrec.reporting import SILENT, Reporter, running_total, warn_of
from mmrec.sources.media_access import opened_media
from mmrec.storage.generations import read_manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.quarantine import count_quarantined, read_quarantine
from mmrec.trust import check_encoders, record_consent
from mmrec.types import Modality, Space
from mmrec.verification.repair import RepairReport, repair_store


@dataclass(frozen=True, slots=True)
class RetryOptions:
    """Options of a retry of the quarantined contents.

    Attributes:
        store: The store's directory.
        encoders: Encoders other than those the store was made with, if it needs them.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        dtype: ``fp32``, or on a GPU ``bf16`` or ``fp16``.
        trust_code: Run code that is not this package's own where a folder of encoders names it.
        media_root: Folder, or URL, outside which no media are read; None: no bounds.
        allow_fetch: Fetch media from public web addresses.

    """

    store: Path
    encoders: str | Path | None = None
    device: str = "auto"
    dtype: str = "fp32"
    trust_code: bool = False
    media_root: str | None = None
    allow_fetch: bool = False


def repair(
    store: Path, encoders: str | Path | None = None, *, trust_code: bool = False, reporter: Reporter = SILENT
) -> RepairReport:
    """Repair what needs no source: set damaged files aside, keep readable data, rebuild the generation.

    Raises StoreError where the new generation fails its checks, or the store cannot be written.
    """
    layout = Layout(store)

    def spaces(made_with: str) -> Mapping[Modality, tuple[Space, ...]]:
        if encoders is None:
            check_encoders(layout, made_with, reporter.ask_yes_no)
        else:
            record_consent(layout, encoders)
        chosen = made_with if encoders is None else encoders
        return spaces_of(load_encoders(chosen, trust_code=trust_code), layout)

    done = repair_store(layout, spaces)
    for action in done.actions or ["found nothing that can be repaired without the source"]:
        reporter.note(f"{action[:1].upper()}{action[1:]}.")
    if done.generation is not None:
        warn_of(read_manifest(layout, done.generation), reporter)
    if done.incomplete:
        reporter.warn(f"items may be lost or outdated; index their source again: mmrec index SOURCE {store}")
    return done


def retry(options: RetryOptions, reporter: Reporter = SILENT) -> dict[str, object]:
    """Read and encode the quarantined contents again, without the source. Returns counts.

    Raises UsageError where the store needs encoders of the user that are not named, and StoreError.
    """
    started = time.perf_counter()
    layout = Layout(options.store)
    layout.check()
    entries = count_quarantined(layout.quarantine)
    need_source = sum(not can_be_retried(entry) for entry in read_quarantine(layout.quarantine))
    counts: dict[str, object] = {"before": entries, "need_the_source": need_source}
    if entries == need_source:
        return counts | {"tried": 0, "recovered": 0, "quarantined": entries, "seconds": time.perf_counter() - started}
    table = ItemTable(layout.items)
    if not table.version:
        raise UsageError(f"{options.store} has no item yet; index its source again: mmrec index SOURCE {options.store}")
    chosen = encoders_of(options.encoders, layout, reporter)
    with (
        opened_media(options.media_root, allow_fetch=options.allow_fetch) as media,
        reporter.progress("trying again") as advance,
    ):
        steps = running_total(advance)
        how = Indexing(
            encoder_source=recorded_source(chosen), retry=True, media=media, report=lambda tally: steps(tally.seen)
        )
        loaded = load_encoders(chosen, device=options.device, dtype=options.dtype, trust_code=options.trust_code)
        tally, made = index_items(items_to_retry(layout, media), table.metadata_schema, layout, loaded, how)
    warn_of(made, reporter)
    left = count_quarantined(layout.quarantine)
    return counts | {
        "tried": tally.seen,
        "recovered": entries - left,
        "quarantined": left,
        "added": tally.added,
        "changed": tally.changed,
        "generation": made.number,
        "seconds": time.perf_counter() - started,
    }


def run_export(store: Path, out: Path, how: Export) -> dict[str, object]:
    """Export a store's vectors. Returns path, counts and origin. Raises UsageError or StoreError."""
    started = time.perf_counter()
    layout = Layout(store)
    layout.check()
    done = export_vectors(layout, out, how)
    summary = {
        "path": str(done.path),
        "format": how.format,
        "vectors": done.rows,
        "items": done.items,
        **done.origin.model_dump(exclude={"blocks"}),
        "seconds": time.perf_counter() - started,
    }
    return summary | ({"blocks": done.origin.blocks} if done.origin.blocks else {})


def chosen_format(given: str | None, out: Path) -> Literal["parquet", "datasets"]:
    """The format as given, else by the name of the output: Parquet for ``.parquet``, else a `datasets` directory."""
    if given is None:
        return "parquet" if out.suffix == ".parquet" else "datasets"
    if given == "parquet":
        return "parquet"
    if given != "datasets":
        raise UsageError(f"There is no format {given!r}: choose parquet or datasets.")
    if out.suffix == ".parquet":
        raise UsageError(f"{out} is named like a Parquet file, and datasets is a directory: choose another name.")
    return "datasets"


def run_import_vectors(store: Path, file: Path, how: Import, reporter: Reporter = SILENT) -> dict[str, object]:
    """Import vectors into a store. Returns counts. Raises UsageError, SpaceMismatchError or StoreError."""
    started = time.perf_counter()
    configure_threads()
    layout = Layout(store)
    tally, space, made = import_vectors(layout, file, how)
    warn_of(made, reporter)
    if tally.shared:
        reporter.note(
            f"{tally.shared:,} of {tally.seen:,} vectors are of {space.modality} contents equal to that of an earlier "
            "row; equal contents have one vector, and the first was kept."
        )
    counts = ("vectors", "known", "shared", "added", "changed", "quarantined")
    return {
        "items": len(ItemTable(layout.items)),
        "rows": tally.seen,
        **{name: getattr(tally, name) for name in counts},
        "space": space.model_dump(mode="json"),
        "generation": made.number,
        "seconds": time.perf_counter() - started,
    }
