"""Whole runs of `mmrec finetune` on a store: taste is learned from what people did, chance teaches nothing."""

import contextlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from finetuning.colours import write_catalog, write_events
from safetensors.numpy import load_file

import mmrec
from mmrec.encoders.presets import load_encoders
from mmrec.types import Modality
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

CONFIG = """
device = "cpu"
batch = 64
rate = 3e-3
epochs = 30
patience = 30
[towers.text]
how = "head"
[coengage]
before = 0.7
[held_out]
validation = 0.2
test = 0.2
"""


def run(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run_app(app, [str(argument) for argument in arguments])
    assert code == ExitCode.DONE, out.getvalue()
    return json.loads(out.getvalue())


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A folder with a store, its events as they were and shuffled, and a configuration."""
    folder = tmp_path_factory.mktemp("shop")
    columns = ["--id", "id", "--text", "text", "--metadata", "colour", "--metadata", "dealt"]
    run("index", write_catalog(folder / "catalog.jsonl"), folder / "store", *columns, "--json")
    run("events", "import", folder / "store", write_events(folder / "true.csv", shuffled=False), "--json")
    shuffled = write_events(folder / "shuffled.csv", shuffled=True)
    elsewhere = f"sqlite:///{folder}/shuffled.db"
    run("events", "import", folder / "store", shuffled, "--events", elsewhere, "--json")
    (folder / "tune.toml").write_text(CONFIG)
    return folder


def tuned(shop, objective, out, *more):
    return run("finetune", objective, shop / "store", "--config", shop / "tune.toml", "--out", out, *more, "--json")


def sides(report, metric, asked):
    (line,) = (line for line in report["verdict"]["lines"] if (line["metric"], line["asked"]) == (metric, asked))
    return line["before"]["mean"], line["after"]["mean"]


@pytest.fixture(scope="module")
def taught(shop):
    return shop / "taught", tuned(shop, "coengage", shop / "taught")


@pytest.mark.slow
def test_taste_is_learned_told_and_written(shop, taught):
    out, told = taught
    assert told["verdict"] == "helped"
    text = (out / "report.json").read_text()
    assert "NaN" not in text  # no JSON: browsers refuse it
    report = json.loads(text)
    assert report["objective"] == "coengage"
    assert (
        report["counts"]["items"] == 120 == sum(report["counts"][part] for part in ("trained on", "validation", "test"))
    )
    before, after = sides(report, "mrr", "the next item, one held out")
    assert before < 0.25
    # About five others of the same colour are held out too, each as good an answer.
    assert after > 0.35
    assert sides(report, "r@10", "the next item, later")[1] > 0.7
    page = (out / "report.html").read_text()
    assert report["verdict"]["sentence"] in page
    assert "the next item, one held out" in page
    assert "validation MRR" in page
    assert json.loads((out / "encoders" / "verdict.json").read_text())["word"] == "helped"
    assert (out / "curves.png").read_bytes().startswith(b"\x89PNG")
    card = (out / "encoders" / "minilm" / "README.md").read_text()
    assert report["verdict"]["sentence"] in card


@pytest.mark.slow
def test_what_was_learned_is_found_by_a_store_that_moves_to_it(shop, taught):
    out, _ = taught
    run("index", shop / "catalog.jsonl", shop / "moved", *("--id", "id", "--text", "text"), "--json")
    moved = run("reindex", shop / "moved", "--encoders", out / "encoders", "--json")
    assert moved["items"] == 120
    assert (moved["encoded"], moved["read"]) == ({}, 0)  # the head's vectors follow from the stored ones
    assert run("verify", shop / "moved", "--full", "--json")["findings"] == []
    again = run("reindex", shop / "moved", "--encoders", out / "encoders", "--json")
    assert (again["encoded"], again["generation"]) == ({}, moved["generation"])

    def share(folder):
        engine = mmrec.open(folder)
        near = [hit.id for colour in ("red", "pink") for hit in engine.similar(f"{colour}-car", k=10).hits]
        return np.mean([name.startswith(("red-", "pink-")) for name in near])

    assert share(shop / "moved") > share(shop / "store")
    spaces = {space.name for one in load_encoders(out / "encoders") for space in one.spaces.get(Modality.TEXT, ())}
    assert "minilm-aligned" in spaces


def test_without_a_configuration_a_head_is_solved_for(shop):
    told = run("finetune", "coengage", shop / "store", "--out", shop / "solved", "--json")
    assert (told["verdict"], told["epochs"]) == ("helped", 0)
    assert not (shop / "solved" / "curves.png").exists()
    elsewhere = f"sqlite:///{shop}/shuffled.db"
    told = run("finetune", "coengage", shop / "store", "--out", shop / "luck", "--events", elsewhere, "--json")
    assert told["verdict"] in {"no difference", "hurt"}


@pytest.mark.slow
def test_a_run_that_is_killed_ends_with_the_same_weights(shop, taught):
    whole, _ = taught
    out = shop / "killed"
    command = ["coengage", str(shop / "store"), "--config", str(shop / "tune.toml"), "--out", str(out)]
    root = Path(__file__).resolve().parents[2]
    settings = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
    with subprocess.Popen(
        [sys.executable, "-m", "pipelines.finetune", *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=settings,
    ) as job:
        said = []
        for line in job.stderr:
            said.append(line)
            if line.startswith("epoch 3:"):
                job.kill()
                break
    assert job.returncode == -9, said
    assert (out / "checkpoint.safetensors").exists()
    assert not (out / "report.json").exists()
    told = tuned(shop, "coengage", out)
    assert told["epochs"] == 30
    reports = [json.loads((folder / "report.json").read_text()) for folder in (whole, out)]
    for report in reports:
        for point in report["curve"]:
            del point["seconds"]
    assert json.dumps(reports[0]) == json.dumps(reports[1])
    heads = [load_file(folder / "encoders" / "minilm" / "minilm-aligned.safetensors") for folder in (whole, out)]
    assert heads[0].keys() == heads[1].keys()
    for name, weight in heads[0].items():
        assert np.array_equal(weight, heads[1][name]), name


def test_a_training_does_not_go_on_with_other_behaviour(shop, taught):
    out, _ = taught
    elsewhere = ["--events", f"sqlite:///{shop}/shuffled.db"]
    command = ["finetune", "coengage", shop / "store", "--config", shop / "tune.toml", "--out", out, *elsewhere]
    assert run_app(app, [str(argument) for argument in command]) == ExitCode.USAGE


@pytest.mark.slow
def test_behaviour_by_chance_teaches_nothing(shop):
    told = tuned(shop, "coengage", shop / "chance", "--events", f"sqlite:///{shop}/shuffled.db")
    assert told["verdict"] in {"no difference", "hurt"}


@pytest.mark.slow
def test_labels_are_learned_and_those_by_chance_are_not(shop):
    told = tuned(shop, "label", shop / "colours", "--column", "colour")
    assert (told["verdict"], told["labels"]) == ("helped", 10)
    report = json.loads((shop / "colours" / "report.json").read_text())
    assert report["verdict"]["metric"] == "r@1"
    before, after = sides(report, "r@1", "same label")
    assert before < 0.3
    assert after > 0.7
    assert "validation R@1" in (shop / "colours" / "report.html").read_text()
    assert tuned(shop, "label", shop / "dealt", "--column", "dealt")["verdict"] in {"no difference", "hurt"}
