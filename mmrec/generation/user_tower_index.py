"""The user tower of a generation, and the index over its item vectors."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float16, Float32, Int64

from indexers.protocol import Index
from indexers.recall import RecallSample, tuned
from indexers.recipes import build, default_spec, load
from mmrec.errors import DamagedError, StoreError
from mmrec.files import reserve
from mmrec.generation.checks import HALF_ROUNDING, ROWS_PER_PIECE
from mmrec.storage.damage import check_files, convert_read_errors
from mmrec.storage.generations import Manifest

if TYPE_CHECKING:
    import mmrec.users.tower


TOWER_VECTORS = "taste.npy"  # the files keep an older name of the tower
TOWER_INDEX = "taste.faiss"
CHECKED = 2_000


@dataclass(frozen=True, eq=False)
class UserTowerIndex:
    """A trained user tower, its vectors of a generation's items (in the order of its rows), and an index over them."""

    model: "mmrec.users.tower.TowerModel"
    vectors: Float16[np.ndarray, "n dim"]
    index: Index


def write_tower_index(
    folder: Path,
    model: "mmrec.users.tower.TowerModel",
    rows: Int64[np.ndarray, " n"],
    contents: Float16[np.ndarray, "n content"],
) -> str:
    """Write tower, vectors and index of a generation's rows into its folder. Returns the SHA-256 of the index."""
    from mmrec.users.tower import save_tower  # noqa: PLC0415 - a store without a tower needs no torch

    shape = (len(rows), model.dim)
    vectors = np.lib.format.open_memmap(folder / TOWER_VECTORS, mode="w+", dtype=np.float16, shape=shape)
    if len(rows):
        reserve(folder / TOWER_VECTORS)
    for start in range(0, len(rows), ROWS_PER_PIECE):
        piece = slice(start, start + ROWS_PER_PIECE)
        vectors[piece] = model.items(rows[piece], np.asarray(contents[piece], dtype=np.float32))
    vectors.flush()
    save_tower(model, folder)
    index = build(replace(default_spec(len(rows), model.dim, "ip"), search={}), rows, vectors)
    return tuned(index, RecallSample.of(rows, vectors, "ip")).save(folder / TOWER_INDEX)


def open_tower_index(folder: Path, made: Manifest) -> UserTowerIndex | None:
    """Open what `write_tower_index` wrote; None if the generation has no tower.

    Raises StoreError if a file is missing, damaged or not the one that the manifest names.
    """
    if not made.has_tower:
        return None
    from mmrec.users.tower import CONFIG, WEIGHTS, load_tower  # noqa: PLC0415 - as above

    try:
        check_files({folder / name: made.sha256[name] for name in (CONFIG, WEIGHTS, TOWER_VECTORS)})
        model = load_tower(folder)
        with convert_read_errors(folder):
            vectors = np.load(folder / TOWER_VECTORS, mmap_mode="r", allow_pickle=False)
            if vectors.dtype != np.float16 or vectors.shape != (made.items, model.dim):
                raise StoreError(f"{folder / TOWER_VECTORS} does not hold {made.items:,} vectors of {model.dim} halves")
            return UserTowerIndex(model, vectors, load(folder / TOWER_INDEX, made.sha256[TOWER_INDEX]))
    except KeyError as error:
        raise DamagedError(f"the manifest of {folder} has no checksum of {error}") from error


def pairing_fault(
    found: UserTowerIndex, rows: Int64[np.ndarray, " n"], contents: Float16[np.ndarray, "n content"]
) -> str | None:
    """Say if sampled item vectors differ from the tower's output, or the index has other rows; else None."""
    if not np.array_equal(np.sort(found.index.rows), rows):
        return f"its user tower's index has other row numbers ({len(found.index.rows):,} of them) than its vectors"
    places = np.sort(np.random.default_rng(0).choice(len(rows), min(CHECKED, len(rows)), replace=False))
    given: Float32[np.ndarray, "m content"] = np.asarray(contents[places], dtype=np.float32)
    far = np.linalg.norm(found.model.items(rows[places], given) - found.vectors[places], axis=1) > HALF_ROUNDING
    if far.any():
        return f"{far.sum():,} of {len(places):,} items do not have the vectors of its tower"
    return None
