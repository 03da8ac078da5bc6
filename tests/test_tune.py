"""`mmrec tune`: the choice is published with its measured recall, and nothing is where none fits."""

import json

import pytest
from small_store import Cheap, index
from typer.testing import CliRunner

import mmrec
from indexers.tuning import Requirement
from mmrec.errors import UsageError
from mmrec.jobs.tune import TuneOptions, tune_index
from mmrec.storage.layout import Layout
from pipelines.cli import app

NAMES = tuple(f"item{n}" for n in range(700))
RECIPES = ("Flat", "HNSW32,Flat")


@pytest.fixture
def layout(tmp_path):
    made = Layout(tmp_path / "store")
    index(made, NAMES)
    return made


def test_the_choice_is_published_and_answers(layout):
    found = tune_index(layout, TuneOptions(Requirement(0.9), RECIPES, apply=True))
    assert found.generation == 2
    assert set(found.queries) == {"item", "text"}
    store = mmrec.open(layout.root, encoders=[Cheap()])
    made = store.generations()[-1]
    assert found.tuning.choice is not None
    assert (made.index_factory, dict(made.index_search)) == (
        found.tuning.choice.spec.factory,
        dict(found.tuning.choice.spec.search),
    )
    assert made.checks["recall"] >= 0.9
    assert store.search("item77", k=1).hits[0].id == "item77"
    index(layout, [*NAMES, "another"])
    assert mmrec.open(layout.root, encoders=[Cheap()]).generations()[-1].index_factory == made.index_factory


def test_nothing_is_published_where_none_fits(layout):
    wanted = Requirement(0.9, milliseconds=1e-6)
    assert tune_index(layout, TuneOptions(wanted, RECIPES)).tuning.choice is None
    with pytest.raises(UsageError, match="no recipe meets the requirement; the nearest misses latency"):
        tune_index(layout, TuneOptions(wanted, RECIPES, apply=True))
    assert len(mmrec.open(layout.root, encoders=[Cheap()]).generations()) == 1


def test_the_command_prints_and_applies(layout):
    run = CliRunner().invoke(app, ["tune", str(layout.root), "--recipe", "Flat", "--recipe", "HNSW32,Flat", "--json"])
    assert run.exit_code == 0, run.output
    found = json.loads(run.stdout)
    assert found["generation"] is None
    assert {row["recipe"] for row in found["trials"]} == set(RECIPES)
    assert found["chosen"]["recall"] >= 0.95
    shown = CliRunner().invoke(app, ["tune", str(layout.root), "--recipe", "Flat", "--apply"])
    assert shown.exit_code == 0, shown.output
    assert "Generation 2 has it" in shown.output
    wrong = CliRunner().invoke(app, ["tune", str(layout.root), "--recall", "2"])
    assert wrong.exit_code != 0
