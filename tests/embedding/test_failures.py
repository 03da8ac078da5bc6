"""Encoders that fail: only the guilty content is left out, for as long as it deserves.

The encoder is a fake, for the packaged ones do not fail on demand.
"""

import hashlib

import numpy as np
import pyarrow as pa
import pytest
import soundfile
import torch

import mmrec
from mmrec.embedding.contents import MAX_CONSECUTIVE_FAILURES
from mmrec.encoders.protocol import Sample
from mmrec.errors import EncoderError, StoreError
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space


class Moody:
    """Turns a content into a vector of its own, unless it contains a word that upsets it."""

    batch_cost = 8
    module = torch.nn.Identity()

    def __init__(self, modality=Modality.TEXT, name="moody"):
        self.spaces = {modality: (Space(name, 16, name.ljust(40, "0")),)}
        self.encode_fails = self.prepare_fails = self.nan = ""
        self.rows_too_many = 0
        self.encoded = []

    def prepare(self, modality, content):
        if self.prepare_fails and self.prepare_fails in str(content):
            raise KeyError("no such key")
        told = content if isinstance(content, str) else repr(np.asarray(getattr(content, "samples", content)).tolist())
        return Sample(torch.frombuffer(bytearray(told.encode()), dtype=torch.uint8), 1)

    def encode(self, modality, samples):
        told = [sample.tensor.numpy().tobytes() for sample in samples]
        if self.encode_fails and any(self.encode_fails.encode() in one for one in told):
            raise RuntimeError("out of memory")
        self.encoded.extend(told)
        seeds = [int.from_bytes(hashlib.blake2b(one, digest_size=8).digest()) for one in told]
        vectors = np.stack([np.random.default_rng(seed).normal(size=16) for seed in seeds]).astype(np.float32)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        if self.nan:
            vectors[[self.nan.encode() in one for one in told]] = np.nan
        vectors = np.concatenate([vectors, vectors[: self.rows_too_many]])
        return {space.name: vectors for space in self.spaces[modality]}


@pytest.fixture
def layout(tmp_path):
    return Layout(tmp_path / "store")


def items(texts):
    return [
        Item(name, (Field(Modality.TEXT, "title", text=text),), {}, row)
        for row, (name, text) in enumerate(texts.items())
    ]


def index(layout, encoders, source, **how):
    return mmrec.index_items(source, pa.schema([]), layout, encoders, mmrec.Indexing(**how))


TEXTS = {f"i{n}": f"text {n}" for n in range(40)} | {"bad": "a bomb", "twin": "a bomb"}


def test_a_content_that_breaks_its_batch_is_left_out_alone_and_tried_again(layout):
    encoder = Moody()
    encoder.encode_fails = "bomb"
    tally, made = index(layout, [encoder], items(TEXTS))
    assert made.items == 40
    assert tally.quarantined == 2
    engine = mmrec.open(layout.root, encoders=[encoder])
    assert {(entry.id, entry.transient) for entry in engine.quarantined()} == {("bad", True), ("twin", True)}
    assert "out of memory" in engine.quarantined()[0].reason
    _, same = index(layout, [encoder], items(TEXTS))
    assert same.number == made.number
    encoder.encode_fails = ""
    encoder.encoded.clear()
    tally, made = index(layout, [encoder], items(TEXTS))
    assert encoder.encoded == [b"a bomb"]
    assert (tally.added, tally.quarantined, made.items) == (2, 0, 42)
    assert {hit.id for hit in engine.search("a bomb", k=2).hits} == {"bad", "twin"}


def test_an_item_that_recovers_in_part_gets_its_vector(layout):
    sound, text = Moody(Modality.AUDIO, "ear"), Moody()
    text.encode_fails = "bomb"
    wave = layout.root.parent / "tone.wav"
    soundfile.write(wave, 0.5 * np.sin(np.arange(1600) / 5), 16000)
    source = items(TEXTS)
    both = Item("both", (Field(Modality.TEXT, "title", text="a bomb"), Field(Modality.AUDIO, "sound", uri=str(wave))))
    source.append(both)
    _, made = index(layout, [sound, text], source)
    assert made.items == 41
    _, same = index(layout, [sound, text], source)
    assert same.number == made.number
    text.encode_fails = ""
    tally, made = index(layout, [sound, text], source)
    assert (tally.added, tally.changed, made.items) == (2, 1, 43)
    assert "both" in {hit.id for hit in mmrec.open(layout.root, encoders=[text]).search("a bomb", k=3).hits}
    tally, same = index(layout, [sound, text], source)
    assert (tally.changed, same.number) == (0, made.number)


def test_numbers_that_are_not_finite_are_refused_for_good(layout):
    encoder = Moody()
    encoder.nan = "bomb"
    tally, made = index(layout, [encoder], items(TEXTS))
    assert (tally.quarantined, made.items) == (2, 40)
    encoder.encoded.clear()
    tally, same = index(layout, [encoder], items(TEXTS))
    assert (encoder.encoded, tally.quarantined, same.number) == ([], 2, made.number)


