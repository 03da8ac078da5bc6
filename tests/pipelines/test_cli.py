"""The command line: its grammar, what it says, and how it ends."""

import errno
import io
import json
import math
import re
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Annotated

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from indexers.protocol import IndexFileError
from mmrec.errors import MmrecError, StoreBusyError, UnknownIdError, UsageError
from mmrec.query import Hit, Part, Results
from mmrec.types import Modality
from pipelines import answers, console, grammar
from pipelines.cli import app
from pipelines.grammar import parse_parts
from pipelines.options import Display
from pipelines.outcome import ExitCode, run_app
from pipelines.progress import ConsoleReporter, PlainProgress, progress

ROOT = Path(__file__).resolve().parents[2]
COMMANDS = ["index", "search", "similar", "show", "status", "quarantine", "delete", "generations", "rollback", "export"]
COMMANDS += ["import-vectors", "list", "train"]


@pytest.fixture
def answer() -> Results:
    """Return two hits, one with all that can be in a catalog."""
    rich_hit = Hit(
        id="[bold]bird\x1b[31m",
        score=0.75,
        shares={"text": 0.5, "image": 0.25},
        text="A bird that is described at such length that the table has to fold it over and over again. " * 4,
        media={"image": ("/catalog/bird.png",)},
        metadata={"category": "animals", "seen": date(2024, 5, 1), "price": math.nan, "rare": True},
    )
    return Results(
        hits=(rich_hit, Hit("sound-2", 0.5, {"audio": 0.5}, media={"audio": ("a.ogg",)})), generation=3, seconds=0.01
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_an_example_and_json_and_fits_80_columns(command: str) -> None:
    shown = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "80", "TERMINAL_WIDTH": "80"})
    assert shown.exit_code == 0
    assert f"Example: mmrec {command}" in shown.stdout
    assert "--json" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80
    wide = CliRunner().invoke(app, [command, "--help"], env={"COLUMNS": "200", "TERMINAL_WIDTH": "200"}).stdout
    for named in re.findall(r"pipelines/\S+\.toml", wide):
        assert (ROOT / named).is_file(), named


