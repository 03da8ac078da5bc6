"""What strangers wrote, and what a terminal gets of it; and where results may be written."""

import json
import os
import re
import tarfile
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_store import Cheap, index

from mmrec.errors import UsageError
from mmrec.storage.layout import Layout
from pipelines import console
from pipelines.cli import app
from pipelines.console import to_safe_line, to_unique_id
from pipelines.outcome import ExitCode, run_app

HOSTILE = (
    "\x1b[31mred\x1b]0;title\x07",
    "\x9b2J\x85",
    "a\rb\x08c\x7f",
    "\u202egpj.exe",
    "zero\u200bwidth\ufeff\u2060",
    "tag\U000e0041\U000e0042",
    "\u2066isolate\u2069\u00ad",
)
DRIVING = re.compile(
    "[\x00-\x09\x0b-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e0fff]"
)
CORPUS = "".join(HOSTILE)


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run_app(app, arguments)
    told = capsys.readouterr()
    assert not DRIVING.search(told.out + told.err), (arguments, DRIVING.findall(told.out + told.err))
    return code, told.out + told.err


@given(st.lists(st.text(st.sampled_from("ab\\xu0 \n\t\x1b\u200b\u202e\U000e0041"), max_size=6), min_size=2, max_size=2))
def test_ids_that_differ_are_shown_differently(pair: list[str]) -> None:
    first, second = map(to_unique_id, pair)
    assert (first == second) == (pair[0] == pair[1])
    assert first.isprintable()
    assert to_safe_line(pair[0]).isprintable()


def test_words_and_emoji_keep_their_joiners() -> None:
    assert (
        to_safe_line("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645")
        == "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"
    )
    assert to_safe_line("\U0001f469\u200d\U0001f680") == "\U0001f469\u200d\U0001f680"
    assert to_safe_line("pay\u200dpal") == "pay\\u200dpal"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store whose ids are hostile."""
    layout = Layout(tmp_path_factory.mktemp("hostile") / "store")
    index(layout, [*HOSTILE, *(f"i{n}" for n in range(12))])
    return layout.root


def test_no_command_lets_what_it_echoes_drive_the_terminal(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    catalog = tmp_path / f"c{HOSTILE[3]}.csv"
    catalog.write_text(f"no{CORPUS.replace(chr(13), '')},x\n1,2\n", encoding="utf-8")
    events = tmp_path / f"e{HOSTILE[0]}.csv"
    events.write_text(f"user,item,time,c{HOSTILE[4]}\nu{HOSTILE[0]},i1,2024-01-01,3\nu,i1,{HOSTILE[3]},3\n", "utf-8")
    folder = tmp_path / f"f{HOSTILE[5]}"
    folder.mkdir()
    with tarfile.open(tmp_path / "t.tar", "w") as archive:
        member = tarfile.TarInfo(f"{HOSTILE[0]}.jpg")
        archive.addfile(member, BytesIO())
    (tmp_path / "spec.toml").write_text(f'source = "x"\n"{HOSTILE[3]}" = 1\n', "utf-8")
    for hostile in HOSTILE:
        for arguments in (
            ["show", str(store), f"{hostile}!"],
            ["similar", str(store), f"{hostile}!"],
            ["list", str(store), "--where", f"id = {hostile}"],
            ["search", hostile, "--text", "x"],
            ["index", f"{hostile}.csv", str(tmp_path / "new"), "--yes"],
            ["status", hostile],
            ["events", "stats", hostile],
            ["export", str(store), f"{tmp_path}/no/{hostile}"],
            [hostile],
        ):
            assert run(arguments, capsys)[0] != ExitCode.INTERNAL
    assert "\\x1b[31m" in run(["list", str(store)], capsys)[1]
    assert run(["show", str(store), HOSTILE[4]], capsys)[0] == 0
    for arguments in (
        ["similar", str(store), HOSTILE[0]],
        ["recommend", str(store), "--history", HOSTILE[1].replace("\x85", "") + "?"],
        ["delete", str(store), f"{CORPUS}?"],
        ["index", str(catalog), str(tmp_path / "new"), "--yes"],
        ["index", str(folder), str(tmp_path / "new"), "--yes"],
        ["index", str(tmp_path / "t.tar"), str(tmp_path / "new"), "--yes"],
        ["index", str(tmp_path / "spec.toml"), str(tmp_path / "new")],
        ["events", "import", str(store), str(events), "--context", f"c{HOSTILE[4]}"],
        ["events", "refused", str(store)],
        ["events", "forget", str(store), HOSTILE[0]],
        ["quarantine", str(store)],
    ):
        assert run(arguments, capsys)[0] != ExitCode.INTERNAL, arguments


def test_json_stays_faithful(store: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = run(["list", str(store), "--json"], capsys)
    assert code == 0
    assert set(HOSTILE) <= {item["id"] for item in json.loads(said)["items"]}


def test_a_question_and_a_note_are_cleaned(capsys: pytest.CaptureFixture[str]) -> None:
    console.note(CORPUS)
    console.warn(CORPUS)
    console.notes.print(CORPUS)
    console.data.print(CORPUS, style="bold")
    told = capsys.readouterr()
    assert not DRIVING.search(told.out + told.err)


@pytest.mark.parametrize("kind", ["pipe", "link", "device"])
def test_only_regular_files_are_replaced(
    store: Path, tmp_path: Path, kind: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mmrec.store.load_encoders", lambda *_, **__: [Cheap()])
    kept = tmp_path / "kept"
    kept.write_text("mine")
    for name in ("page.html", "log.csv", "vectors.parquet"):
        out = tmp_path / name
        if kind == "pipe":
            os.mkfifo(out)
        elif kind == "link":
            out.symlink_to(kept)
        else:
            out.symlink_to("/dev/null")
        before = out.lstat()
        command = {
            "page.html": ["similar", str(store), "i3", "--sheet", str(out)],
            "log.csv": ["events", "export", str(store), str(out)],
            "vectors.parquet": ["export", str(store), str(out), "--overwrite"],
        }[name]
        assert run(command, capsys)[0] == ExitCode.USAGE, name
        assert out.lstat().st_ino == before.st_ino
        assert out.lstat().st_mode == before.st_mode
    from mmrec.files import write_page

    with pytest.raises(UsageError, match="is not replaced"):
        write_page(tmp_path / "page.html", "x")
    assert kept.read_text() == "mine"


def test_formula_cells_are_said_and_can_be_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, out = str(tmp_path / "s"), tmp_path / "log.csv"
    (tmp_path / "e.csv").write_text('user,item,time\n"=cmd|calc",i1,2024-01-01\nu,-2,2024-01-02\nplain,i1,2024-01-02\n')
    assert run(["events", "import", store, str(tmp_path / "e.csv")], capsys)[0] == 0
    assert "2 cells begin like a formula" in run(["events", "export", store, str(out)], capsys)[1]
    assert '"=cmd|calc"' in out.read_text()
    again = str(tmp_path / "again")
    assert "added 3" in re.sub(" +", " ", run(["events", "import", again, str(out)], capsys)[1])
    said = run(["events", "export", store, str(out), "--spreadsheet"], capsys)[1]
    assert "begin like a formula" not in said
    assert '"\'=cmd|calc"' in out.read_text()
    assert '"\'-2"' in out.read_text()
    assert not re.search(r'(^|,)"[=+@-]', out.read_text(), re.MULTILINE)
