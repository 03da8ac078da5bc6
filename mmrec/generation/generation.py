"""A published generation, opened for reading."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16, Float32, Int64, UInt8

from indexers.protocol import Index
from indexers.recipes import load
from indexers.vectors import find_rows
from mmrec.errors import DamagedError, StoreError, UnreadableError
from mmrec.fusion.fusion import Fusion, load_fusion
from mmrec.storage.damage import check_files, convert_read_errors
from mmrec.storage.generations import Manifest, read_manifest
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.tables import altered_files, can_open, check_unaltered

if TYPE_CHECKING:
    import mmrec.generation.user_tower_index


FUSION = "fusion.safetensors"
INDEX = "index.faiss"
VECTORS = "vectors.npy"
ROWS = "rows.npy"
MODALITIES = "modalities.npy"


@dataclass(frozen=True, eq=False)
class Generation:
    """Fusion, item vectors and index that belong together.

    `rows` are the items' row numbers, ascending; `vectors` (mapped from disk) and `modalities` (bits, see
    `modality_bits`) are in their order.
    """

    folder: Path
    manifest: Manifest
    fusion: Fusion
    rows: Int64[np.ndarray, " n"]
    vectors: Float16[np.ndarray, "n dim"]
    modalities: UInt8[np.ndarray, " n"]
    index: Index

    @cached_property
    def tower_index(self) -> "mmrec.generation.user_tower_index.UserTowerIndex | None":
        """Items as a trained user tower maps them, opened at first use; None if there is no tower.

        Raises StoreError if it is damaged.
        """
        from mmrec.generation.user_tower_index import open_tower_index  # noqa: PLC0415 - searching needs no torch

        return open_tower_index(self.folder, self.manifest)

    def find(self, rows: Int64[np.ndarray, " m"]) -> Int64[np.ndarray, " m"]:
        """Position of each row number in `rows`, -1 where it is not there."""
        return find_rows(self.rows, rows)

    def vectors_at(self, places: Int64[np.ndarray, " m"]) -> Float32[np.ndarray, "m dim"]:
        """Item vectors by place."""
        return np.asarray(self.vectors[places], dtype=np.float32)


def open_generation(layout: Layout, number: int) -> Generation:
    """Open a generation; its files, and those of the items that it was built from, are checked against their checksums.

    Raises StoreError if a file is missing, damaged or not the one the manifest names, or if the items are older
    than the generation: its row numbers would then mean other items.
    """
    made = read_manifest(layout, number)
    if not can_open(altered_files(layout, layout.items)):
        check_unaltered(layout, layout.items)
    items_version = ItemTable(layout.items).version
    if items_version < made.items_version:
        state = f"at version {items_version}" if items_version else "missing"
        msg = (
            f"{layout.items} is {state}, but generation {number} was built from its version {made.items_version}; "
            f"restore both from one backup, or delete {layout.current} and index again: vectors are kept"
        )
        raise StoreError(msg)
    check_unaltered(layout, layout.items)
    with naming_generation(layout, number):
        return open_folder(layout.generations / str(number), made)


@contextmanager
def naming_generation(layout: Layout, number: int) -> Iterator[None]:
    """Say in errors about damaged files which generation they are of, and what to run."""
    try:
        yield
    except UnreadableError:
        raise
    except (StoreError, KeyError) as error:
        what = f"its manifest has no checksum of {error}" if isinstance(error, KeyError) else str(error)
        what = error.what if isinstance(error, DamagedError) else what
        advice = f"go back with `mmrec rollback {layout.root}`, or repair it with `mmrec repair {layout.root}`"
        raise DamagedError(f"generation {number} of {layout.root} is damaged: {what}", advice) from error


def open_folder(folder: Path, made: Manifest) -> Generation:
    """Open the files of a generation, published or not; each is checked against the manifest before it is used.

    Those of a tower are checked when it is opened.

    Raises StoreError if a file is missing, damaged or not the one the manifest names.
    """
    try:
        check_files({folder / name: made.sha256[name] for name in (FUSION, ROWS, VECTORS, MODALITIES)})
        with convert_read_errors(folder):
            fusion = load_fusion(folder / FUSION)
            return Generation(
                folder, made, fusion, *load_arrays(folder, made), load(folder / INDEX, made.sha256[INDEX])
            )
    except KeyError as error:
        raise DamagedError(f"the manifest of {folder} has no checksum of {error}") from error


def load_arrays(
    folder: Path, made: Manifest
) -> tuple[Int64[np.ndarray, " n"], Float16[np.ndarray, "n dim"], UInt8[np.ndarray, " n"]]:
    """Map row numbers, item vectors and modalities from disk. Raises ValueError if the manifest says otherwise."""
    return (
        _load(folder / ROWS, np.int64, (made.items,)),
        _load(folder / VECTORS, np.float16, (made.items, made.dim)),
        _load(folder / MODALITIES, np.uint8, (made.items,)),
    )


def _load(path: Path, dtype: type[np.generic], shape: tuple[int, ...]) -> np.ndarray:
    """Map an array from disk. Raises ValueError if it has another shape or kind of numbers."""
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    if not isinstance(array, np.ndarray) or array.dtype != dtype:
        raise ValueError(f"{path.name} does not hold {np.dtype(dtype)} numbers")
    if array.shape != shape:
        raise ValueError(f"{path.name} has shape {array.shape}, and {shape} is due")
    return array
