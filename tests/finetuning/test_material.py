"""What a real store has to fine-tune on: contents by their hashes, vectors by their spaces, labels by their rows."""

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

import mmrec
from mmrec.errors import UsageError
from mmrec.finetuning.config import TowerSettings
from mmrec.finetuning.material import comparable, load_training_data, stored_spaces
from mmrec.finetuning.tower_building import build_towers
from mmrec.finetuning.towers import load_sources
from mmrec.sources.media_access import MediaAccess, content_hash
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
SCHEMA = pa.schema([("kind", pa.string()), ("price", pa.float64())])
COLOURS = ("red", "blue", "green", "yellow")


@pytest.fixture(scope="module")
def layout(tmp_path_factory, packaged):
    """Texts and pictures: two items have one picture, one has no picture, one no text, one a value that is missing."""
    folder = tmp_path_factory.mktemp("data")
    items = []
    for number, colour in enumerate(COLOURS):
        Image.new("RGB", (40, 30), colour).save(folder / f"{colour}.png")
        picture = Field(IMAGE, "picture", uri=str(folder / f"{colour}.png"))
        text = Field(TEXT, "title", text=f"a {colour} square")
        items.append(Item(colour, (text, picture), {"kind": "plain", "price": float(number)}, number))
    twin = Field(IMAGE, "picture", uri=str(folder / "red.png"))
    items.append(Item("twin", (Field(TEXT, "title", text="another one"), twin), {"kind": None, "price": 9.0}, 4))
    items.append(Item("silent", (Field(IMAGE, "picture", uri=str(folder / "blue.png")),), {"kind": "odd"}, 5))
    items.append(Item("blind", (Field(TEXT, "title", text="nothing to see"),), {"kind": "odd"}, 6))
    layout = Layout(folder / "store")
    mmrec.index_items(items, SCHEMA, layout, packaged, mmrec.Indexing())
    return layout


@pytest.fixture(scope="module")
def sources():
    return load_sources(device="cpu")


def heads(sources, *modalities):
    return build_towers(sources, dict.fromkeys(modalities, TowerSettings()))


def test_contents_are_those_of_the_items_each_once_with_their_stored_vectors(layout, sources):
    towers = heads(sources, TEXT, IMAGE)
    data = load_training_data(layout, towers, MediaAccess(), 2**20, "kind")
    corpus = data.corpus
    assert len(corpus) == 7
    assert corpus.have(TEXT).sum() == 6
    assert corpus.have(IMAGE).sum() == 6
    assert (len(corpus.contents[TEXT]), len(corpus.contents[IMAGE])) == (6, 4)
    assert data.left_out == {TEXT: 0, IMAGE: 0}
    (encoder,) = {tower.source.encoder for tower in towers.values() if tower.modality is TEXT}
    names = dict(zip(corpus.contents[TEXT].hashes, data.samples[TEXT].vectors, strict=True))
    for said in ("a red square", "nothing to see"):
        made = encoder.encode(TEXT, [encoder.prepare(TEXT, said)])[towers[TEXT].space.name][0]
        # Stored as half floats.
        np.testing.assert_allclose(names[content_hash(said.encode())], made, atol=1e-3)


def test_pictures_that_two_items_have_are_one_content(layout, sources):
    corpus = load_training_data(layout, heads(sources, TEXT, IMAGE), MediaAccess(), 2**20).corpus
    shared = corpus.share(np.arange(7), np.arange(7), (IMAGE,))
    assert (shared.sum() - 7) // 2 == 2
    assert corpus.share(np.arange(7), np.arange(7), (TEXT,)).sum() == 7


def test_labels_are_those_of_the_items_by_row(layout, sources):
    data = load_training_data(layout, heads(sources, TEXT, IMAGE), MediaAccess(), 2**20, "price")
    both = data.corpus.have(TEXT, IMAGE)
    priced = [label for label in data.labels if label is not None]
    assert sorted(priced) == [0, 1, 2, 3, 9]
    for at, label in enumerate(data.labels):
        own = data.corpus.contents
        texts = {own[TEXT].hashes[place] for place in own[TEXT].of(at)}
        if label is None:
            assert not both[at]
        elif label < 4:
            assert texts == {content_hash(f"a {COLOURS[int(label)]} square".encode())}
        else:
            assert texts == {content_hash(b"another one")}


def test_a_column_that_is_not_there_is_refused_with_those_that_are(layout, sources):
    with pytest.raises(UsageError, match=r"no metadata column 'brand'.*columns: kind, price"):
        load_training_data(layout, heads(sources, TEXT), MediaAccess(), 2**20, "brand")


def test_a_modality_without_contents_takes_no_part_and_none_at_all_is_refused(layout, sources):
    towers = heads(sources, TEXT, AUDIO)
    assert set(load_training_data(layout, towers, MediaAccess(), 2**20).corpus.contents) == {TEXT}
    with pytest.raises(UsageError, match="no content that could be trained on: index it first"):
        load_training_data(layout, {AUDIO: towers[AUDIO]}, MediaAccess(), 2**20)


def test_spaces_that_meet_are_compared_and_others_are_not(layout, sources):
    corpus = load_training_data(layout, heads(sources, TEXT, IMAGE), MediaAccess(), 2**20).corpus
    stored = stored_spaces(layout, sources, corpus)
    assert {(space.comparison_key, kind) for some in stored.values() for space, kind, _ in some} == {
        (space.comparison_key, kind) for one in sources for kind in (TEXT, IMAGE) for space in one.spaces(kind)
    }
    (met,) = comparable(stored)
    assert set(met) == {TEXT, IMAGE}
    assert met[TEXT].shape[1] == met[IMAGE].shape[1]
    for kind, vectors in met.items():
        assert len(vectors) == len(corpus.contents[kind])
