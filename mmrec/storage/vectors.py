"""Vector tables: one vector per content hash, written once; and arrays of hashes."""

from collections.abc import Iterable, Sequence
from pathlib import Path

import lance
import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Float, Float32, Int64, UInt64

from mmrec.errors import StoreError
from mmrec.storage.tables import append, open_table
from mmrec.types import Space


def key_array(keys: Iterable[bytes]) -> UInt64[np.ndarray, "n 2"]:
    """16-byte keys as pairs of integers."""
    return np.frombuffer(b"".join(keys), dtype="<u8").reshape(-1, 2).astype(np.uint64)


def key_column(column: pa.FixedSizeBinaryArray) -> UInt64[np.ndarray, "n 2"]:
    """A column of 16-byte keys without nulls as pairs of integers, without a copy."""
    words = np.frombuffer(column.buffers()[1] or b"", dtype="<u8").reshape(-1, 2)
    return words[column.offset : column.offset + len(column)].astype(np.uint64, copy=False)


class KeyIndex:
    """The position of each key in a list of keys. The first of equal keys wins."""

    def __init__(self, keys: UInt64[np.ndarray, "n 2"]) -> None:
        self._order = np.argsort(np.ascontiguousarray(keys[:, 0]))
        self._first = keys[self._order, 0]
        self._second = keys[self._order, 1]
        self._longest_run = _longest_run(self._first)

    def __len__(self) -> int:
        """Number of keys, repeated ones included."""
        return len(self._order)

    @property
    def keys(self) -> UInt64[np.ndarray, "n 2"]:
        """The keys, in no promised order."""
        return np.stack([self._first, self._second], axis=1)

    def find(self, keys: UInt64[np.ndarray, "m 2"]) -> Int64[np.ndarray, " m"]:
        """Position of each key, -1 where it is not there."""
        found = np.full(len(keys), -1, dtype=np.int64)
        start = np.searchsorted(self._first, keys[:, 0])
        for step in range(self._longest_run):  # no step where there are no keys
            place = start + step
            inside = place < len(self._first)
            place = np.where(inside, place, 0)
            hit = inside & (self._first[place] == keys[:, 0]) & (self._second[place] == keys[:, 1])
            position = self._order[place]  # equal keys lie in no order
            found = np.where(hit & ((found < 0) | (position < found)), position, found)
        return found


def _longest_run(ordered: UInt64[np.ndarray, " n"]) -> int:
    if not len(ordered):
        return 0
    starts = np.flatnonzero(np.append(True, ordered[1:] != ordered[:-1]))
    return int(np.diff(np.append(starts, len(ordered))).max())


