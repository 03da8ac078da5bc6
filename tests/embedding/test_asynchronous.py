"""A device has its next batch before the last one is collected; contents are preprocessed many at a time."""

from threading import Lock

import numpy as np
import pyarrow as pa
import pytest
import torch

from mmrec.embedding.encoding import MOST_RUNNING
from mmrec.embedding.job import TEXTS_PER_TASK, EmbeddingJob
from mmrec.encoders.protocol import Sample
from mmrec.errors import MediaError
from mmrec.storage.layout import Layout
from mmrec.storage.quarantine import list_quarantined
from mmrec.storage.vectors import VectorTable
from mmrec.types import Field, Item, Modality, Space

SPACE = Space("device", 4, "device".ljust(40, "0"))
METADATA = pa.schema([])


class Device:
    """Vectors of a text's number; a batch is done when it is fetched."""

    batch_cost = 8
    module = None

    def __init__(self, fails=()):
        self.lock, self.under_way, self.most, self.prepared = Lock(), 0, 0, []
        self.spaces = {Modality.TEXT: (SPACE,)}
        self.fails = fails

    def prepare(self, _, content):
        if content == "bad":
            raise MediaError("It is bad.")
        return Sample(torch.tensor([int(content)]), 1)

    def prepare_many(self, modality, contents):
        self.prepared.append(len(contents))
        return [self.prepare(modality, content) for content in contents]

    def encode(self, modality, samples):
        return self.submit(modality, samples)()

    def submit(self, _, samples):
        with self.lock:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        numbers = np.array([sample.tensor.item() for sample in samples], dtype=np.float32)

        def fetch():
            with self.lock:
                self.under_way -= 1
            if set(self.fails) & set(numbers.tolist()):
                raise RuntimeError("broken on the device")
            return {"device": np.stack([numbers, numbers * 0 + 1, numbers * 0, numbers * 0], axis=1)}

        return fetch


def items(texts):
    return [Item(f"i{n}", (Field(Modality.TEXT, "t", text=text),), {}, n + 1) for n, text in enumerate(texts)]


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path / "store")
    made.create()
    return made


def test_batches_are_under_way_together_and_come_back_in_order(layout):
    device = Device()
    tally = EmbeddingJob(layout, [device], 2).run(items(map(str, range(1000))), METADATA)
    assert tally.encoded["text"] == tally.added == 1000
    assert 1 <= device.most <= 2 < MOST_RUNNING
    assert device.under_way == 0
    assert len(VectorTable(layout.vectors(SPACE), SPACE)) == 1000


def test_a_batch_that_fails_when_it_is_fetched_costs_only_the_guilty(layout):
    device = Device(fails=[5.0, 77.0])
    tally = EmbeddingJob(layout, [device], 1).run(items(map(str, range(100))), METADATA)
    assert tally.quarantined == 2
    assert {entry.id for entry in list_quarantined(layout.quarantine)} == {"i5", "i77"}
    assert len(VectorTable(layout.vectors(SPACE), SPACE)) == 98


def test_contents_are_preprocessed_together_and_one_that_is_bad_costs_only_itself(layout):
    device = Device()
    texts = [*map(str, range(300)), "bad", *map(str, range(300, 400))]
    tally = EmbeddingJob(layout, [device], 1).run(items(texts), METADATA)
    assert max(device.prepared) == TEXTS_PER_TASK
    assert tally.added == 400
    assert [entry.reason for entry in list_quarantined(layout.quarantine)] == ["It is bad."]


def test_equal_contents_in_one_batch_are_encoded_once_and_fail_together(layout):
    device = Device(fails=[3.0])
    tally = EmbeddingJob(layout, [device], 1).run(items(["1", "3", "1", "3", "2"]), METADATA)
    assert tally.encoded["text"] == 3
    assert {entry.id for entry in list_quarantined(layout.quarantine)} == {"i1", "i3"}
    assert tally.added == 3
