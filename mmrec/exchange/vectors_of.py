"""The vectors of a store by space: which spaces there are, and their vectors by item."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from indexers.vectors import contains, find_rows
from mmrec.errors import SpaceMismatchError, StoreError, UsageError
from mmrec.exchange.vector_files import VectorFile
from mmrec.fusion.blocks import Block
from mmrec.fusion.fusion import Fusion, load_fusion
from mmrec.generation.fuse import fuse_batch, open_tables
from mmrec.generation.generation import FUSION, VECTORS, load_arrays, naming_generation
from mmrec.storage.damage import check_files, convert_read_errors
from mmrec.storage.generations import Manifest, current_number, read_manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.stored_item import DeclaredSpace, as_fields, check_declared, fingerprint_of, read_declared
from mmrec.storage.vectors import VectorTable
from mmrec.types import Modality, Space

CONTENT_COLUMNS = (
    pa.field("mmrec_modality", pa.string()),
    pa.field("mmrec_column", pa.string()),
    pa.field("mmrec_uri", pa.string()),
    pa.field("mmrec_hash", pa.binary(16)),
)


@dataclass(frozen=True)
class ItemVectors:
    """Items as they are now, by the fusion of a generation: its own vectors where an item has not changed since.

    Nothing is held but the row numbers; vectors are mapped from disk.
    """

    layout: Layout
    made: Manifest
    fusion: Fusion
    columns: tuple[pa.Field, ...] = field(default=(), init=False)

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return self.fusion.dim

    def batches(self, items: ItemTable, where: str | None) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Items that have a vector, and their vectors."""
        folder = self.layout.generations / str(self.made.number)
        with naming_generation(self.layout, self.made.number), convert_read_errors(folder):
            rows, vectors, bits = load_arrays(folder, self.made)
        fresh = items.changed_since(self.made.items_version)
        tables = open_tables(self.layout, self.fusion.blocks)
        for batch in items.scan(where):
            numbers = batch.column("_rowid").to_numpy().astype(np.int64)
            places = find_rows(rows, numbers)
            known = (places >= 0) & ~contains(fresh, numbers)
            found = np.zeros((len(numbers), self.dim), dtype=np.float32)
            has = np.zeros(len(numbers), dtype=bool)
            found[known] = vectors[places[known]]
            has[known] = bits[places[known]] > 0
            if not known.all():
                fields = batch.column("mmrec_fields").filter(pa.array(~known)).to_pylist()
                fused = fuse_batch(self.fusion, tables, [as_fields(entry) for entry in fields])
                found[~known] = fused.vectors
                has[~known] = fused.modalities > 0
            yield batch.filter(pa.array(has)), found[has]


@dataclass(frozen=True)
class ContentVectors:
    """Contents of the items in one space; an item with several has a row for each."""

    layout: Layout
    space: Space
    modalities: frozenset[Modality]
    columns: tuple[pa.Field, ...] = field(default=CONTENT_COLUMNS, init=False)

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return self.space.dim

    def batches(self, items: ItemTable, where: str | None) -> Iterator[tuple[pa.RecordBatch, np.ndarray]]:
        """Contents that have a vector, each beside its item's columns, and their vectors."""
        table = VectorTable(self.layout.vectors(self.space), self.space)
        for batch in items.scan(where):
            fields = [as_fields(entry) for entry in batch.column("mmrec_fields").to_pylist()]
            pairs = [
                (place, one)
                for place, some in enumerate(fields)
                for one in some
                if one.hash is not None and one.modality in self.modalities
            ]
            has, vectors = table.fetch([one.hash or b"" for _, one in pairs])
            kept = [pair for pair, there in zip(pairs, has.tolist(), strict=True) if there]
            taken = batch.take(pa.array([place for place, _ in kept], pa.int64()))
            for column in CONTENT_COLUMNS:
                values = [getattr(one, column.name.removeprefix("mmrec_")) for _, one in kept]
                taken = taken.append_column(column.name, pa.array(values, column.type))
            yield taken, vectors[has]


