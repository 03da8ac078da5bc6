"""One item's contents: recognised as known, or read, hashed, decoded and prepared for the encoders. Runs in threads."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from threading import Lock

from mmrec.catalog.limits import Limits
from mmrec.catalog.media import content_hash, decode, read_bytes, stat_media
from mmrec.catalog.seen import SeenIds
from mmrec.encoders.protocol import Encoder, Sample
from mmrec.errors import EncoderError, MediaError
from mmrec.items import Field, Item
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.items import StoredField, StoredItem
from mmrec.store.quarantine import Quarantined
from mmrec.store.vectors import VectorTable

__all__ = ["Contents", "Fresh", "Outcome"]


@dataclass(frozen=True, slots=True)
class Fresh:
    """A content ready to be encoded, once for each encoder that lacks it, and whom to blame should that fail."""

    hash: bytes
    modality: Modality
    samples: tuple[tuple[int, Sample], ...]
    blame: Quarantined


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one item.

    Attributes:
        item: Its row for the table; None where nothing of it can be used.
        fresh: Its contents that must be encoded.
        refused: Its contents that cannot be used.
        read: How many of its contents were read from where they lie.
        borrowed: Contents that another item has claimed in this run; refused later if they fail there.

    """

    item: StoredItem | None
    fresh: tuple[Fresh, ...]
    refused: tuple[Quarantined, ...]
    read: int
    borrowed: tuple[Quarantined, ...] = ()


@dataclass
class Contents:
    """What is known of contents, shared by the threads of one job.

    Attributes:
        encoders: All encoders of the job, by number.
        tables: The vectors there are, by space.
        bad: Contents known to be unusable, and why.
        modalities: What is encoded; contents of other modalities are neither read nor refused.
        limits: Bounds on one content.

    """

    encoders: Sequence[Encoder]
    tables: Mapping[Space, VectorTable]
    bad: Mapping[bytes, Quarantined]
    modalities: frozenset[Modality]
    limits: Limits
    _claimed: SeenIds = field(default_factory=SeenIds)
    _lock: Lock = field(default_factory=Lock)

    def examine(self, item: Item, before: Mapping[str, StoredField]) -> Outcome:
        """Find out what is new about an item. `before` holds its fields as stored, by column."""
        stored: list[StoredField] = []
        fresh: list[Fresh] = []
        refused: list[Quarantined] = []
        borrowed: list[Quarantined] = []
        read = 0
        for content in item.fields:
            if content.modality not in self.modalities:
                stored.append(StoredField(content.modality, content.column, None, content.uri))
                continue
            try:
                found = self._recognise(content, before.get(content.column))
                read += found.was_read
                new = self._prepare(item, content, found)
            except _Refused as refusal:
                stored.extend([refusal.field] if refusal.field else [])
                refused.append(refusal.entry(item, content))
            else:
                stored.append(found.field)
                fresh.extend([new] if new else [])
                if found.needed and new is None:
                    borrowed.append(_entry(item, content, found.field, ""))
        usable = len(refused) < len(item.fields)
        row = _stored_item(item, stored) if usable else None
        return Outcome(row, tuple(fresh), tuple(refused), read, tuple(borrowed))

    def _recognise(self, content: Field, before: StoredField | None) -> "_Found":
        """Hash a content, without reading it where its file has not changed."""
        stamp = stat_media(content.uri) if content.uri and content.data is None else None
        if before and stamp and before.hash and before.uri == content.uri and (before.size, before.mtime_ns) == stamp:
            missing = self._missing(before.hash, content.modality)
            if not missing or before.hash in self.bad:
                return self._known(before, missing, None, was_read=False)
        try:
            data = read_bytes(content, self.limits)
        except MediaError as error:
            raise _Refused(str(error), None) from error
        size, mtime_ns = stamp or (None, None)
        stored = StoredField(content.modality, content.column, content_hash(data), content.uri, size, mtime_ns)
        missing = self._missing(stored.hash or b"", content.modality)
        return self._known(stored, missing, data, was_read=content.uri is not None and content.data is None)

    def _known(self, stored: StoredField, missing: list[int], data: bytes | None, *, was_read: bool) -> "_Found":
        known_bad = self.bad.get(stored.hash or b"")
        if known_bad:
            raise _Refused(known_bad.reason, stored, known_bad.at)
        return _Found(stored, missing, data, was_read)

    def _missing(self, content: bytes, modality: Modality) -> list[int]:
        """Numbers of the encoders that have not encoded a content into all their spaces."""
        return [
            number
            for number, encoder in enumerate(self.encoders)
            if any(not self.tables[space].has([content])[0] for space in encoder.spaces.get(modality, ()))
        ]

    def _prepare(self, item: Item, content: Field, found: "_Found") -> Fresh | None:
        """Decode and preprocess a content that no one has encoded, and no one is about to."""
        content_key = found.field.hash or b""
        if not found.needed or found.data is None:
            return None
        claim = content.modality + content_key.hex()
        with self._lock:
            if claim in self._claimed:
                return None
            self._claimed.add(claim)
        try:
            decoded = decode(content.modality, found.data, self.limits)
            samples = tuple((n, self.encoders[n].prepare(content.modality, decoded)) for n in found.needed)
        except MediaError as error:
            raise _Refused(str(error), found.field) from error
        except EncoderError:
            raise
        except Exception as error:
            raise _Refused(f"It could not be prepared: {type(error).__name__}: {error}"[:200], found.field) from error
        return Fresh(content_key, content.modality, samples, _entry(item, content, found.field, ""))


@dataclass(frozen=True, slots=True)
class _Found:
    field: StoredField
    needed: list[int]
    data: bytes | None
    was_read: bool


class _Refused(Exception):  # noqa: N818 -- an outcome, not an error
    def __init__(self, reason: str, stored: StoredField | None, at: datetime | None = None) -> None:
        super().__init__(reason)
        self.field = stored
        self.at = at

    def entry(self, item: Item, content: Field) -> Quarantined:
        return _entry(item, content, self.field, str(self), self.at)


def _entry(
    item: Item, content: Field, stored: StoredField | None, reason: str, at: datetime | None = None
) -> Quarantined:
    digest, size, mtime_ns = (stored.hash, stored.size, stored.mtime_ns) if stored else (None, None, None)
    return Quarantined(item.row, item.id, content.column, reason, digest, content.uri, size, mtime_ns, at)


def _stored_item(item: Item, fields: list[StoredField]) -> StoredItem:
    text = next((content.text for content in item.fields if content.text is not None), None)
    described = [item.id, text, dict(item.metadata), [[str(part) for part in _parts(kept)] for kept in fields]]
    digest = hashlib.blake2b(json.dumps(described, default=str).encode(), digest_size=16).digest()
    return StoredItem(item.id, digest, text, tuple(fields), item.metadata)


def _parts(kept: StoredField) -> tuple[object, ...]:
    return (kept.modality, kept.column, kept.hash.hex() if kept.hash else "", kept.uri, kept.size, kept.mtime_ns)
