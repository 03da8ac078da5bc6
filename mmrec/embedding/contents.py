"""Read, hash and decode the contents of items, a batch at a time; find which must be encoded; counts of a run."""

import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from threading import Lock
from typing import Final

import numpy as np

from mmrec.decoding.isolated import decode_all_isolated
from mmrec.decoding.limits import Limits
from mmrec.encoders.protocol import Encoder, Sample, prepare_batch
from mmrec.errors import DecoderLostError, DecodingError, EncoderError, MediaError, UnreachableError
from mmrec.sources.media_access import MediaAccess, content_hash
from mmrec.sources.rows import SeenIds
from mmrec.storage.quarantine import KnownFailures, Quarantined
from mmrec.storage.stored_item import StoredField, StoredItem
from mmrec.storage.vectors import VectorTable
from mmrec.types import Content, Field, Item, Modality, Space

MAX_CONSECUTIVE_FAILURES = 32
"""Contents that may fail one after the other, through no fault of theirs, before the encoder is held to be broken."""

ADVICE = "What was encoded before is kept; repair the encoder or its device, and run the same command again"

ContentKey = tuple[str, bytes]
"""Modality and hash of a content: the same bytes may be good audio and a bad image."""


@dataclass(frozen=True, slots=True)
class PreparedContent:
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
        prepared: Its contents that must be encoded.
        refused: Its contents that cannot be used.
        read: How many of its contents were read from where they lie.
        duplicates_in_flight: Contents that are encoded for another item in this run; refused later if they fail there.

    """

    item: StoredItem | None
    prepared: tuple[PreparedContent, ...]
    refused: tuple[Quarantined, ...]
    read: int
    duplicates_in_flight: tuple[Quarantined, ...] = ()


@dataclass(slots=True)
class _Work:
    """One content on its way through `Contents.examine`.

    Attributes:
        item: The item that it belongs to.
        content: As the source gave it.
        before: As the store has it under the same column and URI, if it has.
        stored: Its field for the table, once its hash is known.
        data: Its bytes, where they were needed.
        was_read: Whether it was read from where it lies.
        missing: Numbers of the encoders that have not encoded it into all their spaces.
        samples: What goes to these encoders; None where nothing does, or another item's equal content goes.
        refusal: Why it cannot be used, if so.

    """

    item: Item
    content: Field
    before: StoredField | None
    stored: StoredField | None = None
    data: bytes | None = None
    was_read: bool = False
    missing: tuple[int, ...] = ()
    samples: tuple[tuple[int, Sample], ...] | None = None
    refusal: "_Refusal | None" = None

    @property
    def key(self) -> tuple[Modality, bytes]:
        """What identifies it in this run."""
        assert self.stored is not None  # noqa: S101 -- only called once the content is hashed
        return self.content.modality, self.stored.hash or b""

    def entry(self, reason: str = "") -> Quarantined:
        """Its quarantine entry."""
        content, stored = self.content, self.stored
        digest, size, mtime_ns = (stored.hash, stored.size, stored.mtime_ns) if stored else (None, None, None)
        return Quarantined(
            *(self.item.row, self.item.id, content.column, reason, digest, content.uri, size, mtime_ns),
            modality=content.modality,
            where=self.item.where,
        )


@dataclass(frozen=True, slots=True)
class _Refusal:
    """Why a content cannot be used.

    Attributes:
        reason: One sentence.
        transient: Whether another run may have more luck.
        at: When it was found, if before this run.
        kept: The field of its earlier version, whose vectors stay in use meanwhile.

    """

    reason: str
    transient: bool = False
    at: datetime | None = None
    kept: StoredField | None = None


@dataclass
class Contents:
    """What is known of contents, shared by the threads of one job.

    Attributes:
        encoders: All encoders of the job, by number.
        tables: The vectors there are, by space.
        bad: Contents known to be unusable, and why.
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

    def examine(self, items: Sequence[tuple[Item, Mapping[tuple[str, str | None], StoredField]]]) -> list[Outcome]:
        """Find out what is new about items, each given with its fields as stored, by column and URI.

        Raises EncoderError where an encoder is broken, DecodingError where nothing can be decoded.
        """
        per_item = [
            [
                _Work(item, content, before.get((content.column, content.uri)) if before else None)
                for content in item.fields
                if content.modality in self.modalities
            ]
            for item, before in items
        ]
        works = [work for some in per_item for work in some]
        self._find_unchanged([work for work in works if _may_be_unchanged(work)])
        to_read = [work for work in works if work.stored is None]
        for work in to_read:
            self._read(work)
        self._find_missing([work for work in to_read if work.refusal is None])
        self._refuse_known([work for work in works if work.refusal is None])
        self._prepare([work for work in works if work.refusal is None and work.missing and work.data is not None])
        return [self._outcome(item, some) for (item, _), some in zip(items, per_item, strict=True)]

    def _find_unchanged(self, works: Sequence[_Work]) -> None:
        """Take up contents that need no reading: they are encoded, and have not changed where they lie."""
        candidates = [(work.content.modality, work.before.hash) for work in works if work.before and work.before.hash]
        bad = self.bad.of(candidates)
        for work, key, missing in zip(works, candidates, self._missing(candidates), strict=True):
            if missing and key not in bad:
                continue
            stamp = self.media.stat(work.content.uri or "")
            if stamp is not None and work.before and stamp.is_of(work.before.size, work.before.mtime_ns):
                work.stored, work.missing = work.before, missing

    def _read(self, work: _Work) -> None:
        """Read and hash a content."""
        content = work.content
        try:
            reading = self.media.take(content)
        except UnreachableError as error:
            work.refusal = self._unreachable(work, str(error))
        except MediaError as error:
            work.refusal = _Refusal(str(error))
        except Exception as error:  # noqa: BLE001 -- whatever a reader throws, other contents must live
            work.refusal = self._unexpected("read", error)
        else:
            size, changed = (reading.stamp.size, reading.stamp.changed) if reading.stamp else (None, None)
            digest = content_hash(reading.data)
            work.stored = StoredField(content.modality, content.column, digest, content.uri, size, changed)
            work.data, work.was_read = reading.data, content.uri is not None and content.data is None

    def _unreachable(self, work: _Work, reason: str) -> _Refusal:
        """Refuse a content that cannot be read now; its earlier vectors stay, and the item with them."""
        before = work.before
        if before and before.hash and not self._missing([(work.content.modality, before.hash)])[0]:
            return _Refusal(f"{reason} What was read of it before is kept.", transient=True, kept=before)
        return _Refusal(reason, transient=True)

    def _find_missing(self, works: Sequence[_Work]) -> None:
        for work, missing in zip(works, self._missing([work.key for work in works]), strict=True):
            work.missing = missing

    def _missing(self, keys: Sequence[tuple[Modality, bytes]]) -> list[tuple[int, ...]]:
        """Numbers of the encoders that have not encoded each content into all their spaces."""
        found: list[tuple[int, ...]] = [()] * len(keys)
        for modality in {modality for modality, _ in keys}:
            places = [place for place, (one, _) in enumerate(keys) if one == modality]
            hashes = [keys[place][1] for place in places]
            able = [number for number, encoder in enumerate(self.encoders) if modality in encoder.spaces]
            lacking = np.zeros((len(able), len(places)), dtype=bool)
            for row, number in enumerate(able):
                for space in self.encoders[number].spaces[modality]:
                    lacking[row] |= ~self.tables[space].has(hashes)
            combinations, which = np.unique(lacking, axis=1, return_inverse=True)
            numbers = [tuple(np.array(able, int)[one].tolist()) for one in combinations.T]
            for place, combination in zip(places, which.reshape(-1).tolist(), strict=True):
                found[place] = numbers[combination]
        return found

    def _refuse_known(self, works: Sequence[_Work]) -> None:
        """Refuse what quarantine knows to be unusable."""
        bad = self.bad.of([work.key for work in works])
        for work in works if bad else ():
            if entry := bad.get(work.key):
                work.refusal = _Refusal(entry.reason, at=entry.at)

    def _prepare(self, works: Sequence[_Work]) -> None:
        """Decode and preprocess contents that no one has encoded, and no one is about to."""
        with self._lock:
            claimed = [work for work in works if self._claimed.add_new(work.key)]
        decoded: dict[tuple[Modality, tuple[int, ...]], list[tuple[_Work, Content]]] = defaultdict(list)
        given = [(work.content.modality, work.data or b"") for work in claimed]
        for work, content in zip(claimed, decode_all_isolated(given, self.limits), strict=True):
            work.data = None
            if isinstance(content, Exception):
                work.refusal = self._refusal(content)
            else:
                decoded[work.content.modality, work.missing].append((work, content))
        for (modality, numbers), some in decoded.items():
            contents = [content for _, content in some]
            columns = [prepare_batch(self.encoders[number], modality, contents) for number in numbers]
            for (work, _), samples in zip(some, zip(*columns, strict=True), strict=True):
                errors = [one for one in samples if isinstance(one, Exception)]
                if errors:
                    work.refusal = self._refusal(errors[0])
                else:
                    self._failures_in_a_row = 0
                    work.samples = tuple(zip(numbers, samples, strict=True))

    def _refusal(self, error: Exception) -> _Refusal:
        """Why a content that could not be decoded or preprocessed is refused; errors of the job itself are raised."""
        if isinstance(error, MediaError):
            return _Refusal(str(error), transient=isinstance(error, DecoderLostError))
        if isinstance(error, EncoderError | DecodingError):
            raise error
        return self._unexpected("prepared", error)

    def _unexpected(self, what: str, error: Exception) -> _Refusal:
        """Refuse a content for an unexpected error, to be tried again. Raises EncoderError after many in a row."""
        reason = f"It could not be {what}: {type(error).__name__}: {error}"[:200]
        with self._lock:
            self._failures_in_a_row += 1
            if self._failures_in_a_row >= MAX_CONSECUTIVE_FAILURES:
                raise EncoderError(
                    f"{MAX_CONSECUTIVE_FAILURES} contents in a row failed, the last with: {reason} {ADVICE}"
                ) from error
        return _Refusal(reason, transient=True)

    def _outcome(self, item: Item, works: Sequence[_Work]) -> Outcome:
        remaining = iter(works)
        stored: list[StoredField] = []
        prepared: list[PreparedContent] = []
        refused: list[Quarantined] = []
        duplicates: list[Quarantined] = []
        is_kept = False
        for content in item.fields:
            if content.modality not in self.modalities:
                stored.append(StoredField(content.modality, content.column, None, content.uri))
                continue
            work = next(remaining)
            if work.stored is not None:
                stored.append(work.stored)
            if work.refusal is not None:
                if work.refusal.kept is not None:
                    stored.append(work.refusal.kept)
                    is_kept = True
                entry = work.entry(work.refusal.reason)
                refused.append(replace(entry, at=work.refusal.at, transient=work.refusal.transient))
            elif work.samples is not None:
                prepared.append(PreparedContent(work.key[1], content.modality, work.samples, work.entry()))
            elif work.missing:
                duplicates.append(work.entry())
        usable = is_kept or len(refused) < len(item.fields)
        row = _stored_item(item, stored) if usable else None
        read = sum(work.was_read for work in works)
        return Outcome(row, tuple(prepared), tuple(refused), read, tuple(duplicates))


def _may_be_unchanged(work: _Work) -> bool:
    """Whether the stamp of a file can tell that a content is what it was."""
    return bool(work.before and work.before.hash and work.content.uri and work.content.data is None)


def key_of(entry: Quarantined) -> ContentKey:
    """The key of the content that an entry is about."""
    return entry.modality or "", entry.hash or b""


_JSON: Final = json.JSONEncoder(default=str, sort_keys=True)


def _stored_item(item: Item, fields: list[StoredField]) -> StoredItem:
    text = next((content.text for content in item.fields if content.text is not None), None)
    described = [item.id, text, dict(item.metadata), [_described(kept) for kept in fields]]
    digest = hashlib.blake2b(_JSON.encode(described).encode(), digest_size=16).digest()
    return StoredItem(item.id, digest, text, tuple(fields), item.metadata)


def _described(kept: StoredField) -> list[str]:
    """A field in the words of the digest of its item, which stores of all times share."""
    content = kept.hash.hex() if kept.hash else ""
    return [str(kept.modality), kept.column, content, str(kept.uri), str(kept.size), str(kept.mtime_ns)]


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
