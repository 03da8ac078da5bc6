"""Collect the training data of a store: stored vectors where heads are trained, else texts and media files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float32, Int64

from mmrec.errors import UsageError
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import ContentVectors
from mmrec.finetuning.samples import MediaSamples, Samples, VectorSamples
from mmrec.finetuning.tower_building import Tower
from mmrec.finetuning.towers import EncoderSource, VectorTower
from mmrec.sources.media_access import MediaAccess, content_hash
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.stored_item import as_fields
from mmrec.storage.vectors import VectorTable
from mmrec.types import Modality, Space

ContentLocation = str | tuple[str]
"""A text itself, or the URI of a media file in a tuple of one."""


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Items, their contents and their labels.

    Attributes:
        corpus: The items.
        samples: Their contents, prepared for the towers, by modality.
        labels: Value of a metadata column for each item, if one is given.
        left_out: Contents that could not be used, by modality.
        why: The error of the first of them, by modality, where media were read.

    """

    corpus: Corpus
    samples: Mapping[Modality, Samples]
    labels: Sequence[object]
    left_out: Mapping[Modality, int]
    why: Mapping[Modality, str]


def gather(
    layout: Layout,
    towers: Mapping[Modality, Tower],
    media: MediaAccess,
    memory: int,
    label: str | None = None,
) -> TrainingData:
    """Collect what the towers can read of a store.

    Raises UsageError where a column or all contents are missing, or all media of a modality whose encoder is to run.
    """
    whole, places, labels = _read(layout, frozenset(towers), label)
    samples: dict[Modality, Samples] = {}
    kept, why = {}, {}
    for modality, tower in towers.items():
        hashes = whole.contents[modality].hashes
        if isinstance(tower, VectorTower):
            vectors, there = _inputs(layout, tower, hashes)
            samples[modality] = VectorSamples({modality: vectors[there]})
        else:
            source = MediaSamples(tower, [places.get((modality, name)) for name in hashes], hashes, media, memory)
            there = source.usable()
            if source.fault is not None:
                why[modality] = source.fault
            _check_some(modality, there, why)
            samples[modality] = source.only(there)
        kept[modality] = there
    # A modality of which nothing is left takes no part.
    corpus = whole.only({modality: there for modality, there in kept.items() if there.any()})
    if not corpus.contents:
        raise UsageError(
            f"{layout.root} has no content that could be trained on: index it first with the encoders that are to be "
            "fine-tuned"
        )
    return TrainingData(corpus, samples, labels, {name: int((~mask).sum()) for name, mask in kept.items()}, why)


def stored_spaces(
    layout: Layout, sources: Sequence[EncoderSource], corpus: Corpus
) -> dict[str, list[tuple[Space, Modality, Float32[np.ndarray, "_ _"]]]]:
    """Return the stored vectors of all contents of a modality, by the space in which they can be compared."""
    found: dict[str, list[tuple[Space, Modality, np.ndarray]]] = {}
    for source in sources:
        for modality, own in corpus.contents.items():
            for space in source.encoder.spaces.get(modality, ()):
                there, vectors = VectorTable(layout.vectors(space), space).fetch(own.hashes)
                if len(own) and there.all():
                    found.setdefault(space.comparison_key, []).append((space, modality, vectors))
    return found


def comparable(
    stored: Mapping[str, Sequence[tuple[Space, Modality, Float32[np.ndarray, "_ _"]]]],
) -> list[ContentVectors]:
    """For each shared space of several modalities, the vectors of the first space of each of them."""
    met: list[ContentVectors] = []
    for some in stored.values():
        sides: dict[Modality, np.ndarray] = {}
        for _, modality, vectors in some:
            sides.setdefault(modality, vectors)
        if len(sides) > 1:
            met.append(sides)
    return met


def _check_some(modality: Modality, there: Bool[np.ndarray, " n"], why: Mapping[Modality, str]) -> None:
    if len(there) and not there.any():
        raise UsageError(
            f"None of the {len(there):,} {modality} contents can be read; the first is {why[modality]} Put files back "
            "where they were, see that --media-root holds them, or train a head on the stored vectors "
            '(how = "head").'
        )


def _inputs(
    layout: Layout, tower: VectorTower, hashes: Sequence[bytes]
) -> tuple[Float32[np.ndarray, "n dim"], np.ndarray]:
    """Stored vectors of the spaces that a head reads, side by side, and where all of them are there."""
    spaces = tower.source.by_name()
    parts, there = [], np.ones(len(hashes), dtype=bool)
    for name, _ in tower.inputs:
        has, vectors = VectorTable(layout.vectors(spaces[name]), spaces[name]).fetch(hashes)
        there &= has
        parts.append(vectors)
    return np.concatenate(parts, axis=1), there


def _read(
    layout: Layout, modalities: frozenset[Modality], label: str | None
) -> tuple[Corpus, dict[tuple[Modality, bytes], ContentLocation], list[object]]:
    table = ItemTable(layout.items)
    if label is not None and label not in table.metadata_schema.names:
        names = ", ".join(table.metadata_schema.names) or "none"
        raise UsageError(f"there is no metadata column {label!r} in {layout.root}; columns: {names}")
    rows: list[int] = []
    hashes: dict[Modality, list[list[bytes]]] = {modality: [] for modality in sorted(modalities)}
    places: dict[tuple[Modality, bytes], ContentLocation] = {}
    values: list[object] = []
    for batch in table.scan():
        for row in batch.to_pylist():
            rows.append(row["_rowid"])
            values.append(None if label is None else row[label])
            own: dict[Modality, list[bytes]] = {modality: [] for modality in hashes}
            for field in as_fields(row["mmrec_fields"]):
                if field.hash is None or field.modality not in hashes:
                    continue
                own[field.modality].append(field.hash)
                if field.uri is not None:
                    places.setdefault((field.modality, field.hash), (field.uri,))
                elif row["mmrec_text"] and content_hash(row["mmrec_text"].encode("utf-8", "replace")) == field.hash:
                    places[field.modality, field.hash] = row["mmrec_text"]
            for modality, some in own.items():
                hashes[modality].append(some)
    order: Int64[np.ndarray, " n"] = np.argsort(np.array(rows, dtype=np.int64))
    return Corpus.of(rows, hashes), places, [values[at] for at in order.tolist()]
