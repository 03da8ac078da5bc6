"""The vectors of one space: content hash -> float16 unit vector. Written once, found by key."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float32, UInt64

from mmrec.errors import StoreError
from mmrec.spaces import Space
from mmrec.store.keys import KeyIndex, as_words, words_of
from mmrec.store.tables import append, open_table

__all__ = ["VectorTable", "append_vectors"]


class VectorTable:
    """A snapshot of one space's vectors; vectors appended later are not seen until it is opened again."""

    def __init__(self, path: Path, space: Space, version: int | None = None) -> None:
        self._path = path
        self._space = space
        self._table = open_table(path, version)
        self._check_space()
        self._keys = KeyIndex(self._read_keys())

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self._keys)

    @property
    def version(self) -> int | None:
        """The table version seen, None where no vector was ever written."""
        return self._table.version if self._table is not None else None

    def has(self, hashes: Sequence[bytes]) -> Bool[np.ndarray, "n"]:
        """Which contents have a vector here."""
        return self.has_keys(as_words(hashes))

    def has_keys(self, keys: UInt64[np.ndarray, "n 2"]) -> Bool[np.ndarray, "n"]:
        """Which contents, by key, have a vector here."""
        return self._keys.find(keys) >= 0

    def newer_than(self, version: int) -> UInt64[np.ndarray, "n 2"]:
        """Keys of the contents whose vectors were written after a version of the table."""
        if self._table is None:
            return np.empty((0, 2), dtype=np.uint64)
        fresh = f"_row_created_at_version > {int(version)}"
        return words_of(self._table.scanner(columns=["hash"], filter=fresh).to_table()["hash"].combine_chunks())

    def fetch(self, hashes: Sequence[bytes]) -> tuple[Bool[np.ndarray, "n"], Float32[np.ndarray, "n dim"]]:
        """Vectors of the contents, and which were found; a missing one is a row of zeros."""
        positions = self._keys.find(as_words(hashes))
        found = positions >= 0
        vectors = np.zeros((len(hashes), self._space.dim), dtype=np.float32)
        if found.any() and self._table is not None:
            wanted, place = np.unique(positions[found], return_inverse=True)
            rows = self._table.take(wanted.tolist(), columns=["hash", "vector"]).combine_chunks()
            self._check_pairing(rows["hash"], [hashes[i] for i in np.flatnonzero(found).tolist()], place)
            vectors[found] = _to_numpy(rows["vector"], self._space.dim)[place]
        return found, vectors

    def _check_pairing(self, read: pa.ChunkedArray, asked: list[bytes], place: np.ndarray) -> None:
        hashes = read.to_pylist()
        if [hashes[i] for i in place] != asked:
            raise StoreError(f"{self._path} is damaged: it gave vectors of other contents; restore it from a backup")

    def _check_space(self) -> None:
        if self._table is None:
            return
        found = (self._table.schema.metadata or {}).get(b"fingerprint", b"").decode()
        if found != self._space.fingerprint:
            msg = (
                f"{self._path} says it holds vectors of {found or 'an unknown encoder'}, but its name says "
                f"{self._space.fingerprint}; it was swapped or edited: restore it, or delete it and index again"
            )
            raise StoreError(msg)
        stored = self._table.schema.field("vector").type.list_size
        if stored != self._space.dim:
            msg = (
                f"{self._path} holds vectors of {stored} numbers, but space {self._space.name!r} has {self._space.dim} "
                "under the same fingerprint; give the changed encoder another fingerprint"
            )
            raise StoreError(msg)

    def _read_keys(self) -> UInt64[np.ndarray, "n 2"]:
        if self._table is None:
            return np.empty((0, 2), dtype=np.uint64)
        column = self._table.to_table(columns=["hash"])["hash"].combine_chunks()
        return words_of(column)


def append_vectors(path: Path, space: Space, hashes: Sequence[bytes], vectors: Float[np.ndarray, "n dim"]) -> None:
    """Write vectors of contents that have none yet, in one commit. Raises StoreError where that fails."""
    flat = pa.array(vectors.astype(np.float16, copy=False).reshape(-1), type=pa.float16())
    schema = pa.schema(
        [pa.field("hash", pa.binary(16)), pa.field("vector", pa.list_(pa.float16(), space.dim))],
        metadata={"fingerprint": space.fingerprint},
    )
    columns = [pa.array(hashes, type=pa.binary(16)), pa.FixedSizeListArray.from_arrays(flat, space.dim)]
    append(path, pa.Table.from_arrays(columns, schema=schema))


def _to_numpy(column: pa.ChunkedArray, dim: int) -> Float32[np.ndarray, "n dim"]:
    flat = column.combine_chunks().flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, dim).astype(np.float32)
