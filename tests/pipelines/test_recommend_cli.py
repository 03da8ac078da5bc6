"""``mmrec recommend``, on texts with the packaged encoder."""

import contextlib
import io
import json
import re
from datetime import UTC, datetime

import pytest
from exchange_shop import index, titles
from rich.console import Console
from typer.testing import CliRunner

import mmrec
from mmrec.snapshot import title_of
from mmrec.storage.layout import Layout
from mmrec.storage.stored_item import StoredItem
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

TEXTS = {
    "kettle": "an electric kettle for tea",
    "teapot": "a porcelain teapot with two cups",
    "pan": "a frying pan for the kitchen",
    "mug": "a mug for hot tea",
    "tent": "a tent for two people",
    "stove": "a camping stove with gas",
    "bag": "a warm sleeping bag for camping",
    "boots": "hiking boots for the mountains",
}
CAMPING = {"tent", "stove", "bag", "boots"}


@pytest.fixture(scope="module")
def store(tmp_path_factory, packaged):
    layout = Layout(tmp_path_factory.mktemp("things") / "store")
    index(layout, packaged[:1], titles(TEXTS))
    with contextlib.closing(mmrec.open(layout.root)) as engine:
        engine.record([mmrec.Event("ada", name, "like", datetime.now(UTC)) for name in ("tent", "bag")])
    return str(layout.root)


def run(*arguments):
    out, told = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(told):
        code = run_app(app, ["recommend", *map(str, arguments)])
    return code, out.getvalue(), told.getvalue()


def answer(*arguments):
    code, out, _ = run(*arguments, "--json")
    assert code == ExitCode.DONE, out
    return json.loads(out)


def test_help_has_an_example_and_json_and_fits_80_columns():
    shown = CliRunner().invoke(app, ["recommend", "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert shown.exit_code == 0
    assert "Example: mmrec recommend" in shown.stdout
    assert "--json" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_a_user_a_history_a_text_and_nobody(store):
    found = answer(store, "--user", "ada", "-k", 2)
    assert {row["id"] for row in found["results"]} == CAMPING - {"tent", "bag"}
    assert (found["events"], found["popular_share"], found["model"]) == (2, 0, "content interests")
    assert {row["id"] for row in answer(store, "--history", "kettle,mug", "-k", 1)["results"]} == {"teapot"}
    assert answer(store, "--text", "tea", "-k", 3)["results"][0]["source"] == "text"
    stranger = answer(store)
    assert {row["id"] for row in stranger["results"][:2]} == {"tent", "bag"}
    assert {row["source"] for row in stranger["results"]} == {"popular"}


def test_options_act(store):
    everything = {row["id"] for row in answer(store, "--user", "ada", "--allow-seen")["results"]}
    assert everything == set(TEXTS)
    without = {row["id"] for row in answer(store, "--user", "ada", "--hide", "stove")["results"]}
    assert without == set(TEXTS) - {"tent", "bag", "stove"}
    assert {row["id"] for row in answer(store, "--user", "ada", "--where", "id in ('pan', 'mug')")["results"]} == {
        "pan",
        "mug",
    }
    plain, spread = (answer(store, "--user", "ada", "--diversity", dial)["results"] for dial in (0, 1))
    assert [row["id"] for row in plain] != [row["id"] for row in spread]
    because = answer(store, "--user", "ada", "--explain")["results"][0]["because"]
    assert because[0]["id"] in {"tent", "bag"}
    assert because[0]["shares"]["text"] == pytest.approx(because[0]["similarity"])
    assert because[0]["title"] == TEXTS[because[0]["id"]]


def test_reasons_name_titles_and_say_what_the_number_is(store, monkeypatch):
    monkeypatch.setattr("pipelines.console.data", Console(width=200, highlight=False))
    _, out, told = run(store, "--user", "ada", "--explain")
    assert re.search(r"like a tent for two people \[tent\] 0\.\d\d", " ".join(out.split()))
    assert "cosine: 1 is the same, 0 has nothing in common" in " ".join(told.split())
    assert "cosine" not in run(store, "--user", "ada")[2]


def test_recording_says_which_items_are_not_there(store):
    with contextlib.closing(mmrec.open(store)) as engine:
        events = [mmrec.Event("eve", name, "view", datetime.now(UTC)) for name in ("gone", "mug", "lost", "gone")]
        assert engine.record(events).unknown_items == ("gone", "lost")
        assert engine.record(events[1:2]).unknown_items == ()


@pytest.mark.parametrize(
    ("text", "metadata", "title"),
    [
        ("first line\nsecond", {"year": 1995}, "first line"),
        ("first line", {"Title": "Heat", "name": "other"}, "Heat"),
        (None, {"title": " ", "headline": "News"}, "News"),
        (None, {}, ""),
        ("w" * 80, {}, "w" * 59 + "…"),
    ],
)
def test_titles(text, metadata, title):
    assert title_of(StoredItem("id", b"", text, (), metadata)) == title


def test_tables_and_what_is_said_beside_them(store):
    code, out, told = run(store, "--user", "ada", "--history", "no such thing,mug", "--explain")
    assert code == ExitCode.DONE
    assert "like" in out
    assert "No item is called no such thing" in told
    assert "3 events; interests weighted" in told
    told = " ".join(run(store, "--user", "nobody")[2].split())
    assert "100% by popularity" in told
    assert "There is no event of user 'nobody'; the list is made from popular items." in told
    assert "the other options" in run(store, "--user", "nobody", "--text", "tea")[2]
    assert answer(store, "--user", "nobody")["unknown_user"] is True
    assert answer(store, "--user", "ada")["unknown_user"] is answer(store)["unknown_user"] is False
    code, _, told = run(store, "--user", "ada", "--where", "id = 'x'")
    assert code == ExitCode.DONE
    assert "Nothing found. Widen --where" in told


@pytest.mark.parametrize(
    "wrong",
    [["--diversity", "2"], ["--history", "a,,b"], ["--where", "nothing = 1"], ["--text", " "], ["-k", "0"]],
)
def test_wrong_usage_ends_with_2(store, wrong):
    assert run(store, *wrong)[0] == ExitCode.USAGE
    code, out, _ = run(store, *wrong, "--json")
    assert code == ExitCode.USAGE
    assert json.loads(out)["error"]["message"]
