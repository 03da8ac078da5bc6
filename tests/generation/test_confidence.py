"""A modality counts as far as the catalog's own items agree with it, and a person's weights as they are given."""

import io
import json
import shutil

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image
from safetensors import safe_open

import mmrec
from mmrec.encoders.protocol import Sample
from mmrec.generation.fuse import advice_of, recipe_like, spaces_of
from mmrec.generation.generation import FUSION, open_generation
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality, Space

COUNT, TOPICS = 240, 12
TEXT, IMAGE = Modality.TEXT, Modality.IMAGE
WORDS, PIXELS = Space("words", 48, "a" * 40), Space("pixels", 64, "b" * 40)
BRIDGE = Space("pixels-bridge", 48, "c" * 40, approximates="a" * 40)


def direction(name, dim):
    seed = int.from_bytes(name.encode().ljust(8, b"."), "little")
    return np.random.default_rng(seed).normal(size=dim) / np.sqrt(dim)


class Made:
    """Texts ``i17`` of topic 17 % 12, their vaguer form ``q17``, topics ``t5``, and pictures that show an item."""

    spaces = {TEXT: (WORDS,), IMAGE: (PIXELS, BRIDGE)}  # noqa: RUF012
    batch_cost = 64
    module = None

    def prepare(self, modality, content):
        if modality is IMAGE:
            red, green, _ = content.convert("RGB").getpixel((0, 0))
            content = f"i{red * 256 + green}"
        return Sample(np.array([content]), 1)

    def encode(self, modality, samples):
        names = [str(one.tensor[0]) for one in samples]
        if modality is TEXT:
            return {"words": rows([words(name) for name in names])}
        topics = [int(name[1:]) % TOPICS for name in names]
        shown = [direction(f"p{t}", 64) + direction(f"x{name}", 64) for t, name in zip(topics, names, strict=True)]
        bridged = [direction(f"t{t}", 48) + direction(f"y{name}", 48) for t, name in zip(topics, names, strict=True)]
        return {"pixels": rows(shown), "pixels-bridge": rows(bridged)}


def words(name):
    kind, number = name[0], int(name[1:])
    topic = direction(f"t{number % TOPICS}", 48)
    if kind == "t":
        return topic + direction(f"a{name}", 48)
    vague = 4 * direction(f"v{name}", 48) if kind == "q" else 0
    return topic + 1.8 * direction(f"d{number}", 48) + vague


def rows(some):
    made = np.stack(some).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


