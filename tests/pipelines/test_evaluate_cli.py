"""The command ``mmrec evaluate`` on a real store with real events."""

import contextlib
import io
import json

import numpy as np
import pytest
from small_store import NAMES, index
from typer.testing import CliRunner

from mmrec.storage.layout import Layout
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app


def run(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run_app(app, ["evaluate", *map(str, arguments)])
    return code, out.getvalue()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A store of sixty items, of which forty people met eight each; one item is not in the store."""
    folder = tmp_path_factory.mktemp("evaluated")
    index(Layout(folder / "store"))
    rng, lines = np.random.default_rng(0), ["user,item,kind,time"]
    for person in range(40):
        begin = int(rng.integers(0, 10_000))
        for step, item in enumerate(rng.permutation(60)[:8].tolist()):
            kind = "hide" if step == 3 else "click"
            lines.append(f"u{person},{NAMES[item]},{kind},{1_700_000_000 + 60 * (begin + step)}")
    lines.append("u1,gone,click,1700000000")
    (folder / "log.csv").write_text("\n".join(lines))
    with contextlib.redirect_stdout(io.StringIO()):
        assert run_app(app, ["events", "import", str(folder / "store"), str(folder / "log.csv")]) == ExitCode.DONE
    return folder / "store"


def test_help_has_an_example_and_json_and_fits_80_columns():
    shown = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert shown.exit_code == 0
    assert "Example: mmrec evaluate" in shown.stdout
    assert "--json" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_a_time_split_is_measured_and_told(store, tmp_path, capfd):
    code, out = run(store, "--report", tmp_path / "new" / "page.html", "--category", "number", "--quantile", "0.7")
    assert code == ExitCode.DONE
    said = capfd.readouterr().err
    assert "users" in said
    assert "events predicted among 60 items" in said
    for name in ("random", "popularity", "item-kNN", "content mean", "new users", "miscalibration"):
        assert name in out.replace("\n", " ")
    assert "<svg" in (tmp_path / "new" / "page.html").read_text()


@pytest.mark.parametrize(
    ("arguments", "split"),
    [
        (["--split", "last"], "by time, last event only"),
        (["--split", "leave-one-out"], "leave one out"),
        (["--cold-items"], "by time"),
        (["--cold-users", "--quantile", "0.5"], "by time"),
        (["--allow-seen", "--users", "4"], "by time"),
    ],
)
def test_every_split_gives_one_json_document(store, arguments, split):
    code, out = run(store, *arguments, "--json")
    assert code == ExitCode.DONE
    found = json.loads(out)
    assert found["facts"]["split"] == split
    assert found["facts"]["time of the request"] == "known to the models"
    names = {"random", "popularity", "recent popularity", "item-kNN", "content mean", "interests"}
    assert set(found["models"]) == names
    assert set(found["against_reference"]) == set(found["models"]) - {found["reference"]}
    one = found["models"]["item-kNN"]["metrics"]["ndcg@10"]
    assert 0 <= one["low"] <= one["mean"] <= one["high"] <= 1
    if split != "by time":
        assert found["cases"] == found["users"]
    if "--cold-items" in arguments:
        assert found["facts"]["items held out"] == "6"
        assert "cold among cold" in found["models"]["popularity"]["cold_items"]
    if "--users" in arguments:
        assert found["users"] == 4 < found["all_users"]
    if "--cold-users" in arguments:
        assert found["users"] <= int(found["facts"]["users held out"])


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["no-such-store"], ExitCode.USAGE, "not a mmrec store"),
        (["{store}", "--quantile", "1.5"], ExitCode.USAGE, "between 0 and 1"),
        (["{store}", "--category", "colour"], ExitCode.USAGE, "no metadata column 'colour'; there are number"),
        (["{store}", "--split", "random"], ExitCode.USAGE, "leave-one-out"),
        (["{store}", "--report", "/proc/nowhere/page.html"], ExitCode.USAGE, "cannot be written"),
        (["{bare}"], ExitCode.USAGE, "has no events"),
    ],
)
def test_a_wrong_call_is_told(store, arguments, code, said, tmp_path, capfd):
    bare = tmp_path / "bare"
    if "{bare}" in arguments:
        index(Layout(bare))
    found, out = run(*(one.format(store=store, bare=bare) for one in arguments))
    assert (found, out) == (code, "")
    assert said in " ".join(capfd.readouterr().err.split())
    assert not Layout(bare).events.exists()


@pytest.mark.slow
def test_towers_are_trained_on_the_split_and_told_beside_the_baselines(store, tmp_path, capfd):
    config = tmp_path / "tower.toml"
    sizes = "dim = 8\nwidth = 8\ninner = 8\nlayers = 1\nheads = 1\nwindow = 8"
    config.write_text(f"device = 'cpu'\nepochs = 2\nevaluate_every = 1\n\n[tower]\n{sizes}\n")
    page = tmp_path / "page.html"
    code, out = run(store, "--quantile", "0.7", "--train", config, "--seeds", "2", "--report", page, "--json")
    assert code == ExitCode.DONE
    told = json.loads(out)
    assert {"interests", "tower", "ID-only SASRec"} <= set(told["models"])
    assert "seed 1, epoch 2" in capfd.readouterr().err
    assert "epoch" in page.read_text()


@pytest.mark.slow
def test_leave_one_out_asks_towers_with_and_without_the_time_of_the_request(store, tmp_path, capfd):
    config = tmp_path / "tower.toml"
    sizes = "dim = 8\nwidth = 8\ninner = 8\nlayers = 1\nheads = 1\nwindow = 8"
    config.write_text(f"device = 'cpu'\nepochs = 2\nevaluate_every = 1\n\n[tower]\n{sizes}\n")
    code, out = run(store, "--split", "leave-one-out", "--train", config)
    assert code == ExitCode.DONE
    assert "tower, time not known" in out
    assert "time of the request known to the models, but not to tower, time not known" in " ".join(
        capfd.readouterr().err.split()
    )


def test_a_configuration_that_is_none_is_told(store, tmp_path, capfd):
    config = tmp_path / "tower.toml"
    config.write_text("[tower]\nsize = 3\n")
    assert run(store, "--train", config)[0] == ExitCode.USAGE
    assert "tower.size" in capfd.readouterr().err
