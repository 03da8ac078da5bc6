"""A process that indexes texts and is killed at a chosen step. Run by test_crash_points.py."""

import hashlib
import importlib
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

import mmrec
from mmrec.encoders.protocol import Sample
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space

SPACE = Space("cheap", 16, "c" * 40)


class Cheap:
    """A vector by hash of the text. It imports no torch: a real encoder would take seconds to load at every step."""

    spaces = {Modality.TEXT: (SPACE,)}  # noqa: RUF012
    batch_cost = 16
    module = None

    def __init__(self) -> None:
        self.encoded: list[str] = []

    def prepare(self, _: Modality, content: str) -> Sample:
        return Sample(np.array([content]), 1)

    def encode(self, _: Modality, samples: list[Sample]) -> dict[str, np.ndarray]:
        texts = [str(sample.tensor[0]) for sample in samples]
        self.encoded.extend(texts)
        seeds = [int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) for text in texts]
        vectors = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds]).astype(np.float32)
        return {SPACE.name: vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}


def index(store: Path, edition: int, encoder: Cheap) -> None:
    """Edition 0 has i0 to i59; edition 1 lacks ten of them, has ten more, ten edited, all in another order."""
    texts = {
        f"i{n}": f"text {n}" + " edited" * (edition and n % 6 == 0) for n in range(10 * edition, 60 + 10 * edition)
    }
    names = sorted(texts, reverse=bool(edition))
    items = [Item(name, (Field(Modality.TEXT, "title", text=texts[name]),), {}, row) for row, name in enumerate(names)]
    items.append(Item("empty", (Field(Modality.TEXT, "title", data=b""),), {}, len(items)))
    mmrec.index_items(items, pa.schema([]), Layout(store), [encoder], mmrec.Indexing())


@dataclass
class Step:
    """The n-th call of a function, as its module sees it: ``module:function:n:before`` or ``...:after``."""

    module: str
    function: str
    call: int
    when: str

    def arm(self) -> None:
        owner = importlib.import_module(self.module)
        for part in self.function.split(".")[:-1]:
            owner = getattr(owner, part)
        name = self.function.rsplit(".", maxsplit=1)[-1]
        real = getattr(owner, name)
        calls = 0

        def killing(*args: object, **kwargs: object) -> object:
            nonlocal calls
            calls += 1
            if calls == self.call and self.when == "before":
                os.kill(os.getpid(), signal.SIGKILL)
            result = real(*args, **kwargs)
            if calls == self.call:
                os.kill(os.getpid(), signal.SIGKILL)
            return result

        setattr(owner, name, killing)


if __name__ == "__main__":
    where, which, step = sys.argv[1:]
    importlib.import_module("mmrec.embedding.encoding").FLUSH_SECONDS = 0.0  # a commit for every batch
    module_name, function_name, number, moment = step.split(":")
    Step(module_name, function_name, int(number), moment).arm()
    index(Path(where), int(which), Cheap())