class VectorTable:
    """A snapshot of one space's vectors with their `keys` by position.

    Later vectors are not seen until it is opened again.
    """

    def __init__(self, path: Path, space: Space, version: int | None = None) -> None:
        self._path = path
        self._space = space
        self._table = open_table(path, version)
        self._check_space()
        read = np.empty((0, 2), dtype=np.uint64) if self._table is None else _keys_since(self._table, None)
        self.keys = KeyIndex(read)

    def __len__(self) -> int:
        """Number of vectors."""
        return len(self.keys)

    @property
    def version(self) -> int | None:
        """Version of the table, None where no vector was ever written."""
        return self._table.version if self._table is not None else None

    def has(self, hashes: Sequence[bytes]) -> Bool[np.ndarray, " n"]:
        """Which contents have a vector here."""
        return self.has_keys(key_array(hashes))

    def has_keys(self, keys: UInt64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        """Which contents, by key, have a vector here."""
        return self.keys.find(keys) >= 0

    def newer_than(self, version: int) -> UInt64[np.ndarray, "n 2"]:
        """Keys of the vectors written after a version of the table."""
        return np.empty((0, 2), dtype=np.uint64) if self._table is None else _keys_since(self._table, version)

    def fetch(self, hashes: Sequence[bytes]) -> tuple[Bool[np.ndarray, " n"], Float32[np.ndarray, "n dim"]]:
        """Vectors of the contents, and which were found; a missing one is a row of zeros."""
        positions = self.keys.find(key_array(hashes))
        found = positions >= 0
        vectors = np.zeros((len(hashes), self._space.dim), dtype=np.float32)
        if found.any() and self._table is not None:
            wanted, place = np.unique(positions[found], return_inverse=True)
            rows = self._table.take(wanted.tolist(), columns=["hash", "vector"]).combine_chunks()
            read = rows["hash"].to_pylist()
            if [read[i] for i in place] != [hashes[i] for i in np.flatnonzero(found).tolist()]:
                raise StoreError(
                    f"{self._path} is damaged: it gave vectors of other contents; restore it from a backup"
                )
            flat = rows["vector"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
            vectors[found] = flat.reshape(-1, self._space.dim).astype(np.float32)[place]
        return found, vectors

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


class VectorAppender:
    """Appends to one space's table, each content once, whoever else writes to it meanwhile.

    All keys are held in memory; before each append only those that others wrote since are read.
    """

    def __init__(self, path: Path, space: Space, seen: VectorTable | None = None) -> None:
        """Open nothing yet. The keys of `seen`, a snapshot of the same table, are not read again."""
        self._path = path
        self._space = space
        self._parts: list[KeyIndex] = []
        self._version = 0
        self._inode = 0
        if seen is not None and seen.version is not None:
            self._parts, self._version, self._inode = [seen.keys], seen.version, _inode(path)

    def has(self, hashes: Sequence[bytes]) -> Bool[np.ndarray, " n"]:
        """Which contents have a vector now."""
        self._follow(open_table(self._path))
        return self._find(key_array(hashes))

    def append(self, hashes: Sequence[bytes], vectors: Float[np.ndarray, "n dim"]) -> int:
        """Write the vectors of contents that have none, in one commit; of a content given twice, the first.

        Hold the commit lock. Returns how many were written. Raises StoreError on failure.
        """
        keys = key_array(hashes)
        self._follow(open_table(self._path))
        fresh = first_of_each(keys) & ~self._find(keys)
        if not fresh.any():
            return 0
        table = append(self._path, self._rows([hashes[i] for i in np.flatnonzero(fresh).tolist()], vectors[fresh]))
        self._add(keys[fresh])
        self._version, self._inode = table.version, _inode(self._path)
        return int(fresh.sum())

    def _follow(self, table: lance.LanceDataset | None) -> None:
        """Read keys written by other processes; read all again if rows were deleted or the table replaced."""
        if table is None:
            self._parts, self._version = [], 0
            return
        grown = _inode(self._path) == self._inode and table.version >= self._version
        if grown and table.version == self._version:
            return
        if grown:
            self._add(_keys_since(table, self._version))
        if not grown or sum(map(len, self._parts)) != table.count_rows():
            self._parts = []
            self._add(_keys_since(table, None))
        self._version, self._inode = table.version, _inode(self._path)

    def _find(self, keys: UInt64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
        found = [part.find(keys) >= 0 for part in self._parts]
        return np.logical_or.reduce(found) if found else np.zeros(len(keys), dtype=bool)

    def _add(self, keys: UInt64[np.ndarray, "n 2"]) -> None:
        """Add keys; parts are merged with later ones as large, so that few remain and each key is moved seldom."""
        while self._parts and len(self._parts[-1]) <= len(keys):
            keys = np.concatenate([self._parts.pop().keys, keys])
        if len(keys):
            self._parts.append(KeyIndex(keys))

    def _rows(self, hashes: list[bytes], vectors: Float[np.ndarray, "n dim"]) -> pa.Table:
        flat = pa.array(vectors.astype(np.float16, copy=False).reshape(-1), type=pa.float16())
        schema = pa.schema(
            [pa.field("hash", pa.binary(16)), pa.field("vector", pa.list_(pa.float16(), self._space.dim))],
            metadata={"fingerprint": self._space.fingerprint},
        )
        columns = [pa.array(hashes, type=pa.binary(16)), pa.FixedSizeListArray.from_arrays(flat, self._space.dim)]
        return pa.Table.from_arrays(columns, schema=schema)


def _keys_since(table: lance.LanceDataset, version: int | None) -> UInt64[np.ndarray, "n 2"]:
    """Keys of the rows written after a version of the table; all of them for None."""
    fresh = None if version is None else f"_row_created_at_version > {int(version)}"
    return key_column(table.scanner(columns=["hash"], filter=fresh).to_table()["hash"].combine_chunks())


def _inode(path: Path) -> int:
    """What tells a table from one that was made anew in its place; 0 where there is none."""
    try:
        return path.stat().st_ino
    except FileNotFoundError:
        return 0


def first_of_each(keys: UInt64[np.ndarray, "n 2"]) -> Bool[np.ndarray, " n"]:
    """Which keys are the first of equal ones."""
    return KeyIndex(keys).find(keys) == np.arange(len(keys))
