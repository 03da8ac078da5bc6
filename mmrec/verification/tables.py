"""Verify the tables of a store and its event log, and tell valid rows of damaged ones."""

import hashlib
import shutil
import uuid
from contextlib import closing
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, UInt64

from mmrec.errors import DamagedError
from mmrec.event_log import LogCheckpoint, amount, checkpoint_path, read_checkpoint, shortfall, write_checkpoint
from mmrec.events.database import salvage_sqlite
from mmrec.events.dialects import faults_of_sqlite, write_ahead_log
from mmrec.events.log import open_log
from mmrec.files import sync_file
from mmrec.storage.collect import KEEP_SUFFIX
from mmrec.storage.damage import convert_read_errors
from mmrec.storage.layout import Layout
from mmrec.storage.quarantine import count_quarantined, read_quarantine
from mmrec.storage.stored_item import OWN_COLUMNS
from mmrec.storage.tables import altered_files, open_table
from mmrec.storage.vectors import key_array, key_column
from mmrec.types import Modality
from mmrec.verification.findings import VerificationReport

BATCH = 8192
LENGTH_TOLERANCE = 2e-3
"""A vector of length one that was rounded to float16 is no farther from it than this."""

NAMED = 3


def check_items(report: VerificationReport, path: Path) -> None:
    """Read all items: ids exist and are unique, fields are valid."""
    with report.guarded("store", path, report.repair, report.index):
        table = open_table(path)
        if table is None:
            report.add("store", path, "the table of items is missing", report.repair, report.index)
            return
        lost = [column.name for column in OWN_COLUMNS if column.name not in table.schema.names]
        if lost:
            report.add("store", path, f"it has no column {', '.join(lost)}", report.repair, report.index)
            return
        digests = [np.empty((0, 2), dtype=np.uint64)]
        unnamed, unknown = 0, set[str]()
        for batch in table.scanner(batch_size=BATCH).to_batches():
            names = batch.column("id").to_pylist()
            digests.append(key_array(_digest(name) for name in names))
            unnamed += sum(not name for name in names)
            unknown |= _unknown_modalities(batch)
        words = np.concatenate(digests)
        report.checked["items"] = len(words)
        if len(words) != table.count_rows():
            report.add("count", path, f"{len(words):,} rows can be read of {table.count_rows():,}", report.repair)
        if unnamed:
            report.add("ids", path, f"{unnamed:,} items have no id", report.repair, report.index)
        if unknown:
            what = f"items have contents of no known modality: {', '.join(sorted(unknown))}"
            report.add("content", path, what, report.repair, report.index)
        repeated = _repeated(words)
        if repeated:
            _name_doubled(report, path, table, repeated)


def check_sums(report: VerificationReport, layout: Layout, path: Path) -> set[Path]:
    """Compare the files of a table with the checksums in the generations. Returns those that differ."""
    damaged: set[Path] = set()
    with report.guarded("store", path, report.repair, report.index):
        for file in altered_files(layout, path, again=True):
            damaged.add(file)
            what = "it is not what was written: its SHA-256 is another" if file.exists() else "it is missing"
            report.add("checksum", file, what, report.repair, report.index)
    return damaged


def check_vectors(report: VerificationReport, path: Path) -> None:
    """Read all vectors of a space: fingerprint as in the name, one vector of length 1 per content."""
    with report.guarded("store", path, report.repair, report.index):
        table = open_table(path)
        if table is None:
            return  # named by the items that miss it
        fingerprint = (table.schema.metadata or {}).get(b"fingerprint", b"").decode()
        if not path.stem.endswith(f"-{fingerprint[:12]}") or not fingerprint:
            what = f"it says it holds vectors of {fingerprint or 'an unknown encoder'}, and its name says another"
            report.add("fingerprint", path, what, report.repair, report.index)
        bad, keys = 0, [np.empty((0, 2), dtype=np.uint64)]
        for batch in table.scanner(columns=["hash", "vector"], batch_size=BATCH).to_batches():
            some, good = vector_rows(batch)
            bad += int((~good).sum())
            keys.append(some[good])
        words = np.concatenate(keys)
        report.checked["vectors"] = report.checked.get("vectors", 0) + len(words) + bad
        if bad:
            what = f"{bad:,} vectors are not finite or not of length 1"
            report.add("vectors", path, what, report.repair, report.index)
        doubled = _repeated(words)
        if doubled:
            report.add("vectors", path, f"{len(doubled):,} contents have a vector twice", report.repair)


