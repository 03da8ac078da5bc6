"""Import vectors that were made elsewhere, as a space of their own."""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Float32

from indexers.protocol import IndexSpec
from mmrec.embedding.encoding import VectorWriter
from mmrec.exchange.vector_files import VectorColumns, VectorFile, VectorRow, open_vectors
from mmrec.exchange.vectors_of import Declaration, decide, known_blocks
from mmrec.files import write_atomically
from mmrec.fusion.blocks import Block
from mmrec.generation.build import build_generation, is_up_to_date
from mmrec.generation.fuse import Recipe, check_choice, chosen_before
from mmrec.generation.generation import open_generation
from mmrec.sources.rows import SeenIds
from mmrec.sources.scalars import common_type, to_value
from mmrec.storage.generations import Manifest, current_number, read_manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import JOB_WAIT_SECONDS, file_lock, job_lock
from mmrec.storage.quarantine import Quarantined, StagedQuarantine, replace_column
from mmrec.storage.scratch import scratch_folder
from mmrec.storage.staging import StagedItems, commit_items
from mmrec.storage.stored_item import (
    VECTOR_FIELD,
    DeclaredSpace,
    StoredField,
    StoredItem,
    declare,
    is_imported,
    item_schema,
    read_declared,
)
from mmrec.storage.vectors import KeyIndex, VectorTable, key_array
from mmrec.types import Modality, Space, Value

SAME = 0.999
"""Cosine from which two vectors of one content count as the same, stored in half precision or not."""


@dataclass
class ImportTally:
    """Counts of an import: rows read, new vectors, items that were added or changed, and rows left out.

    The contents of `known` rows had their vector before; those of `shared` rows are equal to contents of an earlier
    row, whose vector is used for both.
    """

    seen: int = 0
    vectors: int = 0
    known: int = 0
    shared: int = 0
    added: int = 0
    changed: int = 0
    quarantined: int = 0


