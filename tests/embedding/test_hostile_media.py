"""Contents that crash, hang or bloat their decoder: all others are indexed, and these say why they are not."""

import io

import numpy as np
import pyarrow as pa
import pytest
import torch
from hostile_drawings import crashing, endless
from PIL import Image

import mmrec
from mmrec.decoding.limits import Limits
from mmrec.embedding.job import EmbeddingJob
from mmrec.encoders.protocol import Sample
from mmrec.errors import MediaError
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space

SPACE = Space("thumbnail", 12, "t" * 40)


class Thumbnail:
    """A picture's four corner colours."""

    spaces = {Modality.IMAGE: (SPACE,)}  # noqa: RUF012
    batch_cost = 4
    module = torch.nn.Flatten()

    def prepare(self, modality, content):
        return Sample(torch.from_numpy(np.asarray(content.resize((2, 2)), dtype=np.float32)) + 1, 1)

    def encode(self, modality, samples):
        rows = torch.nn.functional.normalize(torch.stack([one.tensor for one in samples]).flatten(1), dim=1)
        return {SPACE.name: rows.numpy()}


def picture(colour) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(out, "PNG")
    return out.getvalue()


def large() -> bytes:
    out = io.BytesIO()
    Image.new("RGBA", (9400, 9400), (9, 9, 9, 9)).save(out, "PNG", compress_level=1)
    return out.getvalue()


def item(name, data, row) -> Item:
    return Item(name, (Field(Modality.IMAGE, "picture", uri=f"{name}.png", data=data),), {}, row)


@pytest.mark.slow
def test_contents_that_ruin_their_decoder_cost_nothing_but_themselves(tmp_path):
    layout = Layout(tmp_path / "store")
    layout.create()
    bad = {"crash": crashing(), "hang": endless(), "bloat": large(), "cut": picture("red")[:60]}
    good = {f"good{n}": picture((n * 9, 255 - n * 9, n)) for n in range(20)}
    source = [item(name, data, row) for row, (name, data) in enumerate((bad | good).items())]
    limits = Limits(max_decoding_seconds=5, max_memory=700_000_000)  # even a slow machine bloats long before 5 seconds
    job = EmbeddingJob(layout, [Thumbnail()], 2, limits)
    tally = job.run(source, pa.schema([]))
    assert (tally.added, tally.quarantined) == (20, 4)
    reasons = {entry.id: (entry.reason, entry.transient) for entry in mmrec.open(layout.root).quarantined()}
    assert reasons.keys() == bad.keys()
    for name, words in (("crash", "crashes on it"), ("hang", "longer than"), ("bloat", "memory"), ("cut", "damaged")):
        assert words in reasons[name][0]
        assert not reasons[name][1]
    again = EmbeddingJob(layout, [Thumbnail()], 2, limits).run(source, pa.schema([]))
    assert (again.added, again.changed, sum(again.encoded.values()), again.quarantined) == (0, 0, 0, 4)


def test_a_query_that_crashes_its_decoder_leaves_the_engine_as_it_was(tmp_path):
    layout = Layout(tmp_path / "store")
    source = [item(f"good{n}", picture((n * 9, 255 - n * 9, n)), n) for n in range(20)]
    mmrec.index_items(source, pa.schema([]), layout, [Thumbnail()], mmrec.Indexing())
    engine = mmrec.open(layout.root, encoders=[Thumbnail()])
    for name, data in (("crash.svg", crashing()), ("red.png", picture((9, 246, 1)))):
        (tmp_path / name).write_bytes(data)
    with pytest.raises(MediaError, match="crashes on it"):
        engine.search(mmrec.Part("image", str(tmp_path / "crash.svg")))
    assert engine.search(mmrec.Part("image", str(tmp_path / "red.png")), k=1).hits[0].id == "good1"