def test_an_error_that_no_one_expected_costs_one_content(layout):
    encoder = Moody()
    encoder.prepare_fails = "bomb"
    tally, made = index(layout, [encoder], items(TEXTS))
    assert (tally.quarantined, made.items) == (2, 40)
    encoder.prepare_fails = ""
    tally, made = index(layout, [encoder], items(TEXTS))
    assert (tally.added, made.items) == (2, 42)


@pytest.mark.parametrize("place", ["prepare_fails", "encode_fails", "nan"])
def test_an_encoder_that_only_fails_ends_the_job_and_nothing_is_removed(layout, place):
    encoder = Moody()
    _, made = index(layout, [encoder], items(TEXTS))
    setattr(encoder, place, "text")
    edited = items({name: f"edited {text}" for name, text in TEXTS.items()})
    with pytest.raises(EncoderError, match=f"{MAX_CONSECUTIVE_FAILURES} contents in a row"):
        index(layout, [encoder], edited)
    assert len(ItemTable(layout.items)) == made.items == 42


def test_vectors_of_another_shape_than_was_promised_name_the_encoder(layout):
    encoder = Moody()
    encoder.rows_too_many = 1
    with pytest.raises(EncoderError, match=r"Moody gave an array of shape \(9, 16\) for 8 text contents .*\(8, 16\)"):
        index(layout, [encoder], items(TEXTS))


def test_a_space_of_another_length_under_an_old_fingerprint_is_refused(layout):
    encoder = Moody()
    index(layout, [encoder], items(TEXTS))
    encoder.spaces = {Modality.TEXT: (Space("moody", 8, "moody".ljust(40, "0")),)}
    with pytest.raises(StoreError, match="vectors of 16 numbers, but space 'moody' has 8"):
        index(layout, [encoder], items(TEXTS))


def test_two_encoders_of_a_modality_and_one_fails_for_all_who_share_the_content(layout):
    good, bad = Moody(), Moody(name="bad")
    bad.encode_fails = "bomb"
    tally, _ = index(layout, [good, bad], items(TEXTS))
    assert tally.quarantined == 2
    entries = mmrec.open(layout.root, encoders=[good, bad]).quarantined()
    assert {entry.id for entry in entries} == {"bad", "twin"}


def test_bytes_that_are_a_bad_sound_may_be_a_good_text(layout):
    path = layout.root.parent / "both.wav"
    path.write_text("words, not waves")
    sound = Item("sound", (Field(Modality.AUDIO, "sound", uri=str(path)),))
    text = Item("text", (Field(Modality.TEXT, "title", data=path.read_bytes()),))
    encoders = [Moody(), Moody(Modality.AUDIO, "ear")]
    index(layout, encoders, [*items(TEXTS), sound])
    tally, _ = index(layout, encoders, [*items(TEXTS), sound, text])
    assert (tally.added, tally.quarantined) == (1, 1)


def test_an_id_given_twice_is_taken_once_and_reported(layout):
    encoder = Moody()
    index(layout, [encoder], items(TEXTS))
    engine = mmrec.open(layout.root, encoders=[encoder])
    one, two = items({"new": "first"})[0], items({"new": "second"})[0]
    tally = engine.upsert([one, two])
    assert (tally.added, tally.quarantined) == (1, 1)
    assert engine.show("new").text == "first"
    assert "was given before" in engine.quarantined()[0].reason
    engine.upsert([two])
    assert (engine.show("new").text, engine.quarantined()) == ("second", [])


def test_an_item_of_many_files_is_not_read_again(layout, tmp_path):
    encoder = Moody(Modality.AUDIO, "ear")
    fields = []
    for n in range(100):
        path = tmp_path / f"{n}.wav"
        soundfile.write(path, 0.5 * np.sin(np.arange(160) / (n + 1)), 16000)
        fields.append(Field(Modality.AUDIO, "sounds", uri=str(path)))
    many = Item("many", tuple(fields))
    few = [Item(f"few{n}", (Field(Modality.AUDIO, "sounds", uri=fields[n].uri),)) for n in range(3)]
    first, _ = index(layout, [encoder], [many, *few])
    assert (first.read, first.encoded["audio"]) == (103, 100)
    second, _ = index(layout, [encoder], [many, *few])
    assert (second.read, second.encoded["audio"], second.changed) == (0, 0, 0)


def test_what_others_add_or_edit_during_a_run_is_not_removed_by_it(layout):
    encoder = Moody()
    index(layout, [encoder], items(TEXTS))
    engine = mmrec.open(layout.root, encoders=[encoder])

    def source():
        yield from items({f"i{n}": f"text {n}" for n in range(20)})  # i20 and on have left the source
        engine.upsert(items({"live": "a new one", "i30": "edited meanwhile"}))
        engine.delete(["i5"])

    tally, _ = index(layout, [encoder], source())
    left = {name for batch in ItemTable(layout.items).ids() for name in batch}
    assert left == {f"i{n}" for n in range(20)} - {"i5"} | {"live", "i30"}
    assert tally.removed == 21
