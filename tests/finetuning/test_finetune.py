"""A real store of stamps, fine-tuned: heads learn, shuffled pairs do not, what is saved loads and says what it is."""

import json
import random

import numpy as np
import pyarrow as pa
import pytest

from mmrec.encoders.presets import load_encoders
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.finetune import finetune
from mmrec.finetuning.towers import load_sources
from mmrec.indexing import Indexing, index_items
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality


@pytest.fixture(scope="module")
def stores(stamps_root, tmp_path_factory, packaged):
    """Texts and pictures of stamps, as they belong together and shuffled."""
    pictures = sorted(stamps_root.rglob("*.png"))[::5]
    pairs = [
        (path, path.with_suffix(".txt").read_text(errors="replace").splitlines()[0])
        for path in pictures
        if path.with_suffix(".txt").exists()
    ][:90]
    texts = [text for _, text in pairs]
    random.Random(0).shuffle(texts)
    layouts = {}
    for name, some in (("true", [text for _, text in pairs]), ("shuffled", texts)):
        items = []
        for number, ((path, _), text) in enumerate(zip(pairs, some, strict=True)):
            fields = (Field(Modality.TEXT, "text", text=text), Field(Modality.IMAGE, "picture", uri=str(path)))
            folder = path.relative_to(stamps_root).parts[-2]
            items.append(Item(f"i{number}", fields, {"folder": folder}, number))
        layout = Layout(tmp_path_factory.mktemp("stores") / name)
        index_items(items, pa.schema([("folder", pa.string())]), layout, packaged, Indexing())
        layouts[name] = layout
    return layouts


def config(**settings):
    held = {"validation": 0.2, "test": 0.3, "together": ("text",)}
    towers = {"text": {"how": "frozen"}, "image": {"how": "head"}}
    plain = {"device": "cpu", "towers": towers, "batch": 64, "epochs": 30, "rate": 2e-3, "patience": 10}
    return FinetuneConfig(**{**plain, "held_out": held, **settings})


@pytest.mark.slow
def test_heads_of_a_store_are_trained_saved_and_told_of(stores, tmp_path):
    done = finetune(stores["true"], load_sources(device="cpu"), "align", config(), tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["counts"]["trained on"] > report["counts"]["test"] > 0
    assert report["verdict"]["word"] in {"helped", "no difference"}
    assert done.verdict.sentence == report["verdict"]["sentence"]
    assert {line["asked"] for line in report["verdict"]["lines"]} >= {"text -> image", "image -> text"}
    assert done.curve[-1].loss < done.curve[0].loss
    assert (tmp_path / "out" / "curves.png").read_bytes().startswith(b"\x89PNG")
    spaces = [
        space
        for one in load_encoders(tmp_path / "out" / "encoders", device="cpu")
        for space in one.spaces.get(Modality.IMAGE, ())
    ]
    assert any("aligned" in space.name and space.approximates for space in spaces)


@pytest.mark.slow
def test_shuffled_pairs_do_not_help(stores, tmp_path):
    done = finetune(stores["shuffled"], load_sources(device="cpu"), "align", config(), tmp_path / "out")
    assert done.verdict.word in {"no difference", "hurt"}
    line = next(one for one in done.verdict.lines if one.asked == "text -> image" and one.metric == "r@1")
    chance = 1 / (done.counts["validation"] + done.counts["test"])
    assert line.after.low <= chance <= line.after.high or line.after.mean < chance


def test_labels_are_learned(stores, tmp_path):
    settings = config(label={"column": "folder"}, towers={"text": {"how": "head"}, "image": {"how": "head"}}, epochs=5)
    done = finetune(stores["true"], load_sources(device="cpu"), "label", settings, tmp_path / "out")
    assert done.counts["labels"] > 2
    assert np.isfinite(done.verdict.lines[0].difference.mean)


def judged(layout, folder, seed):
    """R@10 over all questions before and after, with the heads that are fitted where nothing is said."""
    done = finetune(layout, load_sources(device="cpu"), "align", config(towers={}, seed=seed), folder)
    line = next(one for one in done.verdict.lines if (one.asked, one.metric) == ("all", "r@10"))
    return done, line


@pytest.mark.slow
@pytest.mark.parametrize("name", ["true", "shuffled"])
def test_heads_that_are_fitted_on_little_do_not_hurt(stores, tmp_path, name):
    """45 items are taught; of these seeds, two were hurt by heads that started from nothing."""
    reports = [judged(stores[name], tmp_path / str(seed), seed) for seed in (0, 1, 7)]
    assert all(report.counts["trained on"] == 45 for report, _ in reports)
    assert all(report.verdict.word != "hurt" for report, _ in reports)
    if name == "true":
        assert np.mean([line.difference.mean for _, line in reports]) > 0
