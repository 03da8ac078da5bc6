"""A process that takes in texts, pictures and sounds, or moves a store to other encoders. Run and killed by tests.

The encoders are fakes that import no torch, for a real one would take seconds to load; decoders and store are real.
"""

import hashlib
import importlib
import io
import json
import os
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import soundfile
from crash_job import Step
from PIL import Image

import mmrec
from mmrec.embedding.commit import ChangeRules
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.protocol import Sample
from mmrec.encoders.tuned_config import Derivation
from mmrec.indexing import reindex_items
from mmrec.storage.layout import Layout
from mmrec.storage.vectors import VectorTable
from mmrec.types import Field, Item, Modality, Space

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
SCHEMA = pa.schema([])


def space(name: str, fingerprint: str) -> Space:
    return Space(name, 16, fingerprint * 40)


class Fake:
    """Vectors by hash of the content and the space."""

    batch_cost = 4
    module = None

    def __init__(self, modality: Modality, *spaces: Space, log: Path | None = None) -> None:
        self.modality, self.first, self.log = modality, spaces[0], log
        self.spaces = {modality: spaces}
        self.encoded: list[str] = []

    def prepare(self, _: Modality, content: object) -> Sample:
        told = content if isinstance(content, str) else np.asarray(getattr(content, "samples", content)).tobytes().hex()
        return Sample(np.array([told]), 1)

    def vectors(self, one: Space, told: list[str]) -> np.ndarray:
        return np.stack([self._vector(one, text) for text in told])

    def encode(self, _: Modality, samples: list[Sample]) -> dict[str, np.ndarray]:
        told = [str(sample.tensor[0]) for sample in samples]
        made = {one.name: self.vectors(one, told) for one in self.spaces[self.modality]}
        self.encoded += [mark(row) for row in made[self.first.name]]
        if self.log is not None:
            with self.log.open("a") as file:
                file.write("".join(f"{mark(row)}\n" for row in made[self.first.name]))
        return made

    def _vector(self, one: Space, told: str) -> np.ndarray:
        seed = int.from_bytes(hashlib.blake2b(f"{one.fingerprint}{told}".encode(), digest_size=8).digest())
        row = np.random.default_rng(seed).normal(size=one.dim).astype(np.float32)
        return row / np.linalg.norm(row)


class Headed(Fake):
    """The second space follows from the first."""

    def vectors(self, one: Space, told: list[str]) -> np.ndarray:
        return super().vectors(one, told) if one == self.first else head({"in": super().vectors(self.first, told)})

    @property
    def derivations(self) -> tuple[Derivation, ...]:
        return (Derivation(self.modality, self.spaces[self.modality][1], {"in": self.first}, head),)


def head(rows: dict[str, np.ndarray]) -> np.ndarray:
    return np.roll(rows["in"], 1, axis=1)


def mark(row: np.ndarray) -> str:
    """What a content is known by: its vector as it is stored."""
    return row.astype(np.float16).tobytes().hex()


def encoders(which: str, log: Path | None = None) -> list[Fake]:
    """The old ones, or new ones that share a space of pictures and of sounds with them."""
    if which == "old":
        return [
            Fake(TEXT, space("words", "a"), log=log),
            Fake(IMAGE, space("pixels", "b"), space("bridge", "c"), log=log),
            Fake(AUDIO, space("waves", "d"), space("sound-bridge", "e"), log=log),
        ]
    return [
        Fake(TEXT, space("words", "1"), space("more-words", "2"), log=log),
        Headed(IMAGE, space("pixels", "b"), space("head", "3"), log=log),
        Fake(AUDIO, space("waves", "d"), space("other-bridge", "4"), log=log),
    ]


def items(rows: dict[str, list], folder: Path) -> list[Item]:
    """Items whose files are written where they are not what they should be."""
    folder.mkdir(exist_ok=True)
    made = []
    for number, (name, (text, colour, pitch)) in enumerate(rows.items()):
        picture, sound = io.BytesIO(), io.BytesIO()
        Image.new("RGB", (9, 7), (colour % 256, colour // 256, 7)).save(picture, "PNG")
        soundfile.write(sound, np.sin(np.arange(800) / (2 + pitch / 50)) / 2, 16_000, format="WAV")
        fields = [Field(TEXT, "title", text=text)]
        for modality, kind, data in ((IMAGE, "png", picture), (AUDIO, "wav", sound)):
            path = folder / f"{name}.{kind}"
            if not path.exists() or path.read_bytes() != data.getvalue():
                path.write_bytes(data.getvalue())
            fields.append(Field(modality, kind, uri=str(path)))
        made.append(Item(name, tuple(fields), {}, number))
    return made


def complete(store: Path, encoder: Fake) -> set[str]:
    """Marks of the contents that have a vector in all spaces of an encoder."""
    tables = [VectorTable(Layout(store).vectors(one), one) for one in encoder.spaces[encoder.modality]]
    hashes = [key.tobytes() for key in tables[0].keys.keys]
    there = np.logical_and.reduce([table.has(hashes) for table in tables]) if hashes else []
    return {mark(row) for row, whole in zip(tables[0].fetch(hashes)[1], there, strict=True) if whole}


def do(what: str, store: Path, rows: dict[str, list], used: list[Fake]) -> None:
    layout, named = Layout(store), mmrec.Indexing(encoder_source="fakes", prune=True)
    if what == "move":
        reindex_items(layout, used, named)
    elif what == "upsert":
        EmbeddingJob(layout, used, rules=ChangeRules(changes_only=True), lock_encoding=True).run(
            items(rows, store.parent / "media"), SCHEMA
        )
    else:
        mmrec.index_items(items(rows, store.parent / "media"), SCHEMA, layout, used, named)


if __name__ == "__main__":
    what, which, where, state, step = sys.argv[1:]
    importlib.import_module("mmrec.embedding.encoding").FLUSH_SECONDS = 0.0  # a commit for every batch and space
    if step:
        module_name, function_name, number, moment = step.split(":")
        Step(module_name, function_name, int(number), moment).arm()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    do(what, Path(where), json.loads(Path(state).read_text()), encoders(which, Path(f"{where}.encoded")))
    os._exit(0)  # without the seconds that libraries take to be taken down