@dataclass
class VectorImport:
    """One import into a declared space. Use it once, and hold the store's job lock.

    With `add_items` a row of an unknown id makes an item of its own.
    """

    layout: Layout
    declared: DeclaredSpace
    add_items: bool
    tally: ImportTally = field(default_factory=ImportTally)

    def __post_init__(self) -> None:
        space = self.declared.space
        self._items = ItemTable(self.layout.items)
        self._table = VectorTable(self.layout.vectors(space), space)
        self._writer = VectorWriter(self.layout, {space: self._table})
        self._column = f"{VECTOR_FIELD}{space.name}"
        self._keys, self._new = SeenIds(), SeenIds()

    def run(self, file: VectorFile) -> ImportTally:
        """Import a file. Whatever stops it, items are as they were; vectors written until then do no harm.

        Raises StoreError if the store cannot be written, UsageError if metadata does not fit its columns.
        """
        # Types of the store's metadata columns and of the file's; of those that both have, one that holds both.
        self._types = {column.name: column.type for column in self._items.metadata_schema}
        for column in file.schema:
            self._types[column.name] = common_type(self._types.get(column.name, pa.null()), column.type)
        schema = item_schema(pa.schema(list(self._types.items())))
        with (
            scratch_folder(self.layout) as folder,
            closing(StagedItems(folder, schema)) as items,
            closing(StagedQuarantine(folder)) as refused,
        ):
            written: list[bytes] = []
            for rows in file.batches():
                good = [row for row in rows if self._is_good(row, refused)]
                if file.columns.content is None:
                    self._take_by_id(good, items, refused)
                else:
                    pairs = [(row.key, row) for row in good if isinstance(row.key, bytes)]
                    written += sorted(self._write(pairs, refused)[0])
                self.tally.seen += len(rows)
            self._writer.flush()
            self._touch(written, items)
            items.close()
            refused.close()
            self.tally.quarantined = refused.count
            with file_lock(self.layout.lock, JOB_WAIT_SECONDS):
                commit_items(self.layout.items, items)
                replace_column(self.layout.quarantine, self._column, refused)
        return self.tally

    def _is_good(self, row: VectorRow, refused: StagedQuarantine) -> bool:
        """Whether a row has a vector, and is the first of its key."""
        reason = row.reason
        if row.key is None:
            reason = "The row does not say whose its vector is: its id or hash is missing or not one."
        elif not reason and not self._keys.add_new(row.key):
            reason = "An earlier row has a vector for the same; it was kept."
        if reason:
            self._refuse(row, reason, refused)
        return not reason

    def _refuse(self, row: VectorRow, reason: str, refused: StagedQuarantine) -> None:
        name = row.key if isinstance(row.key, str) else None
        content = row.key if isinstance(row.key, bytes) else None
        refused.add(Quarantined(row.row, name, self._column, reason, hash=content))

    def _take_by_id(self, rows: Sequence[VectorRow], items: StagedItems, refused: StagedQuarantine) -> None:
        stored = self._items.by_id([str(row.key) for row in rows])
        plans: list[tuple[VectorRow, StoredItem | None, list[bytes], bool]] = []
        for row in rows:
            item = stored.get(str(row.key))
            if item is None and not self.add_items:
                self._refuse(row, "The store has no item of this id; --add-items makes one of such a row.", refused)
                continue
            own = [one.hash or b"" for one in (item.fields if item else ()) if self._is_content(one)]
            plans.append((row, item, own or [_hash_of(row.vector, self.declared.fingerprint)], bool(own)))
        new, bad = self._write([(key, row) for row, _, keys, _ in plans for key in keys], refused)
        for row, item, keys, has_content in plans:
            changed = self._with_vector(row, item, [] if has_content else keys)
            # An item whose content has a vector now is staged as it was, so that its own vector is made anew.
            if row.row not in bad and (changed != item or (has_content and not new.isdisjoint(keys))):
                fitting = {name: to_value(value, self._types[name]) for name, value in changed.metadata.items()}
                items.add(replace(changed, metadata=fitting))
                self.tally.added += item is None
                self.tally.changed += item is not None

    def _is_content(self, one: StoredField) -> bool:
        return one.modality == self.declared.modality and one.hash is not None and not is_imported(one.column)

    def _with_vector(self, row: VectorRow, item: StoredItem | None, keys: Sequence[bytes]) -> StoredItem:
        """The item of a row: with the vector as a field of its own where it has no content for it."""
        kept = tuple(one for one in (item.fields if item else ()) if one.column != self._column)
        fields = kept + tuple(StoredField(self.declared.modality, self._column, key) for key in keys)
        if item is None:
            return StoredItem(str(row.key), _digest(str(row.key), row.metadata), None, fields, row.metadata)
        whole = all(is_imported(one.column) for one in item.fields) and row.metadata
        metadata = {**item.metadata, **row.metadata} if whole else item.metadata
        return replace(item, fields=fields, metadata=metadata)

    def _write(
        self, pairs: Sequence[tuple[bytes, VectorRow]], refused: StagedQuarantine
    ) -> tuple[set[bytes], set[int]]:
        """Write vectors of contents that have none in this space. Returns those contents, and rows that are refused."""
        bad, taken, had = set[int](), set[int](), set[int]()
        has, there = self._table.fetch([key for key, _ in pairs])
        fresh: dict[bytes, Float32[np.ndarray, " dim"]] = {}
        for (key, row), known, old in zip(pairs, has.tolist(), there, strict=True):
            if row.vector is None:
                continue
            if known and float(old @ row.vector) < SAME * float(np.linalg.norm(old)):
                bad.add(row.row)
                self._refuse(
                    row,
                    "The content has another vector in this space; a changed encoder needs another --space or --model.",
                    refused,
                )
            elif known:
                had.add(row.row)
            elif self._new.add_new(key):
                fresh[key] = row.vector
                taken.add(row.row)
        if fresh:
            self._writer.write(self.declared.space, list(fresh), np.stack(list(fresh.values())))
        self.tally.vectors += len(fresh)
        self.tally.known += len(had - taken - bad)
        usable = {row.row for _, row in pairs if row.vector is not None}
        self.tally.shared += len(usable - taken - had - bad)
        return set(fresh), bad

    def _touch(self, written: Sequence[bytes], items: StagedItems) -> None:
        """Stage the items that have one of these contents, so that their vectors are made anew."""
        if not written:
            return
        keys = KeyIndex(key_array(written))
        for rows, batch in self._items.batches():
            hashes = [(n, one.hash) for n, some in enumerate(batch) for one in some if self._is_content(one)]
            found = keys.find(key_array([key or b"" for _, key in hashes])) >= 0
            hit = sorted({n for (n, _), there in zip(hashes, found.tolist(), strict=True) if there})
            for item in self._items.by_row(rows[hit].tolist()).values():
                items.add(item)
                self.tally.changed += 1


