"""What quarantine held when a run began: found by item and by content, in some forty bytes of memory an entry."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, UInt64

from mmrec.catalog.seen import SeenIds
from mmrec.store.keys import words_of
from mmrec.store.quarantine import Quarantined, read_quarantine
from mmrec.store.tables import open_table

__all__ = ["Earlier", "KnownBad", "later_than"]


class Earlier:
    """A snapshot of the quarantine; only digests are in memory, entries are read as they are asked for."""

    def __init__(self, path: Path) -> None:
        self._table = open_table(path)
        ids: list[int] = []
        places: list[int] = []
        words: list[np.ndarray] = []
        spots: list[np.ndarray] = []
        start = 0
        for batch in self._batches():
            for place, name in enumerate(batch.column("id").to_pylist(), start):
                if name is not None:
                    ids.append(_digest(name))
                    places.append(place)
            has = batch.column("hash").is_valid()
            words.append(words_of(batch.column("hash").drop_null())[:, 0])
            spots.append(np.flatnonzero(has.to_numpy(zero_copy_only=False)) + start)
            start += len(batch)
        self._by_id = _Places(np.array(ids, dtype=np.uint64), np.array(places, dtype=np.int64))
        hashes = np.concatenate([np.empty(0, dtype=np.uint64), *words])
        self._by_hash = _Places(hashes, np.concatenate([np.empty(0, dtype=np.int64), *spots]))
        self._count = start

    def __len__(self) -> int:
        """Number of entries."""
        return self._count

    @property
    def version(self) -> int | None:
        """Version of the table that is seen, None where there is none."""
        return self._table.version if self._table is not None else None

    def of_ids(self, ids: Sequence[str]) -> dict[str, list[Quarantined]]:
        """The entries of these items, as far as there are any."""
        wanted = set(ids)
        found: dict[str, list[Quarantined]] = {}
        for entry in self._read(self._by_id.of([_digest(name) for name in ids])):
            if entry.id in wanted:
                found.setdefault(entry.id, []).append(entry)
        return found

    def of_content(self, content: bytes) -> list[Quarantined]:
        """The entries of a content, whatever it was taken for."""
        word = int.from_bytes(content[:8], "little")
        return [entry for entry in self._read(self._by_hash.of([word])) if entry.hash == content]

    def _batches(self) -> Iterator[pa.RecordBatch]:
        if self._table is not None:
            yield from self._table.scanner(columns=["id", "hash"]).to_batches()

    def _read(self, places: Int64[np.ndarray, " n"]) -> Iterable[Quarantined]:
        if self._table is None or not len(places):
            return []
        return [Quarantined(**row) for row in self._table.take(places.tolist()).to_pylist()]


class KnownBad:
    """Contents that are unusable for good, and why, by ``modality:hash``; each is looked up in the snapshot."""

    def __init__(self, earlier: Earlier | None) -> None:
        """Take a snapshot, or None for knowing of no bad content."""
        self._earlier = earlier

    def __contains__(self, key: str) -> bool:
        """Whether a content is known to be bad."""
        return self.get(key) is not None

    def get(self, key: str) -> Quarantined | None:
        """The entry of a content, None where it may be good."""
        modality, _, digest = key.partition(":")
        entries = self._earlier.of_content(bytes.fromhex(digest)) if self._earlier is not None else []
        return next((one for one in entries if one.modality == modality and not one.transient), None)


def later_than(earlier: Earlier, path: Path) -> Iterator[Quarantined]:
    """Entries of the quarantine as it is now that are not in a snapshot."""
    table = open_table(path)
    if table is None or table.version == earlier.version:
        return
    before = SeenIds()
    if earlier.version is not None:
        for entry in read_quarantine(path, earlier.version):
            before.add(repr(entry))
    yield from (entry for entry in read_quarantine(path) if repr(entry) not in before)


class _Places:
    """The places of each 64-bit digest, of which some may be equal."""

    def __init__(self, digests: UInt64[np.ndarray, " n"], places: Int64[np.ndarray, " n"]) -> None:
        order = np.argsort(digests, kind="stable")
        self._digests = digests[order]
        self._places = places[order]

    def of(self, digests: Sequence[int]) -> Int64[np.ndarray, " m"]:
        """The places of all of these, ascending."""
        wanted = np.array(digests, dtype=np.uint64)
        starts = np.searchsorted(self._digests, wanted, side="left")
        ends = np.searchsorted(self._digests, wanted, side="right")
        runs = [self._places[a:b] for a, b in zip(starts.tolist(), ends.tolist(), strict=True) if b > a]
        return np.unique(np.concatenate([np.empty(0, dtype=np.int64), *runs]))


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")
