"""Peak memory of the embedding job over catalogs of different sizes, each in a process of its own."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.peaks import peak_megabytes
from benchmarks.report import WORK
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.protocol import Sample
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space

__all__ = ["measure", "peak_of"]

DIM = 384


@dataclass(frozen=True)
class Cheap:
    """A vector by hash, of texts or of pictures: what is measured is the job."""

    modality: Modality

    @property
    def spaces(self) -> dict[Modality, tuple[Space, ...]]:
        """One space."""
        return {self.modality: (Space("cheap", DIM, f"cheap-{self.modality}".ljust(40, "0")),)}

    batch_cost = 256
    module = None

    def prepare(self, modality: Modality, content: object) -> Sample:
        """Sixteen bytes."""
        import torch  # noqa: PLC0415

        data = content.encode() if isinstance(content, str) else np.asarray(content).tobytes()
        return Sample(torch.frombuffer(bytearray(hashlib.blake2b(data, digest_size=16).digest()), dtype=torch.uint8), 1)

    def encode(self, modality: Modality, samples: list[Sample]) -> dict[str, np.ndarray]:
        """Unit vectors."""
        codes = np.stack([sample.tensor.numpy() for sample in samples]).astype(np.float32) + 1
        rows = np.tile(codes, (1, DIM // 16))
        return {"cheap": rows / np.linalg.norm(rows, axis=1, keepdims=True)}


def peak_of(modality: Modality, count: int) -> float:
    """Peak resident megabytes of a job over so many items, those of its decoding processes included."""
    code = f"from benchmarks.embed_memory import measure; measure({str(modality)!r}, {count})"
    ran = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(json.loads(ran.stdout.splitlines()[-1]))


def measure(modality: str, count: int) -> None:
    """Run one job and print its peak."""
    layout = Layout(WORK / f"memory-store-{modality}")
    shutil.rmtree(layout.root, ignore_errors=True)
    layout.create()
    EmbeddingJob(layout, [Cheap(Modality(modality))], 2).run(_items(Modality(modality), count), pa.schema([]))
    print(peak_megabytes() + sum(peak_megabytes(child) for child in _children()))


def _items(modality: Modality, count: int) -> Iterator[Item]:
    from PIL import Image  # noqa: PLC0415

    rng = np.random.default_rng(0)
    for number in range(count):
        if modality is Modality.TEXT:
            field = Field(modality, "title", text=f"item {number} of a catalog that is as long as it is wide")
        else:
            out = io.BytesIO()
            Image.fromarray(rng.integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(out, "PNG", compress_level=0)
            field = Field(modality, "picture", uri=f"{number}.png", data=out.getvalue())
        yield Item(f"item{number}", (field,), {}, number)


def _children() -> list[Path]:
    tasks = Path("/proc/self/task").iterdir()
    return [Path("/proc") / pid for task in tasks for pid in (task / "children").read_text().split()]
