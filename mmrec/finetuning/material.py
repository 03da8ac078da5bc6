"""Collect the training data of a store: stored vectors where heads are trained, else texts and media files."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.errors import UsageError
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import ContentVectors
from mmrec.finetuning.samples import ContentLocation, MediaSamples, Samples, VectorSamples
from mmrec.finetuning.tower_building import FinetuneTower
from mmrec.finetuning.towers import EncoderSource, VectorTower
from mmrec.sources.media_access import MediaAccess, content_hash
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.storage.stored_item import as_fields
from mmrec.storage.vectors import VectorTable
from mmrec.types import Modality, Space


@dataclass(frozen=True, slots=True, eq=False)
class TrainingData:
    """Items, their contents prepared for the towers, and their values of a metadata column, if one is given.

    By modality, `left_out` is how many contents could not be used, and `why` the error of the first media file.
    """

    corpus: Corpus
    samples: Mapping[Modality, Samples]
    labels: Sequence[object]
    left_out: Mapping[Modality, int]
    why: Mapping[Modality, str]


def load_training_data(
    layout: Layout,
    towers: Mapping[Modality, FinetuneTower],
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
            vectors, usable = _inputs(layout, tower, hashes)
            samples[modality] = VectorSamples(vectors[usable])
        else:
            locations = [places.get((modality, name), ContentLocation()) for name in hashes]
            source = MediaSamples(tower, locations, hashes, media, memory)
            usable = source.drop_unusable()
            if source.fault is not None:
                why[modality] = source.fault
            if len(usable) and not usable.any():
                raise UsageError(
                    f"None of the {len(usable):,} {modality} contents can be read; the first is {source.fault} Put "
                    "files back where they were, see that --media-root holds them, or train a head on the stored "
                    'vectors (how = "head").'
                )
            samples[modality] = source
        kept[modality] = usable
    # A modality of which nothing is left takes no part.
    corpus = whole.only({modality: usable for modality, usable in kept.items() if usable.any()})
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
                usable, vectors = VectorTable(layout.vectors(space), space).fetch(own.hashes)
                if len(own) and usable.all():
                    found.setdefault(space.comparison_key, []).append((space, modality, vectors))
    return found


def comparable(
    stored: Mapping[str, Sequence[tuple[Space, Modality, Float32[np.ndarray, "_ _"]]]],
) -> list[ContentVectors]:
    """For each shared space of several modalities, the vectors of the first space of each of them."""
    shared: list[dict[Modality, np.ndarray]] = []
    for some in stored.values():
        shared.append({})
        for _, modality, vectors in some:
            shared[-1].setdefault(modality, vectors)
    return [space for space in shared if len(space) > 1]


def _inputs(
    layout: Layout, tower: VectorTower, hashes: Sequence[bytes]
) -> tuple[Float32[np.ndarray, "n dim"], np.ndarray]:
    """Stored vectors of the spaces that a head reads, side by side, and where all of them are there."""
    spaces = tower.source.by_name()
    parts, usable = [], np.ones(len(hashes), dtype=bool)
    for name, _ in tower.inputs:
        has, vectors = VectorTable(layout.vectors(spaces[name]), spaces[name]).fetch(hashes)
        usable &= has
        parts.append(vectors)
    return np.concatenate(parts, axis=1), usable


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
                    places.setdefault((field.modality, field.hash), ContentLocation(uri=field.uri))
                elif row["mmrec_text"] and content_hash(row["mmrec_text"].encode("utf-8", "replace")) == field.hash:
                    places[field.modality, field.hash] = ContentLocation(row["mmrec_text"])
            for modality, some in own.items():
                hashes[modality].append(some)
    order: Int64[np.ndarray, " n"] = np.argsort(np.array(rows, dtype=np.int64))
    return Corpus.of(rows, hashes), places, [values[at] for at in order.tolist()]
