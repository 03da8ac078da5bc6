"""Verify a store: all that can be checked without its sources and encoders."""

import time
from contextlib import suppress

from mmrec.errors import StoreError
from mmrec.storage.collect import KEEP_SUFFIX, kept_aside, removable_aside
from mmrec.storage.generations import current_number, generation_folders, generation_numbers, read_manifest
from mmrec.storage.layout import Layout
from mmrec.storage.scratch import running_since
from mmrec.storage.tables import can_read
from mmrec.verification.findings import VerificationReport
from mmrec.verification.generations import check_current, check_others, check_pairing
from mmrec.verification.tables import check_events, check_items, check_quarantine, check_sums, check_vectors

PACKAGED = "packaged"


def verify_store(layout: Layout, *, full: bool = False, seed: int = 0) -> VerificationReport:
    """Check checksums, counts, pairing, fingerprints, contents and recall. Nothing is changed.

    With `full` the vectors of all items are compared with those of their contents, otherwise a sample of more than
    100,000. Memory is 16 bytes an item and a content, beside the pages of mapped files. Raises StoreError without a
    store, LinkError for a link in it.
    """
    started = time.perf_counter()
    report = VerificationReport(layout.root)
    _check_root(report, layout)
    if _note_unpublished(report, layout):
        check_events(report, layout)
        return report
    items_open = can_read(check_sums(report, layout, layout.items))
    quarantine_opens = can_read(check_sums(report, layout, layout.quarantine))
    before = len(report.findings)
    quarantined = check_quarantine(report, layout.quarantine) if quarantine_opens else set[tuple[str, bytes]]()
    if items_open:
        check_items(report, layout.items)
    pairable = items_open and len(report.findings) == before
    for path in sorted((layout.root / "vectors").glob("*.lance")):
        if can_read(check_sums(report, layout, path)):
            check_vectors(report, path)
        else:
            pairable = False
    generation = check_current(report, layout, seed)
    check_others(report, layout)
    _check_encoders(report, layout)
    if generation is not None and pairable:
        check_pairing(report, layout, generation, quarantined, full=full, seed=seed)
    check_events(report, layout)
    _note_leftovers(report, layout)
    report.seconds = time.perf_counter() - started
    return report


def _check_root(report: VerificationReport, layout: Layout) -> None:
    layout.check_links()
    try:
        layout.check()
    except StoreError as error:
        if not (layout.items.exists() or layout.generations.exists()):
            raise
        report.add("store", layout.root / "store.json", str(error))


def _check_encoders(report: VerificationReport, layout: Layout) -> None:
    """Report manifests that name encoders where a store's own never are: forged, or copied with the store."""
    named = {}
    for number in generation_numbers(layout):
        with suppress(StoreError):  # damage is a finding of `check_current` or `check_others`
            named[number] = read_manifest(layout, number).encoders
    if set(named.values()) <= {PACKAGED}:
        return
    from mmrec.trust import location_fault  # noqa: PLC0415 - loads torch, which most stores need not be checked with

    now = None
    with suppress(StoreError):
        now = current_number(layout)
    move, drop = f"mmrec reindex {layout.root} --encoders {PACKAGED}", f"mmrec gc {layout.root} --keep 1"
    for number, made_with in named.items():
        if (reason := location_fault(layout, made_with)) is not None:
            what = f"names encoders that are never loaded for this store: {made_with[:200]!r}. {reason}"
            where = layout.generations / str(number) / "manifest.json"
            report.add("manifest", where, what, move if number == now else drop)


def _note_unpublished(report: VerificationReport, layout: Layout) -> bool:
    """Return whether no generation was published yet, and report how far the store is."""
    if layout.current.exists() or generation_folders(layout) or not report.sound:
        return False
    if running_since(layout):
        report.unpublished = f"{layout.root} is being indexed: nothing is published yet. Verify it when that is done."
    elif layout.items.exists():
        return False
    else:
        report.unpublished = f"{layout.root} has no items yet: nothing is published. Index a catalog: {report.index}"
    return True


def _note_leftovers(report: VerificationReport, layout: Layout) -> None:
    left = sum(path.is_dir() for path in layout.staging.iterdir()) if layout.staging.is_dir() else 0
    if left:
        report.notes.append(
            f"staging holds {left} folders of jobs that were killed or still run; `mmrec gc {layout.root}` clears it"
        )
    spare, kept = len(removable_aside(layout)), len(kept_aside(layout))
    if spare:
        report.notes.append(
            f"damaged holds {spare} folders of which nothing is lost; `mmrec gc {layout.root}` clears it"
        )
    if kept:
        report.notes.append(
            f"damaged holds {kept} folders named *{KEEP_SUFFIX} that may hold more than was saved; `mmrec gc` "
            "leaves them, so remove them yourself when all is back"
        )
