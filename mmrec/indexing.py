"""Index a catalog: embed, fuse, build and publish; or reindex a store with other encoders."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import pyarrow as pa

from indexers.protocol import IndexSpec
from mmrec.compute import decoding_workers
from mmrec.embedding.commit import ChangeRules
from mmrec.embedding.contents import Tally
from mmrec.embedding.encoding import write_derived
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.protocol import Encoder
from mmrec.errors import UsageError
from mmrec.generation.build import build_generation, is_up_to_date, would_keep_fusion
from mmrec.generation.fuse import Recipe, check_choice, chosen_before
from mmrec.generation.generation import Generation, open_generation
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.generations import Manifest, current_number
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.lock import job_lock
from mmrec.storage.stored_item import StoredField, StoredItem, as_item, declared_spaces, is_imported
from mmrec.trust import record_consent
from mmrec.types import Field, Item, Modality, Reject, Removal, Space


@dataclass(frozen=True, slots=True)
class Indexing:
    """How a catalog is indexed.

    Attributes:
        encoder_source: Preset, models, folder or config file of the encoders, written into the manifest. That this user
            named a folder for this store is kept, so that it opens with it.
        weights: Weight of each modality; None keeps those of the store. An empty mapping, as of a new store: 1 each,
            times how far the catalog's items agree with each by their texts.
        keep_missing: Keep items that the source no longer has.
        changes_only: The source holds changes alone: items that it does not name stay as they are.
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
    changes_only: bool = False
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
    record_consent(layout, how.encoder_source)
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
    del before  # the job may take hours: what is current afterwards is read again
    job = EmbeddingJob(
        layout,
        encoders,
        how.media.workers(decoding_workers()),
        media=how.media,
        report=how.report,
        modalities=counted,
        rules=ChangeRules(
            keep_missing=how.keep_missing or how.retry,
            changes_only=how.changes_only,
            prune=how.prune,
            retry=how.retry,
            keep_concurrent_changes=True,
        ),
    )
    tally = job.run(source, metadata)
    before = _current_generation(layout)
    index, memory = _index_choice(how, before)
    given = _weights_given(how, before)
    recipe = Recipe(
        spaces_of(encoders, layout), weights, how.encoder_source, how.dim, index, memory, weights_given=given
    )
    if before is not None and not how.refit and is_up_to_date(layout, before, recipe, ItemTable(layout.items)):
        return tally, before.manifest
    return tally, build_generation(layout, recipe, before, refit=how.refit)


def _current_generation(layout: Layout) -> Generation | None:
    number = current_number(layout)
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


def drops_tower(layout: Layout, encoders: Sequence[Encoder], how: Indexing) -> bool:
    """Whether the trained user tower will be dropped, because it was trained on vectors of other encoders.

    Judged by the items that are stored; a modality that only the new catalog has is not taken into account.
    """
    before = _current_generation(layout)
    if before is None or not before.manifest.has_tower:
        return False
    recipe = Recipe(spaces_of(encoders, layout), _weights(how, before), how.encoder_source, how.dim)
    return how.refit or not would_keep_fusion(before, recipe, ItemTable(layout.items))


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


def stored_items(layout: Layout) -> Iterator[Item]:
    """All items of a store with the contents they have, in the order of the table; see `check_readable` first.

    Contents in quarantine are among them; the job knows them by their hash. Items that are nothing but imported
    vectors are not: there is nothing to encode.
    """
    for batch in ItemTable(layout.items).scan():
        for row in batch.to_pylist():
            item = as_item(row)
            if own := _source_fields(item):
                known = {name: value for name, value in item.metadata.items() if value is not None}
                yield Item(item.id, tuple(_as_field(item, one) for one in own), known)


def check_readable(layout: Layout, media: MediaAccess) -> None:
    """Check that all contents of a store can be read again, without reading them.

    A content that cannot be read would get no vector in the new space. Raises UsageError with the first one, how many
    there are, and what to do.
    """
    lost: list[str] = []
    items = contents = 0
    with ThreadPoolExecutor(media.workers(4)) as threads:
        for batch in ItemTable(layout.items).scan():
            stored = [as_item(row) for row in batch.to_pylist()]
            items += len(stored)
            for item, faults in zip(
                stored, threads.map(lambda one: _unreadable_reasons(one, media), stored), strict=True
            ):
                contents += len(faults)
                lost += [f"{item.id!r}: {fault}" for fault in faults if fault]
    if not items:
        raise UsageError(f"{layout.root} has no item to encode; index a catalog: mmrec index SOURCE {layout.root}")
    if lost:
        raise UsageError(
            f"{len(lost):,} of {contents:,} contents cannot be had from the store alone, {lost[0]}. Put files back "
            f"where they were, or index the catalog itself: mmrec index SOURCE {layout.root} --encoders ..."
        )


def _unreadable_reasons(item: StoredItem, media: MediaAccess) -> list[str]:
    """For each usable content of an item, why it cannot be read again; an empty text where it can."""
    own = _source_fields(item)
    texts = sum(field.modality is Modality.TEXT and field.uri is None for field in own)
    return [_unreadable_reason(item, field, media, texts) for field in own if field.hash is not None]


def _unreadable_reason(item: StoredItem, field: StoredField, media: MediaAccess, texts: int) -> str:
    if field.uri is not None:
        return "" if media.stat(field.uri) is not None else f"{field.uri} is out of reach"
    if field.modality is not Modality.TEXT:
        return f"its {field.column} was given by itself, without an address"
    if item.text is None or texts > 1:
        return f"the store keeps only the first of its {texts} texts"
    return ""


def _source_fields(item: StoredItem) -> list[StoredField]:
    return [field for field in item.fields if not is_imported(field.column)]


def _as_field(item: StoredItem, stored: StoredField) -> Field:
    text = item.text or "" if stored.modality is Modality.TEXT and stored.uri is None else None
    return Field(stored.modality, stored.column, text=text, uri=stored.uri)


_ROUNDS = 3


def reindex_items(layout: Layout, encoders: Sequence[Encoder], how: Indexing) -> tuple[Tally, Manifest]:
    """Encode all items of a store with other encoders, from their files and stored texts, and publish the result.

    Nothing is removed. Items that others add or change meanwhile are encoded with the store's encoders of then; they
    are taken up in a further round, so that none is lost to the new space.

    Args:
        layout: The store.
        encoders: What it moves to.
        how: As for `index_items`; `changes_only` is set.

    Returns what the first round did, and the generation that is now current.

    Raises UsageError where the store has no item or a content is out of reach, and as `index_items`.

    """
    check_readable(layout, how.media)
    how = replace(how, changes_only=True)
    tally, made = _reindex_pass(layout, encoders, how)
    for _ in range(_ROUNDS - 1):
        again, made = _reindex_pass(layout, encoders, how)
        if not again.encoded:
            break
    return tally, made


def _reindex_pass(layout: Layout, encoders: Sequence[Encoder], how: Indexing) -> tuple[Tally, Manifest]:
    return index_items(stored_items(layout), ItemTable(layout.items).metadata_schema, layout, encoders, how)
