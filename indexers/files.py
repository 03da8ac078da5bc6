"""The one file a saved index is: a small header, the row numbers, the index itself, and a checksum.

    magic (8 bytes) | format version, header length (2 x uint32) | JSON header | zeros up to a multiple of 64
    row numbers (count x int64) | payload (what the kind of index wrote) | SHA-256 of all before it (32 bytes)

All numbers are little-endian. Nothing is parsed before the checksums hold.
"""

import hashlib
import json
import os
import struct
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Int64, UInt8

from indexers.atomic import atomic_file
from indexers.protocol import IndexFileError, IndexSpec

__all__ = ["EXACT_KIND", "FAISS_KIND", "Header", "IndexFile", "Write", "read_index_file", "write_index_file"]

EXACT_KIND, FAISS_KIND = "exact", "faiss"

MAGIC = b"VECINDEX"
VERSION = 1
ALIGNMENT = 64
DIGEST_BYTES = 32
BLOCK = 1 << 20
PREFIX = struct.Struct("<8sII")

Write = Callable[[bytes | memoryview], int]


@dataclass(frozen=True, slots=True)
class Header:
    """Kind (which class reads the payload), recipe, vector length and number of vectors of a saved index."""

    kind: str
    spec: IndexSpec
    dim: int
    count: int


@dataclass(frozen=True, slots=True, eq=False)
class IndexFile:
    """A file whose checksums hold: its row numbers, and what its kind of index wrote, mapped from disk."""

    path: Path
    header: Header
    rows: Int64[np.ndarray, " n"]
    payload: UInt8[np.ndarray, " b"]


def write_index_file(
    path: Path, header: Header, rows: Int64[np.ndarray, " n"], payload: Callable[[Write], None]
) -> str:
    """Write an index atomically. Returns the SHA-256 of the whole file, in hex."""
    digest = hashlib.sha256()
    with atomic_file(path) as file:

        def write(data: bytes | memoryview) -> int:
            digest.update(data)
            return file.write(data)

        write(_opening(header))
        write(np.ascontiguousarray(rows, dtype="<i8").data)
        payload(write)
        write(digest.digest())
    return digest.hexdigest()


def _opening(header: Header) -> bytes:
    plain = asdict(replace(header, spec=replace(header.spec, search=dict(header.spec.search))))
    text = json.dumps(plain, sort_keys=True).encode()
    opening = PREFIX.pack(MAGIC, VERSION, len(text)) + text
    return opening + bytes(-len(opening) % ALIGNMENT)


def read_index_file(path: Path, expected_sha256: str | None) -> IndexFile:
    """Check a file and map it into memory.

    Raises IndexFileError if it is missing, of another checksum or format version, truncated, or malformed.
    """
    try:
        with path.open("rb") as file:
            prefix = _verified_prefix(path, file, expected_sha256)
    except OSError as error:
        raise IndexFileError(f"{path} cannot be read ({error.strerror}). Build the index again.") from error
    mapped = np.memmap(path, dtype=np.uint8, mode="r")
    _, _, header_bytes = PREFIX.unpack(prefix)
    header = _parsed(path, bytes(mapped[PREFIX.size : PREFIX.size + header_bytes]))
    start = PREFIX.size + header_bytes
    start += -start % ALIGNMENT
    rows_end, end = start + 8 * header.count, mapped.size - DIGEST_BYTES
    if rows_end > end:
        raise _damaged(path, f"{header.count} rows do not fit")
    rows = np.array(mapped[start:rows_end]).view("<i8").astype(np.int64, copy=False)
    return IndexFile(path, header, rows, mapped[rows_end:end])


def _verified_prefix(path: Path, file: BinaryIO, expected_sha256: str | None) -> bytes:
    body_bytes = os.fstat(file.fileno()).st_size - DIGEST_BYTES
    if body_bytes < PREFIX.size:
        raise _damaged(path, f"it has only {body_bytes + DIGEST_BYTES} bytes")
    digest = hashlib.sha256()
    for block in _blocks(file, body_bytes):
        digest.update(block)
    body_digest, trailer = digest.digest(), file.read(DIGEST_BYTES)
    digest.update(trailer)
    if expected_sha256 is not None and digest.hexdigest() != expected_sha256.lower():
        raise _damaged(path, f"its SHA-256 is {digest.hexdigest()}, expected {expected_sha256}")
    file.seek(0)
    prefix = file.read(PREFIX.size)
    magic, version, _ = PREFIX.unpack(prefix)
    if magic != MAGIC:
        raise _damaged(path, "it is not a saved index")
    if version != VERSION:
        raise IndexFileError(
            f"{path} has format version {version}; this release reads {VERSION}. Build the index again, or install the "
            "release that wrote it."
        )
    if trailer != body_digest:
        raise _damaged(path, "its content does not match its own checksum")
    return prefix


def _blocks(file: BinaryIO, count: int) -> Iterator[bytes]:
    while count > 0:
        block = file.read(min(BLOCK, count))
        if not block:
            return
        count -= len(block)
        yield block


def _parsed(path: Path, text: bytes) -> Header:
    try:
        plain = json.loads(text)
        spec = IndexSpec(**plain["spec"])
        header = Header(kind=str(plain["kind"]), spec=spec, dim=int(plain["dim"]), count=int(plain["count"]))
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(path, f"its header is malformed: {error}") from error
    if header.kind not in (EXACT_KIND, FAISS_KIND):
        raise _damaged(path, f"it holds an index of kind {header.kind!r}")
    if header.dim < 1 or header.count < 0:
        raise _damaged(path, f"its header says {header.count} vectors of {header.dim} dimensions")
    return header


def _damaged(path: Path, why: str) -> IndexFileError:
    return IndexFileError(f"{path} is damaged or not an index: {why}. Restore it, or build the index again.")