def read_fusion(layout: Layout, number: int | None) -> tuple[Manifest, Fusion]:
    """The fusion of a generation, by default the current, checked against its manifest.

    Raises StoreError if there is none or it is damaged.
    """
    chosen = current_number(layout) if number is None else number
    if chosen is None:
        raise StoreError(f"{layout.root} has no generation yet; finish it with `mmrec index SOURCE {layout.root}`")
    if not (layout.generations / str(chosen)).is_dir():
        raise UsageError(f"there is no generation {chosen}; see those there are with `mmrec generations {layout.root}`")
    made = read_manifest(layout, chosen)
    path = layout.generations / str(chosen) / FUSION
    with naming_generation(layout, chosen):
        check_files({path: made.sha256[FUSION]})
        return made, load_fusion(path)


def fused_by(layout: Layout, number: int | None) -> ItemVectors:
    """Item vectors of a generation, its file of vectors checked against the manifest. Raises StoreError."""
    made, fusion = read_fusion(layout, number)
    with naming_generation(layout, made.number):
        check_files({layout.generations / str(made.number) / VECTORS: made.sha256[VECTORS]})
    return ItemVectors(layout, made, fusion)


@dataclass(frozen=True, slots=True)
class Declaration:
    """What the user declares of vectors; what is not given is taken from their file or from the store.

    Attributes:
        space: Name of the space.
        modality: What the vectors are of.
        model: What made them, as text: a model's name and revision. By default the name of the space.
        fingerprint: Its fingerprint, where it is that of an encoder that is to encode queries.

    """

    space: str | None = None
    modality: Modality | None = None
    model: str | None = None
    fingerprint: str | None = None


def known_blocks(layout: Layout) -> tuple[Block, ...]:
    """The blocks of the current generation, none before the first."""
    return read_fusion(layout, None)[1].blocks if current_number(layout) is not None else ()


def decide(layout: Layout, given: Declaration, file: VectorFile) -> DeclaredSpace:
    """The space of a file's vectors.

    Raises UsageError if that cannot be known, SpaceMismatchError if the user, the file and the store differ.
    """
    origin = file.origin
    name = given.space or (origin.space if origin else None)
    if name is None:
        raise UsageError("Say which space the vectors are of: --space NAME, and --model for what made them.")
    same_name = [one for one in read_declared(layout) if one.name == name]
    same_name += [
        DeclaredSpace(name=name, dim=b.space.dim, fingerprint=b.space.fingerprint, modality=b.modality)
        for b in known_blocks(layout)
        if b.space.name == name
    ]
    modality = given.modality or _modality(name, file, same_name)
    fingerprint = _fingerprint(name, given, file, same_name)
    known = next((one.model for one in same_name if one.model and one.fingerprint == fingerprint), None)
    model = given.model or known or (origin.space if origin else "")
    new = DeclaredSpace(name=name, dim=file.dim, fingerprint=fingerprint, modality=modality, model=model)
    check_declared(new)
    if origin is not None and (origin.fingerprint, origin.dim) != (fingerprint, file.dim):
        raise SpaceMismatchError(
            f"{file.path} says that its vectors are of space {origin.space!r}, fingerprint {origin.fingerprint[:12]}, "
            f"and they were declared as {name!r}, fingerprint {fingerprint[:12]}; leave --model and --fingerprint out "
            "to import them as what they are"
        )
    other = next((one for one in same_name if one.space != new.space), None)
    if other is not None:
        raise SpaceMismatchError(
            f"space {name!r} of {layout.root} has {other}; the vectors of {file.path} have {new}, and the two cannot "
            "be compared. Import them under another name with --space"
        )
    return new


def _modality(name: str, file: VectorFile, same_name: list[DeclaredSpace]) -> Modality:
    there = {one.modality for one in same_name} or {
        Modality(one) for one in (file.origin.modalities if file.origin else ())
    }
    if len(there) != 1:
        raise UsageError(
            f"Say what the vectors of {name!r} are of: --modality text, image or audio. An item's image vectors "
            "count beside its other images."
        )
    return there.pop()


def _fingerprint(name: str, given: Declaration, file: VectorFile, same_name: list[DeclaredSpace]) -> str:
    if given.fingerprint is not None:
        return given.fingerprint
    if given.model is not None:
        return fingerprint_of(given.model, file.dim)
    if file.origin is not None:
        return file.origin.fingerprint
    return next((one.fingerprint for one in same_name), fingerprint_of(name, file.dim))
