"""What commands say of columns, folders, stores, vectors and events that are not what they seem."""

import contextlib
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_store import Cheap

import mmrec.jobs.index
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

FILMS = "id,title,year,price\na,Toy Story,1995,7.5\nb,Heat,1995,8\nc,Nothing,unknown,12345\n"
LISTS = [
    {"id": "a", "title": "Toy Story", "year": 1995, "genres": ["Animation", "Comedy"]},
    {"id": "b", "title": "Heat", "year": 1975, "genres": []},
]
NAMED = ["--id", "id", "--text", "title", "--metadata"]


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    """Encode by hash: what is tested here is what is said."""
    monkeypatch.setattr(mmrec.jobs.index, "load_encoders", lambda *_, **__: [Cheap()])
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def films(tmp_path):
    (tmp_path / "films.csv").write_text(FILMS)
    (tmp_path / "films.jsonl").write_text("\n".join(map(json.dumps, LISTS)))
    return tmp_path


def run(*arguments):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_app(app, [str(argument) for argument in arguments])
    return code, " ".join(out.getvalue().split()), " ".join(err.getvalue().split())


def test_a_column_that_one_value_makes_text_is_told_with_the_way_out(films):
    code, _, said = run("index", films / "films.csv", films / "store", *NAMED, "year,price")
    assert code == ExitCode.DONE
    assert "'year' is text, as 1 of its 3 values is no integer: 'unknown' in films.csv line 4" in said
    assert "--types year=integer" in said
    assert "'price'" not in said
    code, out, said = run("index", films / "films.csv", films / "two", *NAMED, "year,price", "--types", "year=integer")
    assert code == ExitCode.DONE
    assert "is text" not in said
    assert "'unknown' cannot be kept as integer" in run("quarantine", films / "two", "--json")[1]
    assert "quarantined 1" in out
    listed = json.loads(run("list", films / "two", "--where", "year > 1990", "--json")[1])["items"]
    assert {one["id"] for one in listed} == {"a", "b"}
    # A delta that makes a column of the store text says so too.
    (films / "late.csv").write_text("id,title,year\nd,Late,soon\n")
    said = run("index", films / "late.csv", films / "two", *NAMED, "year", "--add")[2]
    assert f"column 'year' holds integer in {films / 'two'} and text in the source: it becomes text" in said
    said = run("index", films / "films.jsonl", films / "two", *NAMED, "year", "--add")[2]
    assert "holds text" in said
    assert "it stays text" in said


@pytest.mark.parametrize(
    ("types", "said"),
    [
        ("year=whole", "choose among text, integer, number, boolean, date, time"),
        ("year", "write --types year=integer"),
        ("zzz=integer", "no metadata column"),
    ],
)
def test_wrong_types_are_wrong_usage(films, types, said):
    code, _, told = run("index", films / "films.csv", films / "store", *NAMED, "year", "--types", types)
    assert code == ExitCode.USAGE
    assert said in told


def test_a_catalog_file_gives_types(films):
    (films / "catalog.toml").write_text(
        "source = 'films.csv'\n[columns]\nid = 'id'\ntext = 'title'\nmetadata = ['year']\n[types]\nyear = 'integer'\n"
    )
    assert run("index", films / "catalog.toml", films / "store")[0] == ExitCode.DONE
    listed = json.loads(run("list", films / "store", "--where", "year = 1995", "--json")[1])["items"]
    assert [one["metadata"]["year"] for one in listed] == [1995, 1995]


def test_lists_and_years_are_printed_as_they_are(films):
    assert run("index", films / "films.jsonl", films / "store", *NAMED, "year,genres")[0] == ExitCode.DONE
    where = "array_has(genres, 'Comedy')"
    _, out, _ = run("list", films / "store", "--where", where)
    assert "year 1995, genres [Animation, Comedy]" in out
    assert "Heat" not in out
    assert "year 1975 genres none" in run("show", films / "store", "b")[1]
    assert json.loads(run("show", films / "store", "a", "--json")[1])["metadata"]["genres"] == ["Animation", "Comedy"]
    table = run("search", films / "store", "--item", "a")[1]
    assert "year 1975" in table
    assert (
        "A score is the sum of what each modality gives"
        in run("search", films / "store", "--item", "a", "--explain")[2]
    )
    page = films / "page.html"
    run("search", films / "store", "--item", "b", "--sheet", page)
    assert "Animation, Comedy" in page.read_text()


