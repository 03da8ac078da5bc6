"""A catalog into a store: embed what is new, then build and publish the generation that answers with it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import pyarrow as pa

from indexers.types import IndexSpec
from mmrec.compute import decoding_workers
from mmrec.embedding.derived import write_derived
from mmrec.embedding.job import EmbeddingJob
from mmrec.embedding.tally import Tally
from mmrec.encoders.protocol import Encoder
from mmrec.generation.build import build_generation, follows, keeps_fusion
from mmrec.generation.generation import Generation, open_generation
from mmrec.generation.recipe import Recipe, check_choice, chosen_before
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.declared import declared_spaces
from mmrec.storage.generations import Manifest, current
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import job_lock
from mmrec.trust import remember
from mmrec.types import Item, Modality, Reject, Removal, Space

__all__ = ["Indexing", "index_items", "loses_tower", "spaces_of"]


@dataclass(frozen=True, slots=True)
class Indexing:
    """How a catalog is taken in.

    Attributes:
        encoder_source: Preset, models, folder or config file of the encoders, written into the manifest. That this user
            named a folder for this store is kept, so that it opens with it.
        weights: Weight of each modality; None keeps those of the store. An empty mapping, as of a new store: 1 each,
            times how far the catalog's items agree with each by their texts.
        keep_missing: Keep items that the source no longer has.
        delta: Take the source for changes alone: what it does not name stays as it is.
        prune: Let the source remove more than half of the items.
        retry: Read again what is in quarantine, though it has not changed; items that are not given stay.
        refit: Fit centring and projection anew.
        dim: Most dimensions of an item vector.
        index: Index recipe; None keeps what a person chose for the store before, else it is chosen by size and memory.
        index_memory: The most bytes that a chosen index may take; None keeps what the store has, else no limit.
        choose_index: Forget the recipe and the limit that the store has.
        media: How contents are read.
        report: Called with the running tally.

    """

    encoder_source: str = "packaged"
    weights: Mapping[Modality, float] | None = None
    keep_missing: bool = False
    delta: bool = False
    prune: bool = False
    retry: bool = False
    refit: bool = False
    dim: int = 512
    index: IndexSpec | None = None
    index_memory: int | None = None
    choose_index: bool = False
    media: MediaAccess = field(default_factory=MediaAccess)
    report: Callable[[Tally], None] = field(default=lambda _: None)


def index_items(
    source: Iterable[Item | Removal | Reject],
    metadata: pa.Schema,
    layout: Layout,
    encoders: Sequence[Encoder],
    how: Indexing,
) -> tuple[Tally, Manifest]:
    """Bring a store in line with a source. Returns what was done and the generation that is now current.

    A generation is published only where something changed. What others change while the source is read is newer than
    it and stays until the next run. Raises StoreBusyError where another job is at work on the store, StoreError where
    the store or a check of the new generation fails, UsageError where metadata or weights do not fit, or the
    encoders lie inside the store.
    """
    layout.create()
    remember(layout, how.encoder_source)
    with job_lock(layout.job_lock):
        return _index_locked(source, metadata, layout, encoders, how)


def _index_locked(
    source: Iterable[Item | Removal | Reject],
    metadata: pa.Schema,
    layout: Layout,
    encoders: Sequence[Encoder],
    how: Indexing,
) -> tuple[Tally, Manifest]:
    before = _current_generation(layout)
    weights = _weights(how, before)
    counted = frozenset(modality for modality in Modality if weights[modality] > 0)
    spaces = spaces_of(encoders, layout)
    check_choice(_index_choice(how, before)[0], {modality: spaces[modality] for modality in counted}, how.dim)
    write_derived(layout, encoders, counted)
    del before  # a night may pass, and another index be published
    job = EmbeddingJob(
        layout,
        encoders,
        how.media.workers(decoding_workers()),
        media=how.media,
        report=how.report,
        keep_missing=how.keep_missing or how.retry,
        delta=how.delta,
        modalities=counted,
        prune=how.prune,
        retry=how.retry,
        yields=True,
    )
    tally = job.run(source, metadata)
    before = _current_generation(layout)
    index, memory = _index_choice(how, before)
    given = _weights_given(how, before)
    recipe = Recipe(
        spaces_of(encoders, layout), weights, how.encoder_source, how.dim, index, memory, weights_given=given
    )
    if before is not None and not how.refit and follows(layout, before, recipe, ItemTable(layout.items)):
        return tally, before.manifest
    return tally, build_generation(layout, recipe, before, refit=how.refit)


def _current_generation(layout: Layout) -> Generation | None:
    number = current(layout)
    return None if number is None else open_generation(layout, number)


def _weights(how: Indexing, before: Generation | None) -> dict[Modality, float]:
    kept = before.manifest.weights if before is not None else {}
    given = how.weights if how.weights is not None else {Modality(name): weight for name, weight in kept.items()}
    return {modality: float(given.get(modality, 1.0)) for modality in Modality}


def _weights_given(how: Indexing, before: Generation | None) -> bool:
    """Whether a person chose the weights, now or before."""
    if how.weights is not None:
        return bool(how.weights)
    return before is not None and before.manifest.chose_weights


def _index_choice(how: Indexing, before: Generation | None) -> tuple[IndexSpec | None, int | None]:
    """The recipe and the limit of memory: as given, or as a person gave them before."""
    if how.index is not None or how.index_memory is not None or how.choose_index:
        return how.index, how.index_memory
    return chosen_before(None if before is None else before.manifest)


def loses_tower(layout: Layout, encoders: Sequence[Encoder], how: Indexing) -> bool:
    """Whether what was learned of behaviour will be lost: it is of vectors that these encoders do not make.

    It is told from the items as they are; a modality that only the catalog to come has is not foreseen.
    """
    before = _current_generation(layout)
    if before is None or not before.manifest.has_tower:
        return False
    recipe = Recipe(spaces_of(encoders, layout), _weights(how, before), how.encoder_source, how.dim)
    return how.refit or not keeps_fusion(before, recipe, ItemTable(layout.items))


def spaces_of(encoders: Sequence[Encoder], layout: Layout) -> dict[Modality, tuple[Space, ...]]:
    """Return the spaces of each modality: those of the encoders, and those of imported vectors."""
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