def _hash_of(vector: Float32[np.ndarray, " dim"] | None, fingerprint: str) -> bytes:
    data = b"" if vector is None else vector.astype("<f2").tobytes()
    return hashlib.blake2b(data, digest_size=16, key=hashlib.sha256(fingerprint.encode()).digest()).digest()


def _digest(name: str, metadata: Mapping[str, Value]) -> bytes:
    return hashlib.blake2b(repr((name, sorted(metadata.items()))).encode("utf-8", "replace"), digest_size=16).digest()


NO_ENCODERS = "none"
"""Name of the encoders of a store of which all vectors were made elsewhere."""

UNFINISHED = "import.unfinished"
"""A file that is there while an import runs: one that was killed may have left vectors that no item vector has."""


@dataclass(frozen=True, slots=True)
class Import:
    """How vectors are imported.

    Attributes:
        columns: Which columns of the file are what.
        declared: What the user declares of the vectors.
        add_items: Make items of rows whose id the store does not have; always so where it has no item.
        dim: Most dimensions of an item vector.
        index: Index recipe; None keeps what the user chose for the store before, else it is chosen by size and memory.

    """

    columns: VectorColumns = field(default_factory=VectorColumns)
    declared: Declaration = field(default_factory=Declaration)
    add_items: bool = False
    dim: int = 512
    index: IndexSpec | None = None


def import_vectors(layout: Layout, path: Path, how: Import) -> tuple[ImportTally, DeclaredSpace, Manifest]:
    """Import a file of vectors. Returns what was done, the space, and the generation that is now current.

    Raises UsageError if the file or a column cannot be used, SpaceMismatchError if the vectors are of another
    space than was declared, StoreBusyError if a job is at work on the store, StoreError if it cannot be written.
    """
    file = open_vectors(path, how.columns)
    layout.create()
    with job_lock(layout.job_lock):
        space = decide(layout, how.declared, file)
        _check_index(layout, how, space)
        unfinished = layout.root / UNFINISHED
        interrupted = unfinished.exists()
        with file_lock(layout.lock):
            write_atomically(unfinished, space.name.encode())
        add_items = how.add_items or not len(ItemTable(layout.items))
        tally = VectorImport(layout, space, add_items).run(file)
        blocks = known_blocks(layout)
        if not any(block.space.name == space.name and block.modality == space.modality for block in blocks):
            with file_lock(layout.lock):
                declare(layout, space)
        made = _publish(layout, blocks, how, refit=interrupted)
        unfinished.unlink()
    return tally, space, made


def _publish(layout: Layout, blocks: Sequence[Block], how: Import, *, refit: bool) -> Manifest:
    """Build the generation of what the store had before and has now; all anew after an interrupted import."""
    number = current_number(layout)
    before = None if number is None else open_generation(layout, number)
    weights = {Modality(name): weight for name, weight in before.manifest.weights.items()} if before else {}
    encoders = before.manifest.encoders if before else NO_ENCODERS
    index, memory = (how.index, None) if how.index else chosen_before(before.manifest if before else None)
    given = before is not None and before.manifest.chose_weights
    recipe = Recipe(_spaces(layout, blocks), weights, encoders, how.dim, index, memory, weights_given=given)
    if before is not None and not refit and is_up_to_date(layout, before, recipe, ItemTable(layout.items)):
        return before.manifest
    return build_generation(layout, recipe, before, refit=refit)


def _check_index(layout: Layout, how: Import, new: DeclaredSpace) -> None:
    """Raise UsageError if the index recipe suits no item vector that there can be, before anything is imported."""
    number = current_number(layout)
    index = how.index or chosen_before(None if number is None else read_manifest(layout, number))[0]
    spaces = {modality: dict.fromkeys(some) for modality, some in _spaces(layout, known_blocks(layout)).items()}
    spaces[new.modality][new.space] = None
    check_choice(index, spaces, how.dim)


def _spaces(layout: Layout, blocks: Sequence[Block]) -> dict[Modality, tuple[Space, ...]]:
    pairs = [(block.modality, block.space) for block in blocks]
    pairs += [(one.modality, one.space) for one in read_declared(layout)]
    return {
        modality: tuple(dict.fromkeys(space for other, space in pairs if other == modality)) for modality in Modality
    }