def test_help_lists_every_command() -> None:
    shown = CliRunner().invoke(app, ["--help"]).stdout
    assert all(f" {command} " in shown for command in COMMANDS)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serach"], "serach"),
        (["search"], "STORE"),
        (["search", "store", "-k", "0"], "-k"),
        (["search", "store"], "--text, --image, --audio or --item"),
        (["search", "store", "--text", "boat", "--against", "smell"], "text, image, audio"),
        (["search", "store", "--image", "no-such.png"], "no-such.png"),
        (["search", "store", "--text", " ^2"], "Nothing to search for"),
        (["rollback", "store", "last"], "integer"),
        (["index", "in.csv", "store", "--weights", "text=heavy"], "text=1,image=.5"),
        (["index", "in.csv", "store", "--text", "title,,body"], "title,,body"),
        (["index", "in.csv", "store", "--device", "tpu"], "cpu"),
    ],
)
def test_a_wrong_call_is_told_in_one_line_and_ends_with_2(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(app, arguments) == ExitCode.USAGE
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith("error: ")
    assert said in told.err
    assert "Traceback" not in told.err

    assert run_app(app, [*arguments, "--json"]) == ExitCode.USAGE
    told = capsys.readouterr()
    error = json.loads(told.out)["error"]
    assert error["kind"] == "usage"
    assert said in error["message"]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where temporary files go during a test."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def _ending(error: BaseException) -> typer.Typer:
    broken = typer.Typer()

    @broken.command()
    def fail(*, as_json: Annotated[bool, typer.Option("--json")] = False) -> None:
        del as_json
        raise error

    return broken


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (MmrecError("broken"), 1, "failure"),
        (StoreBusyError("held"), 1, "store_busy"),
        (IndexFileError("damaged"), 1, "index_file"),
        (OSError(errno.ENOSPC, "No space left on device", "/store"), 1, "machine"),
        (UsageError("wrong"), 2, "usage"),
        (UnknownIdError("who"), 2, "unknown_id"),
        (typer.Exit(3), 3, None),
        (ZeroDivisionError("oh"), 4, "internal"),
        (KeyboardInterrupt(), 130, "interrupted"),
        (typer.Abort(), 130, "interrupted"),
    ],
)
def test_every_ending_has_its_exit_code_and_its_document(
    error: BaseException, code: int, kind: str | None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_app(_ending(error), ["--json"]) == code
    told = capsys.readouterr()
    assert "Traceback" not in told.err
    if kind is not None:
        assert json.loads(told.out)["error"]["kind"] == kind


def test_an_internal_fault_leaves_its_traceback_in_a_file(scratch: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run_app(_ending(ZeroDivisionError("oh")), []) == ExitCode.INTERNAL
    (written,) = scratch.iterdir()
    assert str(written) in capsys.readouterr().err
    assert "ZeroDivisionError: oh" in written.read_text()


def test_an_interruption_says_how_to_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    run_app(_ending(KeyboardInterrupt()), [])
    assert "run the same command again" in capsys.readouterr().err


def test_the_program_itself_ends_with_its_exit_code() -> None:
    command = [sys.executable, "-c", "from pipelines.cli import main; main()", "search", "store", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"]["kind"] == "usage"


@pytest.mark.parametrize(
    ("written", "value", "weight"),
    [
        ("red boat", "red boat", 1.0),
        ("red boat^0.7", "red boat", 0.7),
        ("red boat^-1", "red boat", -1.0),
        ("red boat^.5", "red boat", 0.5),
        ("red boat^1e-2", "red boat", 0.01),
        ("x^2^3", "x^2", 3.0),
        ("a^b", "a^b", 1.0),
        ("happy ^_^", "happy ^_^", 1.0),
        ("^0.7", "^0.7", 1.0),
        ("nan^nan", "nan^nan", 1.0),
        ("two\nlines^2", "two\nlines", 2.0),
    ],
)
def test_weighted(written: str, value: str, weight: float) -> None:
    assert grammar.parse_weighted(written) == (value, weight)


@given(st.text(min_size=1).filter(str.strip), st.floats(allow_nan=False, allow_infinity=False))
def test_any_value_and_weight_come_back(value: str, weight: float) -> None:
    assert grammar.parse_weighted(f"{value}^{weight!r}") == (value, weight)


def test_weights_beyond_floats_are_refused() -> None:
    with pytest.raises(UsageError, match="too large"):
        grammar.parse_weighted("boat^1e999")


def test_weights_by_modality() -> None:
    assert grammar.parse_weights("auto") == {}
    assert grammar.parse_weights("text=2, image=.5") == {Modality.TEXT: 2, Modality.IMAGE: 0.5, Modality.AUDIO: 1}
    for wrong in ("", "text", "text=", "text=-1", "text=inf", "smell=1", "text=1,text=2", "text=0,image=0,audio=0"):
        with pytest.raises(UsageError):
            grammar.parse_weights(wrong)


def test_columns() -> None:
    assert grammar.parse_columns(["title, description", "notes"]) == ("title", "description", "notes")
    assert grammar.parse_columns([]) == ()
    with pytest.raises(UsageError, match="twice"):
        grammar.parse_columns(["title", "title"])


def test_parts(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.touch()
    parts = parse_parts({"text": ["boat^2", "sea"], "image": [f"{picture}^-1"], "item": ["i-1"], "audio": None})
    assert parts == (Part("text", "boat", 2), Part("text", "sea"), Part("image", str(picture), -1), Part("item", "i-1"))


def test_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    ConsoleReporter().require_consent("Use these", yes=True, otherwise="Name them.")
    monkeypatch.setattr("sys.stdin", io.StringIO("y"))
    with pytest.raises(UsageError, match=r"add --yes.*Name them"):
        ConsoleReporter().require_consent("Use these", yes=False, otherwise="Name them.")


def _display(*, as_json: bool = False, explain: bool = False, narrowed: bool = False) -> Display:
    return Display(as_json=as_json, explain=explain, sheet=None, narrowed=narrowed)


def test_answers_as_json(answer: Results, capsys: pytest.CaptureFixture[str]) -> None:
    answers.print_results(answer, _display(as_json=True))
    document = json.loads(capsys.readouterr().out)
    assert (document["generation"], document["seconds"]) == (3, 0.01)
    first, second = document["results"]
    assert (first["score"], first["shares"]) == (0.75, {"text": 0.5, "image": 0.25})
    assert first["metadata"] == {"category": "animals", "seen": "2024-05-01", "price": None, "rare": True}
    assert second["id"] == "sound-2"


@pytest.mark.parametrize("explain", [False, True])
def test_answers_fit_80_columns_and_print_catalogs_as_they_are(
    answer: Results, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, explain: bool
) -> None:
    monkeypatch.setattr(console, "data", Console(width=80))
    answers.print_results(answer, _display(explain=explain))
    told = capsys.readouterr()
    assert max(map(len, told.out.splitlines())) <= 80
    assert "\x1b" not in told.out
    assert "[bold]" in told.out
    assert "0.750" in told.out
    assert "2 found in 10 ms" in told.err


def test_nothing_found_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    answers.print_results(Results((), 1, 0.0), _display(narrowed=True))
    told = capsys.readouterr()
    assert told.out == ""
    assert "Widen --where or --against" in told.err
    answers.print_results(Results((), 1, 0.0), _display(as_json=True))
    assert json.loads(capsys.readouterr().out)["results"] == []


def test_rows_and_values(answer: Results, capsys: pytest.CaptureFixture[str]) -> None:
    answers.print_rows("quarantined", [{"row": 7, "reason": "no sound"}], as_json=False, empty="none")
    answers.print_rows("quarantined", [], as_json=False, empty="Nothing was left out.")
    answers.print_values({"items": 961, "encoded": {"text": 3}}, as_json=False)
    answers.print_hit(answer.hits[0], as_json=False)
    told = capsys.readouterr()
    assert "no sound" in told.out
    assert "961" in told.out
    assert "encoded.text" in told.out
    assert "/catalog/bird.png" in told.out
    assert "Nothing was left out." in told.err


def test_plain_progress_speaks_at_most_every_few_seconds() -> None:
    now, said = [0.0], []
    shown = PlainProgress("encoding", 100, every=5, clock=lambda: now[0], print_line=said.append)
    for _ in range(10):
        now[0] += 1
        shown.advance(10)
    shown.close()
    assert said == [
        "encoding: 50 of 100, 10.0/s, 0:00:05 left",
        "encoding: 100 of 100, 10.0/s, 0:00:00 left",
        "encoding: 100 in 10.0 s",
    ]


def test_progress_stays_off_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    with progress("reading", 3) as advance:
        advance(3)
    told = capsys.readouterr()
    assert told.out == ""
    assert "reading: 3 in" in told.err


def test_progress_on_a_terminal_shows_rate_and_time_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "screen").open("w+", encoding="utf-8") as screen:
        monkeypatch.setattr(console, "notes", Console(file=screen, force_terminal=True, width=80, _environ={}))
        with progress("encoding", 4) as advance:
            advance(2)
            advance(2)
        screen.seek(0)
        assert "4/4" in screen.read()
