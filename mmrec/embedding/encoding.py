"""Prepared samples through the encoders and on to the store, a batch at a time."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from mmrec.embedding.batches import Bucket, Pending
from mmrec.embedding.contents import HOPELESS, MEND, Fresh
from mmrec.embedding.writer import VectorWriter
from mmrec.encoders.protocol import Encoder, Vectors
from mmrec.errors import EncoderError
from mmrec.modality import Modality
from mmrec.store.quarantine import Quarantined

__all__ = ["Encoding"]

NOT_FINITE = "The encoder gave numbers that are not finite."


class Encoding:
    """Waiting samples of all encoders, and what becomes of them.

    Where a batch fails, each of its contents is encoded alone, so that only the guilty one is left out.
    """

    def __init__(
        self,
        encoders: Sequence[Encoder],
        writer: VectorWriter,
        done: Callable[[Quarantined], None],
        failed: Callable[[Quarantined], None],
    ) -> None:
        """Report each content that was encoded to `done`, and each that could not be to `failed`, by its entry."""
        self._encoders = encoders
        self._writer = writer
        self._done = done
        self._failed = failed
        self._failures_in_a_row = 0
        self._buckets = {
            (number, modality): Bucket(encoder.batch_cost)
            for number, encoder in enumerate(encoders)
            for modality in encoder.spaces
        }

    def add(self, fresh: Fresh) -> None:
        """Queue a content for the encoders that lack it."""
        for number, sample in fresh.samples:
            self._buckets[number, fresh.modality].add(Pending(fresh.hash, sample, fresh.blame))

    @property
    def has_waiting(self) -> bool:
        """Whether `encode_rest` would encode anything."""
        return any(bucket.hashes for bucket in self._buckets.values())

    @property
    def has_full_batch(self) -> bool:
        """Whether `encode_full_batches` would encode anything."""
        return any(bucket.is_full for bucket in self._buckets.values())

    def drop_stored(self) -> set[tuple[Modality, bytes]]:
        """Let go of contents that wait here and that others have encoded and stored meanwhile. Returns them."""
        dropped: set[tuple[Modality, bytes]] = set()
        for (number, modality), bucket in self._buckets.items():
            hashes = bucket.hashes
            spaces = self._encoders[number].spaces[modality] if hashes else ()
            stored = [self._writer.has(space, hashes) for space in spaces]
            there = np.logical_and.reduce(stored).tolist() if stored else []
            for pending in bucket.drop({content for content, has in zip(hashes, there, strict=True) if has}):
                self._done(pending.blame)
                dropped.add((modality, pending.hash))
        waiting = {(modality, content) for (_, modality), bucket in self._buckets.items() for content in bucket.hashes}
        return dropped - waiting

    def encode_full_batches(self) -> None:
        """Encode what exceeds the windows. Raises EncoderError where nothing succeeds any more."""
        for (number, modality), bucket in self._buckets.items():
            for batch in bucket.full_batches():
                self._encode(number, modality, batch)

    def encode_rest(self) -> None:
        """Encode everything that waits. Raises EncoderError where nothing succeeds any more."""
        for (number, modality), bucket in self._buckets.items():
            for batch in bucket.last_batches():
                self._encode(number, modality, batch)

    def _encode(self, number: int, modality: Modality, batch: list[Pending]) -> None:
        try:
            vectors = self._encoders[number].encode(modality, [pending.sample for pending in batch])
        except EncoderError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever an encoder throws, its other contents must live
            if len(batch) > 1:
                for pending in batch:
                    self._encode(number, modality, [pending])
            else:
                reason = f"The encoder failed: {_first_line(error)}"
                self._refuse(replace(batch[0].blame, reason=reason, transient=True), error)
        else:
            self._keep(number, modality, batch, vectors)

    def _keep(self, number: int, modality: Modality, batch: list[Pending], vectors: Vectors) -> None:
        """Hand over vectors that are finite."""
        spaces = self._encoders[number].spaces[modality]
        for space in spaces:
            got = np.shape(vectors.get(space.name, ()))
            if got != (len(batch), space.dim):
                raise EncoderError(
                    f"{type(self._encoders[number]).__name__} gave an array of shape {got} for {len(batch)} {modality} "
                    f"contents in space {space.name!r}, where {(len(batch), space.dim)} was due. {MEND}"
                )
        finite = np.logical_and.reduce([np.isfinite(vectors[space.name]).all(axis=1) for space in spaces])
        kept = [pending for pending, good in zip(batch, finite.tolist(), strict=True) if good]
        for space in spaces:
            self._writer.write(space, [pending.hash for pending in kept], vectors[space.name][finite])
        for pending in kept:
            self._failures_in_a_row = 0
            self._done(pending.blame)
        for place in np.flatnonzero(~finite).tolist():
            self._refuse(replace(batch[place].blame, reason=NOT_FINITE), None)

    def _refuse(self, entry: Quarantined, cause: Exception | None) -> None:
        self._failures_in_a_row += 1
        self._failed(entry)
        if self._failures_in_a_row >= HOPELESS:
            raise EncoderError(
                f"{HOPELESS} contents in a row could not be encoded, the last with: {entry.reason} {MEND}"
            ) from cause


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
