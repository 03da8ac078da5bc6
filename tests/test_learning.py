"""From recorded behaviour to lists of a trained tower, through a real store."""

import shutil
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from small_store import NAMES, Cheap, index, spaces

import mmrec
import mmrec.jobs.index
from mmrec.errors import StoreBusyError, StoreError, UsageError
from mmrec.events.event import Event
from mmrec.events.log import open_log
from mmrec.generation.generation import open_generation
from mmrec.jobs.train import train_and_publish
from mmrec.storage.generations import current_number
from mmrec.storage.layout import Layout
from mmrec.training.config import TrainingConfig
from mmrec.types import Field, Item, Modality, Space
from mmrec.users.tower_config import TowerConfig
from mmrec.verification.repair import repair_store
from mmrec.verification.verify import verify_store
from pipelines.cli import app
from pipelines.outcome import run_app

START = datetime(2026, 1, 1, tzinfo=UTC)
CONFIG = TrainingConfig(
    tower=TowerConfig(dim=16, width=16, inner=32, layers=1, window=12, dropout=0.1),
    epochs=60,
    evaluate_every=5,
    device="cpu",
)


def walks():
    """People who go through the catalog in its order, each from another place; the last item is nobody's."""
    return [
        Event(f"p{person}", NAMES[(person * 7 + step) % 59], "like", START + timedelta(hours=person, minutes=step))
        for person in range(40)
        for step in range(12)
    ]


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    layout = Layout(tmp_path_factory.mktemp("learning") / "store")
    index(layout)
    log = open_log(layout.events)
    log.append(walks())
    before = mmrec.open(layout.root, encoders=[Cheap()]).search("i7", k=5)
    learned = train_and_publish(layout, log, CONFIG, layout.root / "training")
    log.close()
    return layout, learned, before


def opened(layout):
    return mmrec.open(layout.root, encoders=[Cheap()])


def test_what_comes_next_is_recommended(taught):
    layout, learned, _ = taught
    assert learned.report.ndcg > 0.9
    found = opened(layout).recommend(history=NAMES[20:26], k=3)
    assert found.model == "tower"
    assert found.hits[0].id == NAMES[26]
    assert found.generation == learned.manifest.number == current_number(layout)
    assert opened(layout).recommend("p0", k=1).hits[0].id == NAMES[12]


def test_search_is_what_it_was(taught):
    layout, _, before = taught
    after = opened(layout).search("i7", k=5)
    assert [(hit.id, hit.score) for hit in after.hits] == [(hit.id, hit.score) for hit in before.hits]
    assert after.generation > before.generation


def test_a_store_with_a_tower_is_sound_and_damage_to_it_is_found(taught, tmp_path):
    layout, learned, _ = taught
    report = verify_store(layout)
    assert report.sound, report.findings
    assert report.checked["taste_recall"] == 1
    for name in ("taste.npy", "taste.faiss", "tower.safetensors", "tower.json"):
        path = layout.generations / str(learned.manifest.number) / name
        whole = path.read_bytes()
        path.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
        assert not verify_store(layout).sound, name
        path.write_bytes(whole)
    assert verify_store(layout).sound


@pytest.mark.parametrize("name", ["vectors.npy", "fusion.safetensors", "manifest.json"])
def test_mending_keeps_the_tower(taught, tmp_path, name):
    layout, learned, _ = taught
    copy = Layout(tmp_path / "copy")
    shutil.copytree(layout.root, copy.root)
    (copy.generations / str(learned.manifest.number) / name).write_bytes(b"damaged")
    assert not verify_store(copy).sound
    repair_store(copy, spaces)
    assert verify_store(copy).sound
    assert current_number(copy) > learned.manifest.number
    assert opened(copy).recommend(history=NAMES[20:26], k=1).hits[0].id == NAMES[26]


