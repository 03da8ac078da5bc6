"""A catalog into a store: embed what is new, then build and publish the generation that answers with it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from indexers.types import IndexSpec
from mmrec.compute import decoding_workers
from mmrec.embedding.job import EmbeddingJob
from mmrec.embedding.tally import Tally
from mmrec.encoders.protocol import Encoder
from mmrec.generation.build import Recipe, build_generation, follows
from mmrec.generation.generation import Generation, open_generation
from mmrec.items import Item, Reject
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.declared import declared_spaces
from mmrec.store.generations import Manifest, current
from mmrec.store.items import ItemTable
from mmrec.store.layout import Layout
from mmrec.store.lock import job_lock

__all__ = ["Indexing", "index_items"]


@dataclass(frozen=True, slots=True)
class Indexing:
    """How a catalog is taken in.

    Attributes:
        encoder_source: Preset or config file of the encoders, written into the manifest for the reader.
        weights: Weight of each modality; None keeps those of the store, or 1 each for a new one.
        keep_missing: Keep items that the source no longer has.
        prune: Let the source remove more than half of the items.
        retry: Read again what is in quarantine, though it has not changed; items that are not given stay.
        refit: Fit centring and projection anew.
        dim: Most dimensions of an item vector.
        index: Index recipe; chosen by size where None.
        report: Called with the running tally.

    """

    encoder_source: str = "packaged"
    weights: Mapping[Modality, float] | None = None
    keep_missing: bool = False
    prune: bool = False
    retry: bool = False
    refit: bool = False
    dim: int = 512
    index: IndexSpec | None = None
    report: Callable[[Tally], None] = field(default=lambda _: None)


def index_items(
    source: Iterable[Item | Reject], metadata: pa.Schema, layout: Layout, encoders: Sequence[Encoder], how: Indexing
) -> tuple[Tally, Manifest]:
    """Bring a store in line with a source. Returns what was done and the generation that is now current.

    A generation is published only where something changed. What others change while the source is read is newer than
    it and stays until the next run. Raises StoreBusyError where another job is at work on the store, StoreError where
    the store or a check of the new generation fails, UsageError where metadata or weights do not fit.
    """
    layout.create()
    with job_lock(layout.job_lock):
        return _index(source, metadata, layout, encoders, how)


def _index(
    source: Iterable[Item | Reject], metadata: pa.Schema, layout: Layout, encoders: Sequence[Encoder], how: Indexing
) -> tuple[Tally, Manifest]:
    before = _current_generation(layout)
    weights = _weights(how, before)
    del before  # a night may pass, and another index be published
    counted = frozenset(modality for modality in Modality if weights[modality] > 0)
    job = EmbeddingJob(
        layout,
        encoders,
        decoding_workers(),
        report=how.report,
        keep_missing=how.keep_missing or how.retry,
        modalities=counted,
        prune=how.prune,
        retry=how.retry,
        yields=True,
    )
    tally = job.run(source, metadata)
    recipe = Recipe(_spaces(encoders, layout), weights, how.encoder_source, how.dim, how.index)
    before = _current_generation(layout)
    if before is not None and not how.refit and follows(before, recipe, ItemTable(layout.items)):
        return tally, before.manifest
    return tally, build_generation(layout, recipe, before, refit=how.refit)


def _current_generation(layout: Layout) -> Generation | None:
    number = current(layout)
    return None if number is None else open_generation(layout, number)


def _weights(how: Indexing, before: Generation | None) -> dict[Modality, float]:
    kept = before.manifest.weights if before is not None else {}
    given = how.weights if how.weights is not None else {Modality(name): weight for name, weight in kept.items()}
    return {modality: float(given.get(modality, 1.0)) for modality in Modality}


def _spaces(encoders: Sequence[Encoder], layout: Layout) -> dict[Modality, tuple[Space, ...]]:
    """The spaces of the encoders, and those of imported vectors."""
    imported = declared_spaces(layout)
    return {
        modality: tuple(
            dict.fromkeys(
                [space for encoder in encoders for space in encoder.spaces.get(modality, ())]
                + list(imported.get(modality, ()))
            )
        )
        for modality in Modality
    }
