"""The commands of ``mmrec events``, on real films and ratings."""

import contextlib
import io
import json
import re

import pytest
from typer.testing import CliRunner

from mmrec.examples import ml_100k_folder
from mmrec.storage.layout import Layout
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

COMMANDS = ["import", "export", "stats", "refused", "forget"]


def run(*arguments):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        code = run_app(app, [str(argument) for argument in arguments])
    return code, out.getvalue()


def answer(*arguments):
    code, out = run("events", *arguments, "--json")
    assert code == ExitCode.DONE, out
    return json.loads(out)


@pytest.fixture
def ratings(tmp_path):
    """The first 2,000 ratings, and three rows that are none."""
    lines = (ml_100k_folder() / "ml-100k.inter").read_text().splitlines()[:2001]
    path = tmp_path / "some.inter"
    path.write_text("\n".join([*lines, "1\t2\t3\tnever", "1\t2", "\t2\t3\t881250949"]))
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_json_and_fits_80_columns(command):
    shown = CliRunner().invoke(app, ["events", command, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert shown.exit_code == 0
    assert f"Example: mmrec events {command}" in shown.stdout
    assert "--json" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_import_stats_export_forget(tmp_path, ratings, capfd):
    store, out = tmp_path / "store", tmp_path / "out.parquet"
    summary = answer("import", store, ratings)
    assert {name: summary[name] for name in ("read", "added", "known", "refused", "events")} == {
        "read": 2003, "added": 2000, "known": 0, "refused": 3, "events": 2000}  # fmt: skip
    said = capfd.readouterr().err
    assert "user = user_id, item = item_id, time = timestamp, value = rating; every event is a 'rate'" in said
    assert "row 2001, timestamp: The time 'never' is neither" in said
    assert re.search(
        r"2,000 ratings \(rate\) from 1 to 5, mean 3\.\d\d: 1,\d{3} count as likes, \d{3} as dislikes", said
    )
    assert answer("import", store, ratings)["known"] == 2000
    assert [row["row"] for row in answer("refused", store)["refused"]] == [2001, 2002, 2003]

    stats = answer("stats", store)
    assert (stats["events"], stats["by_kind"], stats["refused"]) == (2000, {"rate": 2000}, 3)
    assert (stats["unknown_share"], stats["left_after_cleaning"]) == (1.0, 2000)
    assert stats["first"].startswith("199")

    assert answer("export", store, out)["events"] == 2000
    copy = tmp_path / "copy"
    assert answer("import", copy, out)["added"] == 2000
    person = ratings.read_text().splitlines()[1].split("\t")[0]
    gone = answer("forget", copy, person)["deleted"]
    assert 0 < gone < 2000
    assert answer("stats", copy)["events"] == 2000 - gone
    assert answer("stats", store)["events"] == 2000


def test_strict_says_that_rows_were_refused(tmp_path, ratings):
    assert run("events", "import", tmp_path / "store", ratings, "--strict")[0] == ExitCode.PARTLY
    assert Layout(tmp_path / "store").events.exists()


def test_a_database_elsewhere(tmp_path, ratings, monkeypatch):
    url = f"sqlite:///{tmp_path / 'elsewhere.db'}"
    assert answer("import", tmp_path / "store", ratings, "--events", url)["added"] == 2000
    assert not Layout(tmp_path / "store").events.exists()
    monkeypatch.setenv("MMREC_EVENTS", url)
    assert answer("stats", tmp_path / "store")["events"] == 2000


def test_columns_kinds_and_zone_as_given(tmp_path):
    (tmp_path / "log.csv").write_text("who;what;did;at;page\nann;i1;addtocart;2024-07-01 12:00;home\n")
    (tmp_path / "kinds.toml").write_text('[aliases]\naddtocart = "cart"\n')
    columns = ["--user", "who", "--item", "what", "--kind", "did", "--time", "at", "--context", "page"]
    how = ["--kinds", tmp_path / "kinds.toml", "--zone", "Europe/Paris"]
    assert answer("import", tmp_path / "store", tmp_path / "log.csv", *columns, *how)["added"] == 1
    answer("export", tmp_path / "store", tmp_path / "out.jsonl")
    row = json.loads((tmp_path / "out.jsonl").read_text())
    row.pop("id")
    assert row == {"user": "ann", "item": "i1", "kind": "cart", "time": "2024-07-01T10:00:00+00:00",
                   "context": '{"page":"home"}'}  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["stats", "no-such-store"], "not a mmrec store"),
        (["import", "store", "no-such-file.csv"], "There is no"),
        (["import", "store", "a.csv", "--zone", "Mars"], "No time zone is called 'Mars'"),
        (["import", "store", "a.csv", "--time-unit", "weeks"], "time-unit"),
        (["forget", "store"], "USER"),
    ],
)
def test_a_wrong_call_is_told(arguments, said, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    code, _ = run("events", *arguments)
    assert code in {ExitCode.USAGE, ExitCode.FAILURE}
    assert said in capfd.readouterr().err
    assert not (tmp_path / "store").exists(), "a wrong call makes nothing"