def item_rows(batch: pa.RecordBatch) -> tuple[UInt64[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Digests of the ids of items, and which rows have an id and known modalities."""
    names, fields = batch.column("id").to_pylist(), batch.column("mmrec_fields").to_pylist()
    known = {str(modality) for modality in Modality}
    good = [
        bool(name) and {one["modality"] for one in some or ()} <= known
        for name, some in zip(names, fields, strict=True)
    ]
    return key_array(map(_digest, names)), np.array(good, dtype=bool)


def vector_rows(batch: pa.RecordBatch) -> tuple[UInt64[np.ndarray, "n 2"], Bool[np.ndarray, " n"]]:
    """Keys of a vector table, and which rows have a key and a finite vector of length 1."""
    column, hashes = batch.column("vector"), batch.column("hash")
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(batch), -1).astype(np.float32)
    valid = column.is_valid().to_numpy(zero_copy_only=False) & hashes.is_valid().to_numpy(False)
    return key_column(hashes), valid & (np.abs(np.linalg.norm(vectors, axis=1) - 1) <= LENGTH_TOLERANCE)


def check_quarantine(report: VerificationReport, path: Path) -> set[tuple[str, bytes]]:
    """Read the quarantine. Returns the modality and hash of every content in it."""
    with report.guarded("store", path, report.repair, report.index):
        report.checked["quarantined"] = count_quarantined(path)
        return quarantined_contents(path)
    return set()


def quarantined_contents(path: Path) -> set[tuple[str, bytes]]:
    """Modality and hash of every content in quarantine."""
    return {(entry.modality or "", entry.hash) for entry in read_quarantine(path) if entry.hash}


def _unknown_modalities(batch: pa.RecordBatch) -> set[str]:
    there = batch.column("mmrec_fields").flatten().field("modality").unique().to_pylist()
    return {str(name) for name in there} - {str(modality) for modality in Modality}


def _digest(name: str | None) -> bytes:
    return hashlib.blake2b((name or "").encode("utf-8", "surrogatepass"), digest_size=16).digest()


def _repeated(words: UInt64[np.ndarray, "n 2"]) -> set[bytes]:
    ordered = words[np.lexsort((words[:, 1], words[:, 0]))]
    same = (ordered[1:] == ordered[:-1]).all(axis=1)
    return {row.tobytes() for row in ordered[1:][same]}


def _name_doubled(report: VerificationReport, path: Path, table: lance.LanceDataset, repeated: set[bytes]) -> None:
    batches = table.scanner(columns=["id"], batch_size=BATCH).to_batches()
    names = sorted({name for batch in batches for name in batch.column("id").to_pylist() if _digest(name) in repeated})
    shown = ", ".join(repr(name) for name in names[:NAMED])
    what = f"{len(names):,} ids are there twice: {shown}{', ...' if len(names) > NAMED else ''}"
    report.add("ids", path, what, report.repair)


def check_events(report: VerificationReport, layout: Layout) -> None:
    """Check the store's own log: integrity, references, write-ahead log, and the number of events.

    SQLite keeps no checksums of its pages: a change within the text of an event that no index holds is not seen.
    """
    least = None
    with report.guarded("events", checkpoint_path(layout)):
        least = read_checkpoint(layout, strict=True)
    if not layout.events.exists():
        if least is not None and least.arrived:
            report.add("events", layout.events, f"it is missing, and it held {amount(least)}")
        return
    with report.guarded("events", layout.events):
        faults = faults_of_sqlite(layout.events)
        for fault in faults:
            report.add("events", layout.events, fault)
        if faults:
            return
        with closing(open_log(layout.events)) as log:
            lacking = shortfall(log, least, count=True)
            report.checked["events"] = len(log)
        if lacking is not None:
            report.add("events", layout.events, lacking)


def repair_events(layout: Layout) -> list[str]:
    """Replace a damaged event log by its readable part. Hold the commit lock. Returns the actions."""
    report = VerificationReport(layout.root)
    check_events(report, layout)
    if not report.findings:
        return []
    try:
        least = read_checkpoint(layout, strict=True)
    except DamagedError:
        least = None
    actions: list[str] = []
    if any(layout.root / one.where == layout.events for one in report.findings):
        actions.append(_salvage_log(layout, least))
    with closing(open_log(layout.events)) as log:
        write_checkpoint(layout, LogCheckpoint(log.arrived(), log.forgettings(), len(log)))
    return [*actions, "recorded again how much the event log holds"]


def _salvage_log(layout: Layout, least: LogCheckpoint | None) -> str:
    """Copy the log aside, and replace it by the readable part of the copy. Returns what was saved and lost."""
    log, ahead = layout.events, write_ahead_log(layout.events)
    new = log.with_name(f".{log.name}.new")
    _unlink(new)
    aside = layout.damaged / f"{log.name}.{uuid.uuid4().hex}{KEEP_SUFFIX}"
    aside.mkdir(parents=True)
    with convert_read_errors(log):
        for path in (log, ahead):
            if path.exists():
                shutil.copyfile(path, aside / path.name)
                shutil.copyfile(path, aside / f"whole-{path.name}")
    saved = salvage_sqlite(aside / log.name, new, least.arrived if least else 0)
    for path in (log, ahead):  # reading the copy has changed it
        if path.exists():
            (aside / f"whole-{path.name}").replace(aside / path.name)
    sync_file(new)
    ahead.unlink(missing_ok=True)
    log.with_name(f"{log.name}-shm").unlink(missing_ok=True)
    new.replace(log)
    if not any(aside.iterdir()):
        aside.rmdir()
        return f"made a new, empty log of events: the old one is missing, and it held {amount(least)}"
    known = least.events if least is not None else None
    lost = f"at least {max(0, known - saved):,} are lost" if known is not None else "how many are lost is not known"
    return (
        f"saved {saved:,} events of the log; {lost}. The damaged log is kept in {aside.relative_to(layout.root)}; "
        "better restore it from a backup"
    )


def _unlink(database: Path) -> None:
    for ending in ("", "-wal", "-shm"):
        database.with_name(f"{database.name}{ending}").unlink(missing_ok=True)
