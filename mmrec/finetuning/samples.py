"""Prepared contents for the towers: stored vectors, or media that are read, decoded and cached."""

from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import compress
from threading import Lock
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float32, Int64

from mmrec.compute import decoding_workers
from mmrec.decoding.isolated import decode_isolated
from mmrec.embedding.prefetch import prefetch_ordered
from mmrec.encoders.protocol import Sample
from mmrec.errors import MediaError
from mmrec.finetuning.towers import ContentTower
from mmrec.sources.media_access import MediaAccess, content_hash


class ContentLocation(NamedTuple):
    """A text itself, or the URI of a media file; neither where the store no longer has a text."""

    text: str | None = None
    uri: str | None = None


@runtime_checkable
class Samples(Protocol):
    """The contents of one modality of a corpus, prepared for its tower."""

    costs: Int64[np.ndarray, " contents"]
    """`Sample.cost` of each content."""
    held: int
    """Bytes of prepared contents that are in memory."""

    def take(self, places: Int64[np.ndarray, " n"]) -> Sequence[Sample]:
        """Return some contents. Raises MediaError where one can no longer be read."""

    def expect(self, places: Int64[np.ndarray, " n"]) -> None:
        """Start to prepare contents that are needed soon."""


class VectorSamples:
    """Stored vectors as samples, for heads; one a content, in the order of the corpus."""

    def __init__(self, vectors: Float32[np.ndarray, "n dim"]) -> None:
        self.vectors = vectors
        self.costs = np.ones(len(vectors), dtype=np.int64)
        self.held = vectors.nbytes

    def take(self, places: Int64[np.ndarray, " n"]) -> Sequence[Sample]:
        """Return some vectors."""
        return [Sample(row, cost=1) for row in torch.from_numpy(self.vectors[places])]

    def expect(self, places: Int64[np.ndarray, " n"]) -> None:
        """Do nothing: all vectors are in memory."""


class MediaSamples:
    """Contents of one modality: texts, or media files that are read, decoded and cached."""

    def __init__(
        self,
        tower: ContentTower,
        places: Sequence[ContentLocation],
        hashes: Sequence[bytes],
        media: MediaAccess,
        memory: int,
    ) -> None:
        """Prepare contents for a tower when they are needed; those of other hashes are refused.

        `memory` is the number of bytes of prepared contents that are cached.
        """
        self._tower, self._places, self._hashes, self._media, self._memory = tower, places, hashes, media, memory
        self.costs = np.zeros(len(hashes), dtype=np.int64)
        self._kept: OrderedDict[int, Sample] = OrderedDict()
        self.held = 0
        """Bytes of prepared contents that are in memory."""
        self._lock = Lock()
        self._pool = ThreadPoolExecutor(media.workers(decoding_workers()), thread_name_prefix="mmrec-prepare")
        self._coming: dict[int, Future[Sample]] = {}
        self.fault: str | None = None
        """The error of the first content that cannot be used."""

    def drop_unusable(self) -> Bool[np.ndarray, " contents"]:
        """Read all once, keep those that can be used, numbered anew, and return which those are."""

        def read(place: int) -> tuple[tuple[int, Sample | MediaError], int]:
            try:
                sample = self._prepare(place)
            except MediaError as error:
                return (place, error), 0
            return (place, sample), sample.tensor.nbytes

        usable = np.zeros(len(self._places), dtype=bool)
        tasks = ((place, 0) for place in range(len(self._places)))
        for place, sample in prefetch_ordered(tasks, read, self._media.workers(decoding_workers())):
            if isinstance(sample, MediaError):
                self.fault = self.fault or f"{self._named(place)}: {sample}"
                continue
            usable[place], self.costs[place] = True, sample.cost
            self._keep(place, sample)
        numbers = (np.cumsum(usable) - 1).tolist()
        self._kept = OrderedDict((numbers[place], sample) for place, sample in self._kept.items())
        self._places, self._hashes = list(compress(self._places, usable)), list(compress(self._hashes, usable))
        self.costs = self.costs[usable]
        return usable

    def take(self, places: Int64[np.ndarray, " n"]) -> Sequence[Sample]:
        """Return some contents. Raises MediaError where one can no longer be read."""
        self.expect(places)
        return [self._taken(place) for place in places.tolist()]

    def expect(self, places: Int64[np.ndarray, " n"]) -> None:
        """Start to prepare those that are not cached."""
        for place in places.tolist():
            if place not in self._kept and place not in self._coming:
                self._coming[place] = self._pool.submit(self._prepare, place)

    def _taken(self, place: int) -> Sample:
        if place in self._kept:
            self._kept.move_to_end(place)
            return self._kept[place]
        coming = self._coming.pop(place, None)
        try:
            sample = self._prepare(place) if coming is None else coming.result()
        except MediaError as error:
            raise MediaError(
                f"{self._named(place)}: {error} It could be used at first; put it back and give the same command again."
            ) from error
        self._keep(place, sample)
        return sample

    def _keep(self, place: int, sample: Sample) -> None:
        with self._lock:
            self._kept[place] = sample
            self.held += sample.tensor.nbytes
            while self.held > self._memory and self._kept:
                self.held -= self._kept.popitem(last=False)[1].tensor.nbytes

    def _named(self, place: int) -> str:
        """Name a content in an error message."""
        return self._places[place].uri or f"the {self._tower.modality} {self._hashes[place].hex()}"

    def _prepare(self, place: int) -> Sample:
        text, uri = self._places[place]
        if text is not None:
            return self._tower.prepare(text)
        if uri is None:
            raise MediaError("The store does not have this text; index its source again with one text column.")
        data = self._media.read(uri)
        if content_hash(data) != self._hashes[place]:
            raise MediaError(f"{uri} has changed since it was indexed; index its source again.")
        return self._tower.prepare(decode_isolated(self._tower.modality, data, self._media.limits))