def picture(number):
    kept = io.BytesIO()
    Image.new("RGB", (8, 8), (number // 256, number % 256, 9)).save(kept, "PNG")
    return kept.getvalue()


def indexed(root, shown, *, backwards=False, **how):
    """Index a store whose item i shows the picture of item `shown[i]`; no pictures where None."""
    items = []
    for number in range(COUNT):
        fields = (Field(TEXT, "title", text=f"i{number}"),)
        if shown is not None:
            fields += (Field(IMAGE, "picture", data=picture(int(shown[number]))),)
        items.append(Item(f"i{number}", fields, {"topic": number % TOPICS}, number))
    items = items[::-1] if backwards else items
    schema = pa.schema([("topic", pa.int64())])
    return mmrec.index_items(items, schema, Layout(root), [Made()], mmrec.Indexing(encoder_source="made", **how))[1]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """Stores of the same texts: without pictures, with their own, with others', and with others' and given weights."""
    root = tmp_path_factory.mktemp("stores")
    others = np.random.default_rng(0).permutation(COUNT)
    made = {"none": indexed(root / "none", None), "own": indexed(root / "own", np.arange(COUNT))}
    made["others"] = indexed(root / "others", others)
    made["given"] = indexed(root / "given", others, weights=dict.fromkeys(Modality, 1.0))
    return root, made


def measured(root, name):
    """Share of vague texts that find their item first, of topics' top tens, and of items like an item, that fit."""
    engine = mmrec.open(root / name, encoders=[Made()])
    first = [engine.search(f"q{n}", k=1).hits[0].id == f"i{n}" for n in range(80)]
    topics = [hit.metadata["topic"] == t for t in range(TOPICS) for hit in engine.search(f"t{t}", k=10).hits]
    alike = [hit.metadata["topic"] == n % TOPICS for n in range(40) for hit in engine.similar(f"i{n}", k=3).hits]
    return {"first": np.array(first), "topics": np.array(topics), "alike": np.array(alike)}


def test_pictures_that_say_nothing_cost_nothing_and_those_that_help_go_on_helping(shop):
    root, _ = shop
    none, own, others, given = (measured(root, name) for name in ("none", "own", "others", "given"))
    for name, without in none.items():
        lost, harm = (without.astype(float) - store[name] for store in (others, given))
        assert lost.mean() <= 2 * lost.std() / np.sqrt(len(lost)) + 1e-9, name
    # Where nothing is measured the same pictures do harm to what is alike: this test can fail. Queries by text are
    # harmed less, as matches with them fade where the item's own text matches.
    assert harm.mean() > 2 * harm.std() / np.sqrt(len(harm))
    for name in ("topics", "alike"):
        assert own[name].mean() > none[name].mean() + 0.05, name


def test_what_was_measured_is_said_with_its_figures_and_the_way_out(shop):
    root, made = shop
    assert not advice_of(made["own"])
    assert not made["given"].agreement
    assert not made["none"].agreement
    (sentence,) = advice_of(made["others"])
    figures = made["others"].agreement["image"]
    assert figures["items"] == COUNT
    assert figures["low"] < 0.5 < figures["high"]
    for said in (
        "no better than chance",
        f"{figures['rate']:.1%}",
        "240 items",
        "2% of its weight",
        "--weights text=1",
    ):
        assert said in sentence
    status = mmrec.open(root / "others", encoders=[Made()]).status()
    assert status["advice"] == [sentence]
    assert status["agreement"]["pixels-bridge.image"]["confidence"] == pytest.approx(0.02)


def test_matches_at_chance_do_not_shout_and_can_still_be_asked_alone(shop):
    root, _ = shop
    best = {}
    for name in ("own", "others", "given"):
        hits = mmrec.open(root / name, encoders=[Made()]).search("t3", against="image", k=10).hits
        best[name] = hits[0].score
        assert len(hits) == 10
        assert hits[0].score > hits[9].score > 0
    assert best["others"] < 0.02
    assert min(best["own"], best["given"]) > 0.3


def test_what_was_measured_stays_until_a_refit_and_given_weights_stay_given(tmp_path):
    own, others = np.arange(COUNT), np.random.default_rng(0).permutation(COUNT)
    first = indexed(tmp_path, own)
    kept = indexed(tmp_path, others)
    assert kept.number == first.number + 1
    assert kept.agreement == first.agreement
    again = indexed(tmp_path, others, refit=True)
    assert again.agreement["image"]["confidence"] < 0.1 < first.agreement["image"]["confidence"]
    given = indexed(tmp_path, others, weights={TEXT: 1.0, IMAGE: 1.0})
    assert given.number == again.number + 1
    assert not given.agreement
    fusion = open_generation(Layout(tmp_path), given.number).fusion
    np.testing.assert_array_equal(fusion.effective_weights, fusion.weights)
    assert not indexed(tmp_path, others, refit=True).agreement
    assert recipe_like(given, spaces_of(fusion)).weights_given
    assert indexed(tmp_path, others, weights={}).agreement == again.agreement


def test_order_and_rerun_give_the_same_measurement(shop, tmp_path):
    _, made = shop
    assert indexed(tmp_path, np.arange(COUNT), backwards=True).agreement == made["own"].agreement


def test_a_store_written_before_anything_was_measured_answers_as_it_did(shop, tmp_path):
    root, _ = shop
    shutil.copytree(root / "given", tmp_path / "old")
    layout = Layout(tmp_path / "old")
    file = layout.generations / "1" / "manifest.json"
    written = json.loads(file.read_bytes())
    for name in ("weights_given", "agreement", "digest"):
        written.pop(name)
    file.write_text(json.dumps(written))
    old, new = (mmrec.open(folder, encoders=[Made()]) for folder in (layout.root, root / "given"))
    for ask in ("q3", "t5"):
        for against in (None, "image"):
            one, other = (
                [(hit.id, hit.score) for hit in engine.search(ask, against=against).hits] for engine in (old, new)
            )
            assert one == other
    assert not old.generations()[0].chose_weights
    with safe_open(layout.generations / "1" / FUSION, framework="numpy") as fusion:
        assert set(fusion.metadata()) == {"blocks"}
