"""Read, hash and decode the contents of items; find which must be encoded; counts of a run."""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock

from mmrec.decoding.isolated import decode_isolated
from mmrec.decoding.limits import Limits
from mmrec.encoders.protocol import Encoder, Sample
from mmrec.errors import DecoderLostError, DecodingError, EncoderError, MediaError, UnreachableError
from mmrec.sources.media_access import MediaAccess, content_hash
from mmrec.sources.rows import SeenIds
from mmrec.storage.quarantine import KnownFailures, Quarantined
from mmrec.storage.stored_item import StoredField, StoredItem
from mmrec.storage.vectors import VectorTable
from mmrec.types import Field, Item, Modality, Space

MAX_CONSECUTIVE_FAILURES = 32
"""Contents that may fail one after the other, through no fault of theirs, before the encoder is held to be broken."""

ADVICE = "What was encoded before is kept; repair the encoder or its device, and run the same command again"


@dataclass(frozen=True, slots=True)
class Fresh:
    """A content ready to be encoded, once for each encoder that lacks it, and its quarantine entry on failure."""

    hash: bytes
    modality: Modality
    samples: tuple[tuple[int, Sample], ...]
    on_failure: Quarantined


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of examining one item.

    Attributes:
        item: Its row for the table; None where nothing of it can be used.
        fresh: Its contents that must be encoded.
        refused: Its contents that cannot be used.
        read: How many of its contents were read from where they lie.
        duplicates_in_flight: Contents that are encoded for another item in this run; refused later if they fail there.

    """

    item: StoredItem | None
    fresh: tuple[Fresh, ...]
    refused: tuple[Quarantined, ...]
    read: int
    duplicates_in_flight: tuple[Quarantined, ...] = ()


@dataclass
class Contents:
    """What is known of contents, shared by the threads of one job.

    Attributes:
        encoders: All encoders of the job, by number.
        tables: The vectors there are, by space.
        bad: Contents known to be unusable, and why, by `content_key`.
        modalities: What is encoded; contents of other modalities are neither read nor refused.
        limits: Bounds on one content.
        media: How contents are read.

    """

    encoders: Sequence[Encoder]
    tables: Mapping[Space, VectorTable]
    bad: KnownFailures
    modalities: frozenset[Modality]
    limits: Limits
    media: MediaAccess
    _claimed: SeenIds = field(default_factory=SeenIds)
    _lock: Lock = field(default_factory=Lock)
    _failures_in_a_row: int = 0

    def examine(self, item: Item, before: Mapping[tuple[str, str | None], StoredField]) -> Outcome:
        """Find out what is new about an item. `before` holds its fields as stored, by column and URI.

        Raises EncoderError where an encoder is broken, DecodingError where nothing can be decoded.
        """
        stored: list[StoredField] = []
        fresh: list[Fresh] = []
        refused: list[Quarantined] = []
        duplicates_in_flight: list[Quarantined] = []
        read = 0
        is_kept = False
        for content in item.fields:
            if content.modality not in self.modalities:
                stored.append(StoredField(content.modality, content.column, None, content.uri))
                continue
            try:
                found = self._recognise(content, before.get((content.column, content.uri)))
                read += found.was_read
                new = self._prepare(item, content, found)
            except _Refused as refusal:
                stored.extend(one for one in (refusal.field, refusal.kept) if one)
                is_kept |= refusal.kept is not None
                refused.append(refusal.entry(item, content))
            else:
                stored.append(found.field)
                fresh.extend([new] if new else [])
                if found.needed and new is None:
                    duplicates_in_flight.append(_entry(item, content, found.field, ""))
        usable = is_kept or len(refused) < len(item.fields)
        row = _stored_item(item, stored) if usable else None
        return Outcome(row, tuple(fresh), tuple(refused), read, tuple(duplicates_in_flight))

    def _recognise(self, content: Field, before: StoredField | None) -> "_Recognised":
        """Hash a content, without reading it where its file has not changed."""
        known = self._unchanged(content, before)
        if known:
            return known
        try:
            reading = self.media.take(content)
        except UnreachableError as error:
            raise self._unreachable(content, before, str(error)) from error
        except MediaError as error:
            raise _Refused(str(error), None) from error
        except Exception as error:
            raise self._unexpected("read", error, None) from error
        size, changed = (reading.stamp.size, reading.stamp.changed) if reading.stamp else (None, None)
        digest = content_hash(reading.data)
        stored = StoredField(content.modality, content.column, digest, content.uri, size, changed)
        missing = self._missing(digest, content.modality)
        return self._checked(stored, missing, reading.data, was_read=content.uri is not None and content.data is None)

    def _unreachable(self, content: Field, before: StoredField | None, reason: str) -> "_Refused":
        """Refuse a content that cannot be read now; its earlier vectors stay, and the item with them."""
        if before and before.hash and not self._missing(before.hash, content.modality):
            return _Refused(f"{reason} What was read of it before is kept.", None, transient=True, kept=before)
        return _Refused(reason, None, transient=True)

    def _unchanged(self, content: Field, before: StoredField | None) -> "_Recognised | None":
        """What is known of a content that needs no reading: it is encoded, and has not changed where it lies."""
        if not before or not before.hash or not content.uri or content.data is not None:
            return None
        missing = self._missing(before.hash, content.modality)
        if missing and content_key(content.modality, before.hash) not in self.bad:
            return None
        stamp = self.media.stat(content.uri)
        if stamp is None or not stamp.is_of(before.size, before.mtime_ns):
            return None
        return self._checked(before, missing, None, was_read=False)

    def _checked(self, stored: StoredField, missing: list[int], data: bytes | None, *, was_read: bool) -> "_Recognised":
        known_bad = self.bad.get(content_key(stored.modality, stored.hash or b""))
        if known_bad:
            raise _Refused(known_bad.reason, stored, known_bad.at)
        return _Recognised(stored, missing, data, was_read)

    def _missing(self, content: bytes, modality: Modality) -> list[int]:
        """Numbers of the encoders that have not encoded a content into all their spaces."""
        return [
            number
            for number, encoder in enumerate(self.encoders)
            if any(not self.tables[space].has([content])[0] for space in encoder.spaces.get(modality, ()))
        ]

    def _prepare(self, item: Item, content: Field, found: "_Recognised") -> Fresh | None:
        """Decode and preprocess a content that no one has encoded, and no one is about to."""
        digest = found.field.hash or b""
        if not found.needed or found.data is None:
            return None
        claim = content_key(content.modality, digest)
        with self._lock:
            if claim in self._claimed:
                return None
            self._claimed.add(claim)
        try:
            decoded = decode_isolated(content.modality, found.data, self.limits)
            samples = tuple((n, self.encoders[n].prepare(content.modality, decoded)) for n in found.needed)
        except MediaError as error:
            raise _Refused(str(error), found.field, transient=isinstance(error, DecoderLostError)) from error
        except (EncoderError, DecodingError):
            raise
        except Exception as error:
            raise self._unexpected("prepared", error, found.field) from error
        self._failures_in_a_row = 0
        return Fresh(digest, content.modality, samples, _entry(item, content, found.field, ""))

    def _unexpected(self, what: str, error: Exception, stored: StoredField | None) -> Exception:
        """Refuse a content for an unexpected error, to be tried again; an EncoderError after many in a row."""
        reason = f"It could not be {what}: {type(error).__name__}: {error}"[:200]
        with self._lock:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_CONSECUTIVE_FAILURES:
                return EncoderError(
                    f"{MAX_CONSECUTIVE_FAILURES} contents in a row failed, the last with: {reason} {ADVICE}"
                )
        return _Refused(reason, stored, transient=True)


@dataclass(frozen=True, slots=True)
class _Recognised:
    field: StoredField
    needed: list[int]
    data: bytes | None
    was_read: bool


class _Refused(Exception):  # noqa: N818 -- an outcome, not an error
    def __init__(
        self,
        reason: str,
        stored: StoredField | None,
        at: datetime | None = None,
        *,
        transient: bool = False,
        kept: StoredField | None = None,
    ) -> None:
        super().__init__(reason)
        self.field = stored
        self.kept = kept
        self._at = at
        self._transient = transient

    def entry(self, item: Item, content: Field) -> Quarantined:
        entry = _entry(item, content, self.field, str(self))
        return replace(entry, at=self._at, transient=self._transient)


def content_key(modality: str, content: bytes) -> str:
    """Key of a content in a run: the same bytes may be good audio and a bad image."""
    return f"{modality}:{content.hex()}"


def key_of(entry: Quarantined) -> str:
    """The key of the content that an entry is about."""
    return content_key(entry.modality or "", entry.hash or b"")


def _entry(item: Item, content: Field, stored: StoredField | None, reason: str) -> Quarantined:
    digest, size, mtime_ns = (stored.hash, stored.size, stored.mtime_ns) if stored else (None, None, None)
    return Quarantined(
        *(item.row, item.id, content.column, reason, digest, content.uri, size, mtime_ns),
        modality=content.modality,
        where=item.where,
    )


def _stored_item(item: Item, fields: list[StoredField]) -> StoredItem:
    text = next((content.text for content in item.fields if content.text is not None), None)
    described = [item.id, text, dict(item.metadata), [[str(part) for part in _parts(kept)] for kept in fields]]
    digest = hashlib.blake2b(json.dumps(described, default=str, sort_keys=True).encode(), digest_size=16).digest()
    return StoredItem(item.id, digest, text, tuple(fields), item.metadata)


def _parts(kept: StoredField) -> tuple[object, ...]:
    return (kept.modality, kept.column, kept.hash.hex() if kept.hash else "", kept.uri, kept.size, kept.mtime_ns)


@dataclass
class Tally:
    """What a run has done so far.

    Attributes:
        seen: Source rows read.
        added: Items that are new.
        changed: Items whose contents, places or metadata changed.
        removed: Items that the source no longer has.
        read: Contents read from where they lie.
        encoded: Contents encoded, by modality.
        truncated: Contents cut to their model's limit, by modality.
        quarantined: Contents and rows left out.

    """

    seen: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    read: int = 0
    encoded: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
