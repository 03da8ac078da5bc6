"""How well the embedding job feeds its device: ``python -m benchmarks.starve``.

A simulated device takes exactly 1/R seconds a content while the thread that waits for it sleeps, and is given its next
batch before it is done, as a GPU is. The job around it reads, hashes, decodes, prepares, collects and commits as
always. Printed is the achieved rate over R: 1 means that the device never waited. The first row, with a device that
takes no time, is the ceiling of the job itself. Texts have 12 words, images are JPEG files of 160 x 120 pixels. The
job's start and end, commits included, count; the start of Python does not.
"""

import argparse
import io
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import pyarrow as pa
import torch
from PIL import Image

from benchmarks.peaks import peak_megabytes
from benchmarks.report import WORK, show
from mmrec.compute import configure_threads, decoding_workers
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.protocol import Sample, Vectors
from mmrec.storage.layout import Layout
from mmrec.types import Content, Field, Item, Modality, Space

DIM = 384
SIDE = 64
WORDS = 12
SECONDS = 6.0
"""How long the device has work for, at each rate."""


_TEXT = Sample(torch.zeros(WORDS, dtype=torch.int32), 1)


@dataclass
class SimulatedDevice:
    """An encoder with constant vectors that is busy for 1/R seconds a content.

    Attributes:
        modality: What it encodes.
        rate: Contents a second; infinite for a device that takes no time.

    """

    modality: Modality
    rate: float
    batch_cost: int = 256
    module: None = None
    _free_at: float = 0.0

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """One space."""
        return {self.modality: (Space("simulated", DIM, f"simulated-{self.modality}".ljust(40, "0")),)}

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """A text as it is; an image resized to the network's input."""
        if isinstance(content, str):
            return _TEXT
        pixels = np.asarray(cast("Image.Image", content).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
        return Sample(torch.from_numpy(pixels.copy()), 1)

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Constant vectors, after the device's time."""
        return self.submit(modality, samples)()

    def submit(self, modality: Modality, samples: Sequence[Sample]) -> Callable[[], Vectors]:
        """Begin when the batch before is done; a thread that woke up late is not late for the next batch."""
        self._free_at = done = max(self._free_at, time.perf_counter()) + len(samples) / self.rate

        def fetch() -> Vectors:
            time.sleep(max(0.0, done - time.perf_counter()))
            return {"simulated": np.full((len(samples), DIM), DIM**-0.5, dtype=np.float32)}

        return fetch


def texts(count: int) -> Iterator[Item]:
    """Different texts of `WORDS` words."""
    words = [f"word{number}" for number in range(997)]
    for number in range(count):
        text = " ".join(words[(number * step + step * step) % 997] for step in range(1, WORDS)) + f" {number}"
        yield Item(f"item{number}", (Field(Modality.TEXT, "title", text=text),), {}, number + 1)


def images(count: int) -> Iterator[Item]:
    """Different JPEG files of 160 x 120 pixels, made once and kept."""
    folder = WORK / "starve-jpegs"
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        path = folder / f"{number:05}.jpg"
        if not path.exists():
            _write_jpeg(path, number)
        yield Item(f"item{number}", (Field(Modality.IMAGE, "image", uri=str(path)),), {}, number + 1)


def _write_jpeg(path: Path, number: int) -> None:
    rng = np.random.default_rng(number)
    coarse = Image.fromarray(rng.integers(0, 255, (6, 8, 3), dtype=np.uint8)).resize(
        (160, 120), Image.Resampling.BICUBIC
    )
    out = io.BytesIO()
    coarse.save(out, "JPEG", quality=85)
    path.write_bytes(out.getvalue())


def run(modality: Modality, rate: float, count: int) -> float:
    """Contents a second of a whole job over so many items, into a new store."""
    layout = Layout(WORK / "starve-store")
    shutil.rmtree(layout.root, ignore_errors=True)
    layout.create()
    device = SimulatedDevice(modality, rate)
    items = list(texts(count) if modality is Modality.TEXT else images(count))
    job = EmbeddingJob(layout, [device], decoding_workers(), modalities=frozenset({modality}))
    started = time.perf_counter()
    job.run(items, pa.schema([]))
    return count / (time.perf_counter() - started)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smaller run that shows whether it works")
    parser.add_argument("--only", default="text,image", help="text, image or both")
    given = parser.parse_args()
    seconds = SECONDS / 10 if given.quick else SECONDS
    configure_threads()
    rows: list[tuple[object, ...]] = [("contents", "device, a second", "job, a second", "achieved", "peak MB")]
    figures: dict[str, float] = {}
    rates = {Modality.TEXT: (20_000, 5_000, 1_000), Modality.IMAGE: (1_000, 400, 100)}
    for modality in (one for one in rates if one.value in given.only.split(",")):
        run(modality, float("inf"), 64)  # imports, decoder processes
        for rate in (float("inf"), *rates[modality]):
            most = rates[modality][0] if rate == float("inf") else rate
            got = run(modality, rate, int(most * seconds))
            rows.append((modality, rate, got, got / rate, peak_megabytes()))
            figures[f"{modality}_{'ceiling' if rate == float('inf') else rate}"] = (
                got if rate == float("inf") else got / rate
            )
    show("Device's rate achieved by the job", rows, figures)


if __name__ == "__main__":
    main()
