"""The embedding job beside the encoder alone, over contents of one modality."""

import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.report import WORK
from mmrec.compute import decoding_workers
from mmrec.decoding.decode import decode
from mmrec.embedding.encoding import Bucket, Pending
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.protocol import Encoder, Sample
from mmrec.errors import MediaError
from mmrec.sources.media_access import content_hash
from mmrec.storage.layout import Layout
from mmrec.storage.quarantine import Quarantined
from mmrec.storage.vectors import VectorTable
from mmrec.types import Field, Item, Modality

__all__ = ["Contents", "Measured", "compared", "end_to_end", "stored_vectors"]

STORE = WORK / "embed-store"


@dataclass(frozen=True, slots=True)
class Contents:
    """Distinct contents of one modality: texts, or paths of media files."""

    modality: Modality
    given: Sequence[str]

    def items(self) -> Iterable[Item]:
        """One item each, not yet read."""
        for number, content in enumerate(self.given):
            how = {"text": content} if self.modality is Modality.TEXT else {"uri": content}
            yield Item(str(number), (Field(self.modality, "content", **how),), {}, number)

    def data(self) -> Iterable[bytes]:
        """The bytes of each."""
        for content in self.given:
            yield content.encode() if self.modality is Modality.TEXT else Path(content).read_bytes()


@dataclass(frozen=True, slots=True)
class Measured:
    """What was found: how many could be encoded, and seconds; the best of several rounds each."""

    count: int
    preparing: float
    forward: float
    whole: float

    @property
    def ratio(self) -> float:
        """Rate of the whole job over that of the encoder alone."""
        return self.forward / self.whole


def compared(contents: Contents, encoder: Encoder, rounds: int) -> Measured:
    """Measure the encoder alone and the whole job in turn; the decoders' processes are warm, as the encoder is."""
    started = time.perf_counter()
    samples = list(_prepared(contents, encoder))
    preparing = time.perf_counter() - started
    batches = _batches(encoder, samples)
    _forward(encoder, contents.modality, batches[-2:])
    end_to_end(Contents(contents.modality, contents.given[:8]), encoder)
    times = [(_forward(encoder, contents.modality, batches), end_to_end(contents, encoder)) for _ in range(rounds)]
    forward, whole = (min(column) for column in zip(*times, strict=True))
    return Measured(len(samples), preparing, forward, whole)


def end_to_end(contents: Contents, encoder: Encoder) -> float:
    """Seconds of the whole job into an empty store: read, decode, prepare, encode, write."""
    layout = Layout(STORE)
    shutil.rmtree(layout.root, ignore_errors=True)
    layout.create()
    started = time.perf_counter()
    job = EmbeddingJob(layout, [encoder], decoding_workers(), modalities=frozenset({contents.modality}))
    job.run(contents.items(), pa.schema([]))
    return time.perf_counter() - started


def stored_vectors(contents: Contents, encoder: Encoder) -> tuple[np.ndarray, np.ndarray]:
    """Which contents the last job has encoded, and their vectors."""
    (space,) = encoder.spaces[contents.modality]
    return VectorTable(Layout(STORE).vectors(space), space).fetch([content_hash(data) for data in contents.data()])


def _prepared(contents: Contents, encoder: Encoder) -> Iterable[Sample]:
    seen = set()
    for data in contents.data():
        if data not in seen:
            seen.add(data)
            try:
                yield encoder.prepare(contents.modality, decode(contents.modality, data))
            except MediaError:
                continue


def _batches(encoder: Encoder, samples: Sequence[Sample]) -> list[list[Sample]]:
    bucket = Bucket(encoder.batch_cost)
    for sample in samples:
        bucket.add(Pending(b"", sample, Quarantined(0, None, "", "")))
    return [[pending.sample for pending in batch] for batch in bucket.last_batches()]


def _forward(encoder: Encoder, modality: Modality, batches: Sequence[Sequence[Sample]]) -> float:
    started = time.perf_counter()
    for batch in batches:
        encoder.encode(modality, batch)
    return time.perf_counter() - started