def test_new_items_are_placed_at_once_and_the_tower_stays_with_the_next_generation(taught):
    layout, learned, _ = taught
    engine = opened(layout)
    engine.upsert([Item("newcomer", (Field(Modality.TEXT, "title", text="newcomer"),), {"number": 2}, 1)])
    listed = engine.recommend(history=NAMES[20:26], k=100)
    assert "newcomer" in {hit.id for hit in listed.hits}
    assert engine.recommend(history=["newcomer", "unheard of"], k=3).unknown == ("unheard of",)
    index(layout, (*NAMES, "newcomer"))
    number = current_number(layout)
    assert number > learned.manifest.number
    generation = open_generation(layout, number)
    assert generation.tower_index is not None
    assert len(generation.tower_index.index) == len(NAMES) + 1
    again = opened(layout).recommend(history=NAMES[20:26], k=100)
    assert [hit.id for hit in again.hits] == [hit.id for hit in listed.hits]


def test_removed_items_are_recommended_no_more(taught):
    layout, _, _ = taught
    engine = opened(layout)
    assert NAMES[36] in {hit.id for hit in engine.recommend(history=NAMES[30:36], k=2).hits}
    engine.delete(NAMES[36])
    assert NAMES[36] not in {hit.id for hit in engine.recommend(history=NAMES[30:36], k=100).hits}


def test_a_tower_goes_when_the_vectors_that_it_learned_from_do(taught):
    layout, _, _ = taught
    index(layout, refit=True)
    assert open_generation(layout, current_number(layout)).tower_index is None
    assert opened(layout).recommend(history=NAMES[20:26], k=3).model != "tower"
    assert np.isfinite(opened(layout).rollback())
    assert opened(layout).recommend(history=NAMES[20:26], k=1).hits[0].id == NAMES[26]


@pytest.mark.parametrize("moves", [True, False])
def test_a_migration_that_costs_the_tower_says_so_before_it_begins(taught, monkeypatch, capfd, moves):
    layout, _, _ = taught
    other = Cheap()
    if moves:
        other.spaces = {Modality.TEXT: (Space("cheaper", 16, "d" * 40),)}
    monkeypatch.setattr(mmrec.jobs.index, "load_encoders", lambda *_, **__: [other])
    said = []

    def instead(*_):
        said.append(capfd.readouterr().err)
        raise UsageError("not in this test")

    monkeypatch.setattr(mmrec.jobs.index, "reindex_items", instead)
    number = current_number(layout)
    assert run_app(app, ["reindex", str(layout.root), "--encoders", "packaged"]) == 2
    assert ("trained tower" in said[0]) == moves
    assert (f"mmrec train {layout.root}" in said[0]) == moves
    assert current_number(layout) == number


@pytest.mark.parametrize("refit", [False, True])
def test_a_catalog_is_taken_in_while_a_tower_is_trained(tmp_path, refit):
    layout = Layout(tmp_path / "store")
    index(layout)
    log = open_log(layout.events)
    log.append(walks())
    quick = CONFIG.model_copy(update={"epochs": 1, "evaluate_every": 1})

    def meanwhile(_):
        index(layout, (*NAMES, "late"), refit=refit)
        with pytest.raises(StoreBusyError):
            train_and_publish(layout, log, quick, tmp_path / "training")

    if refit:
        with pytest.raises(StoreError, match="train again"):
            train_and_publish(layout, log, quick, tmp_path / "training", on_epoch=meanwhile)
        assert open_generation(layout, current_number(layout)).tower_index is None
    else:
        made = train_and_publish(layout, log, quick, tmp_path / "training", on_epoch=meanwhile).manifest
        assert made.number == current_number(layout) == 3
        assert len(open_generation(layout, 3).tower_index.index) == len(NAMES) + 1
    log.close()


def test_nothing_to_learn_from(tmp_path):
    layout = Layout(tmp_path / "store")
    index(layout)
    log = open_log(layout.events)
    with pytest.raises(UsageError, match="no event"):
        train_and_publish(layout, log, CONFIG, tmp_path / "training")
    log.close()
    assert current_number(layout) == 1
