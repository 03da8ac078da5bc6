"""Encode contents in batches of similar cost, several under way at once, and write their vectors."""

import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from random import Random
from threading import Lock

import numpy as np
from jaxtyping import Bool, Float32

from mmrec.embedding.contents import ADVICE, MAX_CONSECUTIVE_FAILURES, PreparedContent
from mmrec.encoders.protocol import AsynchronousEncoder, Encoder, Sample, Vectors
from mmrec.errors import EncoderError
from mmrec.storage.layout import Layout
from mmrec.storage.lock import JOB_WAIT_SECONDS, file_lock
from mmrec.storage.quarantine import Quarantined
from mmrec.storage.vectors import VectorAppender, VectorTable
from mmrec.types import Modality, Space

WINDOW_BATCHES = 16
WINDOW_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Pending:
    """A prepared sample that waits for its batch, and what to put into quarantine should encoding it fail."""

    hash: bytes
    sample: Sample
    on_failure: Quarantined


class Bucket:
    """A bounded window of pending samples of one encoder and modality, kept in order of cost.

    A batch is a contiguous slice of that order, taken at a random position, so that neither short nor long samples
    pile up in the window.
    """

    def __init__(self, batch_cost: int, seed: int = 0) -> None:
        self._batch_cost = batch_cost
        self._random = Random(seed)  # noqa: S311 -- order of work, not a secret
        self._window: list[Pending] = []
        self._is_ordered = True
        self._cost = 0
        self._bytes = 0

    def add(self, pending: Pending) -> None:
        """Put a sample into the window."""
        self._window.append(pending)
        self._is_ordered = False
        self._cost += pending.sample.cost
        self._bytes += pending.sample.tensor.nbytes

    @property
    def is_full(self) -> bool:
        """Whether `full_batches` would give one."""
        return self._is_full_and_uniform or self._is_above_bounds

    def drop(self, hashes: Collection[bytes]) -> list[Pending]:
        """Take the samples of these contents out, not to be encoded."""
        dropped = [pending for pending in self._window if pending.hash in hashes]
        self._window = [pending for pending in self._window if pending.hash not in hashes]
        self._forget(dropped)
        return dropped

    @property
    def hashes(self) -> list[bytes]:
        """The contents that wait."""
        return [pending.hash for pending in self._window]

    def full_batches(self) -> Iterator[list[Pending]]:
        """Take batches until the window is below its bounds; where all cost the same, each as soon as it is full."""
        self._order()
        while self._is_full_and_uniform:
            yield self._take(len(self._window) - 1)
        while self._is_above_bounds:
            yield self._take(self._random.randrange(len(self._window)))

    def last_batches(self) -> Iterator[list[Pending]]:
        """Empty the window, the most costly first."""
        self._order()
        while self._window:
            yield self._take(len(self._window) - 1)

    @property
    def _is_above_bounds(self) -> bool:
        return self._cost > WINDOW_BATCHES * self._batch_cost or self._bytes > WINDOW_BYTES

    @property
    def _is_full_and_uniform(self) -> bool:
        """Whether waiting for others of like cost is of no use."""
        if self._cost < self._batch_cost:
            return False
        self._order()
        return self._window[0].sample.cost == self._window[-1].sample.cost

    def _order(self) -> None:
        if not self._is_ordered:
            self._window.sort(key=lambda pending: pending.sample.cost)
            self._is_ordered = True

    def _take(self, last: int) -> list[Pending]:
        """Take the batch whose most costly sample is at `last`; it fills up downwards."""
        widest = self._window[last].sample.cost
        count = min(max(1, self._batch_cost // max(widest, 1)), len(self._window))
        first = max(0, last + 1 - count)
        batch = self._window[first : last + 1]
        del self._window[first : last + 1]
        self._forget(batch)
        return batch

    def _forget(self, taken: list[Pending]) -> None:
        self._cost -= sum(pending.sample.cost for pending in taken)
        self._bytes -= sum(pending.sample.tensor.nbytes for pending in taken)


FLUSH_BYTES = 32 * 1024 * 1024
FLUSH_SECONDS = 10.0


class VectorWriter:
    """Gathers vectors by space and commits them in large pieces; what is flushed survives any accident.

    Commits are made in a thread of its own, one at a time. Of a content that has a vector in a space by then, from
    this job or another, that one stays as it is.
    """

    def __init__(self, layout: Layout, seen: Mapping[Space, VectorTable]) -> None:
        """`seen` has the tables as they were read before, so that their keys are not read again."""
        self._layout = layout
        self._seen = seen
        self._appenders: dict[Space, VectorAppender] = {}
        self._pending: dict[Space, list[tuple[list[bytes], np.ndarray]]] = {}
        self._bytes = 0
        self._flushed = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="mmrec-write")
        self._commit: Future[None] | None = None

    def write(self, space: Space, hashes: Sequence[bytes], vectors: Float32[np.ndarray, "n dim"]) -> None:
        """Take vectors of contents; they are on disk after the next flush. Raises StoreError where the last failed."""
        if not len(hashes):
            return
        halves = vectors.astype(np.float16)
        self._pending.setdefault(space, []).append((list(hashes), halves))
        self._bytes += halves.nbytes
        if self._bytes >= FLUSH_BYTES or time.monotonic() - self._flushed >= FLUSH_SECONDS:
            self._begin_commit()

    def has(self, space: Space, hashes: Sequence[bytes]) -> Bool[np.ndarray, " n"]:
        """Which contents have a vector in the store by now."""
        self._await_commit()
        return self._appender(space).has(hashes)

    def flush(self) -> None:
        """Commit everything taken so far. Raises StoreError where that fails."""
        self._begin_commit()
        self._await_commit()

    def close(self) -> None:
        """Flush, and end the thread."""
        try:
            self.flush()
        finally:
            self._thread.shutdown()

    def _begin_commit(self) -> None:
        self._await_commit()
        pending, self._pending, self._bytes = self._pending, {}, 0
        self._flushed = time.monotonic()
        if pending:
            self._commit = self._thread.submit(self._append, pending)

    def _await_commit(self) -> None:
        commit, self._commit = self._commit, None
        if commit is not None:
            commit.result()

    def _append(self, pending: dict[Space, list[tuple[list[bytes], np.ndarray]]]) -> None:
        while pending:
            space, parts = pending.popitem()
            hashes = [content for part, _ in parts for content in part]
            with file_lock(self._layout.lock, JOB_WAIT_SECONDS):
                self._appender(space).append(hashes, np.concatenate([part for _, part in parts]))

    def _appender(self, space: Space) -> VectorAppender:
        if space not in self._appenders:
            self._appenders[space] = VectorAppender(self._layout.vectors(space), space, self._seen.get(space))
        return self._appenders[space]


NOT_FINITE = "The encoder gave numbers that are not finite."
MOST_RUNNING = 4
"""Batches that are on their way through the encoders, or encoded and not yet collected."""


@dataclass(frozen=True, slots=True)
class _Running:
    """A batch on its way through its encoder."""

    number: int
    modality: Modality
    batch: list[Pending]
    vectors: Future[Vectors]


class Encoding:
    """Batches the samples of all encoders, encodes them and writes their vectors.

    Encoders run in threads of their own, so that a device has its next batch while results are collected and further
    contents are prepared. An encoder that can `submit` has its next batch before the last is done; of others one batch
    is encoded at a time. Results are collected in the order of the batches, by the thread that calls the methods here.
    Where a batch fails, each of its contents is encoded alone, so that only the ones that fail are left out.
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
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="mmrec-encode")
        self._one_at_a_time = Lock()
        self._running: deque[_Running] = deque()

    def close(self) -> None:
        """End the threads: batches that have not begun are dropped, vectors of those that are done are kept."""
        self._threads.shutdown(cancel_futures=True)
        for one in self._running:
            if not one.vectors.cancelled() and one.vectors.exception() is None:
                with suppress(EncoderError):  # one is on its way already
                    self._keep(one.number, one.modality, one.batch, one.vectors.result())

    def add(self, prepared: PreparedContent) -> None:
        """Queue a content for the encoders that lack it."""
        for number, sample in prepared.samples:
            self._buckets[number, prepared.modality].add(Pending(prepared.hash, sample, prepared.on_failure))

    @property
    def has_pending(self) -> bool:
        """Whether `encode_rest` would encode anything."""
        return any(bucket.hashes for bucket in self._buckets.values())

    @property
    def has_full_batch(self) -> bool:
        """Whether `encode_full_batches` would encode anything."""
        return any(bucket.is_full for bucket in self._buckets.values())

    def drop_stored(self) -> set[tuple[Modality, bytes]]:
        """Drop waiting contents that others have encoded and stored meanwhile. Returns them."""
        dropped: set[tuple[Modality, bytes]] = set()
        for (number, modality), bucket in self._buckets.items():
            hashes = bucket.hashes
            spaces = self._encoders[number].spaces[modality] if hashes else ()
            stored = [self._writer.has(space, hashes) for space in spaces]
            there = np.logical_and.reduce(stored).tolist() if stored else []
            for pending in bucket.drop({content for content, has in zip(hashes, there, strict=True) if has}):
                self._done(pending.on_failure)
                dropped.add((modality, pending.hash))
        waiting = {(modality, content) for (_, modality), bucket in self._buckets.items() for content in bucket.hashes}
        return dropped - waiting

    def encode_full_batches(self) -> None:
        """Have what exceeds the windows encoded. Raises EncoderError where nothing succeeds any more."""
        for (number, modality), bucket in self._buckets.items():
            for batch in bucket.full_batches():
                self._start(number, modality, batch)
        self.collect()

    def encode_rest(self) -> None:
        """Have everything that waits encoded, and collect it. Raises EncoderError where nothing succeeds any more."""
        for (number, modality), bucket in self._buckets.items():
            for batch in bucket.last_batches():
                self._start(number, modality, batch)
        self.collect(leave=0)

    def collect(self, leave: int = MOST_RUNNING) -> None:
        """Write the vectors of batches that are done; wait until at most `leave` are not. Raises EncoderError."""
        while self._running and (len(self._running) > leave or self._running[0].vectors.done()):
            one = self._running.popleft()
            try:
                vectors = one.vectors.result()
            except Exception as error:  # noqa: BLE001 - whatever an encoder throws, its other contents must live
                self._encode_singly(one, error)
            else:
                self._keep(one.number, one.modality, one.batch, vectors)

    def _start(self, number: int, modality: Modality, batch: list[Pending]) -> None:
        self.collect(leave=MOST_RUNNING - 1)
        samples = [pending.sample for pending in batch]
        self._running.append(
            _Running(number, modality, batch, self._threads.submit(self._encode, number, modality, samples))
        )

    def _encode(self, number: int, modality: Modality, samples: list[Sample]) -> Vectors:
        encoder = self._encoders[number]
        with self._one_at_a_time:
            if not isinstance(encoder, AsynchronousEncoder):
                return encoder.encode(modality, samples)
            fetch = encoder.submit(modality, samples)
        return fetch()

    def _encode_singly(self, failed: _Running, error: Exception) -> None:
        if isinstance(error, EncoderError):
            raise error
        if len(failed.batch) == 1:
            reason = f"The encoder failed: {_first_line(error)}"
            self._refuse(replace(failed.batch[0].on_failure, reason=reason, transient=True), error)
            return
        for pending in failed.batch:
            try:
                vectors = self._encode(failed.number, failed.modality, [pending.sample])
            except Exception as single:  # noqa: BLE001 - as above
                self._encode_singly(replace(failed, batch=[pending]), single)
            else:
                self._keep(failed.number, failed.modality, [pending], vectors)

    def _keep(self, number: int, modality: Modality, batch: list[Pending], vectors: Vectors) -> None:
        """Hand over vectors that are finite."""
        spaces = self._encoders[number].spaces[modality]
        for space in spaces:
            got = np.shape(vectors.get(space.name, ()))
            if got != (len(batch), space.dim):
                raise EncoderError(
                    f"{type(self._encoders[number]).__name__} gave an array of shape {got} for {len(batch)} {modality} "
                    f"contents in space {space.name!r}, where {(len(batch), space.dim)} was due. {ADVICE}"
                )
        finite = np.logical_and.reduce([np.isfinite(vectors[space.name]).all(axis=1) for space in spaces])
        kept = [pending for pending, good in zip(batch, finite.tolist(), strict=True) if good]
        for space in spaces:
            self._writer.write(space, [pending.hash for pending in kept], vectors[space.name][finite])
        for pending in kept:
            self._failures_in_a_row = 0
            self._done(pending.on_failure)
        for place in np.flatnonzero(~finite).tolist():
            self._refuse(replace(batch[place].on_failure, reason=NOT_FINITE), None)

    def _refuse(self, entry: Quarantined, cause: Exception | None) -> None:
        self._failures_in_a_row += 1
        self._failed(entry)
        if self._failures_in_a_row >= MAX_CONSECUTIVE_FAILURES:
            raise EncoderError(
                f"{MAX_CONSECUTIVE_FAILURES} contents in a row could not be encoded, "
                f"the last with: {entry.reason} {ADVICE}"
            ) from cause


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0][:160]}"