@pytest.mark.parametrize("extra", [[], ["--yes"]])
def test_a_header_alone_is_diagnosed(tmp_path, extra):
    (tmp_path / "films.csv").write_text("id,title,year\n")
    named = extra or [*NAMED, "year"]
    code, _, said = run("index", tmp_path / "films.csv", tmp_path / "store", *named)
    assert code == ExitCode.USAGE
    assert "films.csv has no rows" in said
    assert not (tmp_path / "store").exists()


def test_a_folder_of_tables_is_diagnosed_with_their_names(films):
    (films / "notes.txt").write_text("about these films")
    code, _, said = run("index", films, films / "store")
    assert code == ExitCode.USAGE
    assert "films.csv, films.jsonl" in said
    code, _, said = run("index", films)
    assert code == ExitCode.USAGE
    assert "STORE" in said
    # Media make it a folder of media, whatever lies beside them.
    (films / "films.png").write_bytes(b"\x89PNG")
    assert "films.csv" not in run("index", films, films / "store", "--id", "id", "--image", "image")[2]


@pytest.mark.parametrize(
    "arguments",
    [
        ["status", "{none}"],
        ["verify", "{none}"],
        ["recommend", "{none}"],
        ["search", "{none}", "--text", "a"],
        ["show", "{store}", "no such item"],
        ["similar", "{store}", "no such item"],
        ["search", "{store}", "--item", "no such item"],
        ["index", "{none}/films.csv", "{store}"],
        ["status", "{file}"],
    ],
)
def test_what_is_named_but_not_there_ends_with_2(films, arguments):
    store = films / "store"
    run("index", films / "films.csv", store, *NAMED, "price")
    named = [one.format(none=films / "none", store=store, file=films / "films.csv") for one in arguments]
    assert run(*named)[0] == ExitCode.USAGE


def test_vectors_of_equal_contents_are_counted(films):
    (films / "films.csv").write_text("id,title\na,same\nb,same\nc,other\nd,same\n")
    run("index", films / "films.csv", films / "store", "--id", "id", "--text", "title")
    vectors = np.eye(8)[[0, 0, 1, 0]].tolist()
    pq.write_table(pa.table({"id": ["a", "b", "c", "d"], "vector": vectors}), films / "in.parquet")
    call = ["import-vectors", films / "store", films / "in.parquet", "--space", "mine", "--modality", "text"]
    code, out, said = run(*call)
    assert code == ExitCode.DONE
    assert "rows 4 vectors 2 known 0 shared 2" in out
    assert "2 of 4 vectors are of text contents equal to that of an earlier row" in said
    assert "vectors 0 known 4 shared 0" in run(*call)[1]


def test_events_of_items_that_are_not_there_are_counted_and_named(films):
    store, log = films / "store", films / "log.csv"
    run("index", films / "films.csv", store, *NAMED, "price")
    log.write_text("user,item,kind,time\nann,a,like,1700000000\nann,x1,like,1700000001\nbob,x2,like,1700000002\n")
    code, out, said = run("events", "import", store, log)
    assert code == ExitCode.DONE
    assert "added 3" in out
    assert "without item 2" in out
    assert f"2 of 3 events are of items that {store} does not have, such as 'x1', 'x2'" in said
    assert run("events", "import", store, log, "--strict")[0] == ExitCode.PARTLY
    log.write_text("user,item,kind,time\nann,b,like,1700000000\n")
    assert run("events", "import", store, log, "--strict")[0] == ExitCode.DONE


def test_at_a_terminal_one_is_asked_before_such_events_are_added(films, monkeypatch):
    store, log = films / "store", films / "log.csv"
    run("index", films / "films.csv", store, *NAMED, "price")
    log.write_text("user,item,kind,time\nann,x1,like,1700000000\nbob,x2,like,1700000002\n")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda *_, **__: False)
    code, _, said = run("events", "import", store, log)
    assert code == ExitCode.USAGE
    assert "2 of the first 2 events are of items" in said
    assert "it has ids such as 'a', 'b', 'c'" in said
    assert "--item" in said
    assert not (store / "events.db").exists()
