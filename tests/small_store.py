"""A small real store, its source, and the commands that are named for mending it."""

import hashlib

import numpy as np
import pyarrow as pa

import mmrec
from mmrec.encoders.protocol import Sample
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space
from mmrec.verification.findings import VerificationReport
from mmrec.verification.repair import repair_store
from mmrec.verification.verify import verify_store

SPACE = Space("cheap", 16, "c" * 40)
NAMES = tuple(f"i{n}" for n in range(60))


class Cheap:
    """Vectors by hash: what matters here is where they go, not what they mean."""

    spaces = {Modality.TEXT: (SPACE,)}  # noqa: RUF012
    batch_cost = 16
    module = None

    def prepare(self, _, content):
        if content == "cannot":
            raise mmrec.errors.MediaError("this text cannot be used")
        return Sample(np.array([content]), 1)

    def encode(self, _, samples):
        seeds = [
            int.from_bytes(hashlib.blake2b(str(one.tensor[0]).encode(), digest_size=8).digest()) for one in samples
        ]
        vectors = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds]).astype(np.float32)
        return {"cheap": vectors / np.linalg.norm(vectors, axis=1, keepdims=True)}


def index(layout: Layout, names=NAMES, **how):
    """Take in items by their names, one of which has a second text that cannot be encoded."""
    items = [
        Item(name, (Field(Modality.TEXT, "title", text=name),), {"number": 1}, row) for row, name in enumerate(names)
    ]
    bad = Field(Modality.TEXT, "remark", text="cannot")
    items[0] = Item(items[0].id, (*items[0].fields, bad), {"number": 1}, 0)
    return mmrec.index_items(items, pa.schema([("number", pa.int64())]), layout, [Cheap()], mmrec.Indexing(**how))


def spaces(_: str):
    return Cheap.spaces


def follow(layout: Layout, report: VerificationReport) -> None:
    """Do what a report says, and nothing else."""
    for command in report.commands:
        if command.startswith("mmrec repair "):
            repair_store(layout, spaces)
        elif command.startswith("mmrec index "):
            index(layout)
        else:
            raise AssertionError(command)


def mend_wholly(layout: Layout) -> None:
    """Follow reports until the store is sound; what a first mending uncovers may take a second."""
    for _ in range(3):
        report = verify_store(layout)
        if report.sound:
            break
        follow(layout, report)
    assert verify_store(layout).findings == []
    # What could not be read of the items is in the source.
    index(layout)
    engine = mmrec.open(layout.root, encoders=[Cheap()])
    assert engine.status()["items"] == len(NAMES)
    for name in NAMES[::7]:
        assert engine.show(name).text == name
        assert engine.search(name, k=1).hits[0].id == name
    assert [entry.id for entry in engine.quarantined()] == ["i0"]
    assert verify_store(layout, full=True).findings == []
