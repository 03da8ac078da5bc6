"""What the embedding job adds to the encoders' own work: ``python -m benchmarks.embed``.

End to end (read, decode, prepare, encode, write) beside the bare forward pass over the same prepared samples in
batches of like cost, on the stamps, one modality at a time; the better of two rounds each, in turn. 1 would mean that
all the rest is free.
"""

import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.report import WORK, arguments, show
from mmrec.catalog.columns import ColumnSpec
from mmrec.catalog.media import decode
from mmrec.catalog.media_access import MediaAccess
from mmrec.catalog.source import Source, open_source
from mmrec.compute import decoding_workers, own_threads
from mmrec.embedding.batches import Bucket, Pending
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder, Sample
from mmrec.errors import MediaError
from mmrec.items import Item
from mmrec.modality import Modality
from mmrec.store.layout import Layout
from mmrec.store.quarantine import Quarantined
from pipelines.catalogs.stamps import fetch_stamps, write_catalog

COLUMNS = {Modality.TEXT: "text", Modality.IMAGE: "picture", Modality.AUDIO: "sound"}
ROUNDS = 2


def main() -> None:
    """Measure and print."""
    rounds = 1 if arguments(__doc__ or "").quick else ROUNDS
    own_threads()
    catalog = write_catalog(fetch_stamps(Path(".cache/stamps")), WORK / "stamps.jsonl")
    rows: list[tuple[object, ...]] = [("modality", "contents", "prepare s", "forward s", "end to end s", "ratio")]
    figures = {}
    for modality, column in COLUMNS.items():
        source = open_source(catalog, ColumnSpec("id", **{str(modality): (column,)}))
        (encoder,) = (one for one in load_encoders("packaged") if modality in one.spaces)
        samples, preparing = prepared(source, encoder, modality)
        forward(encoder, modality, samples[:8])
        times = [(forward(encoder, modality, samples), end_to_end(source, encoder)) for _ in range(rounds)]
        bare, whole = (min(column) for column in zip(*times, strict=True))
        rows.append((modality, len(samples), preparing, bare, whole, bare / whole))
        figures[f"end_to_end_{modality}"] = bare / whole
    show("End to end beside the bare forward pass", rows, figures)


def prepared(source: Source, encoder: Encoder, modality: Modality) -> tuple[list[Sample], float]:
    """Each distinct content of a source, ready for the encoder, and the seconds that took in one thread."""
    started = time.perf_counter()
    samples = {}
    for item in source:
        if isinstance(item, Item):
            data = MediaAccess().read(item.fields[0])
            try:
                samples.setdefault(data, encoder.prepare(modality, decode(modality, data)))
            except MediaError:
                continue
    return list(samples.values()), time.perf_counter() - started


def forward(encoder: Encoder, modality: Modality, samples: Sequence[Sample]) -> float:
    """Seconds of the encoder alone."""
    bucket = Bucket(encoder.batch_cost)
    for sample in samples:
        bucket.add(Pending(b"", sample, Quarantined(0, None, "", "")))
    batches = [[pending.sample for pending in batch] for batch in bucket.last_batches()]
    started = time.perf_counter()
    for batch in batches:
        encoder.encode(modality, batch)
    return time.perf_counter() - started


def end_to_end(source: Source, encoder: Encoder) -> float:
    """Seconds of the whole job into an empty store."""
    layout = Layout(WORK / "embed-store")
    shutil.rmtree(layout.root, ignore_errors=True)
    layout.create()
    started = time.perf_counter()
    EmbeddingJob(layout, [encoder], decoding_workers()).run(source, source.metadata_schema)
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
