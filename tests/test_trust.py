"""A store that was copied from a stranger: its manifest is forged to name encoders that would run code."""

import hashlib
import json
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest
from encoders import small_models
from encoders.evil_folders import EVIL, HANDLE
from small_store import Cheap, index

import mmrec
from mmrec.encoders.presets import recorded_source
from mmrec.errors import StoreError, UsageError
from mmrec.storage.layout import Layout
from mmrec.trust import check_encoders, check_outside_store, is_consented, location_fault, record_consent
from mmrec.types import Field, Item, Modality
from mmrec.verification.verify import verify_store
from pipelines.cli import app
from pipelines.outcome import run_app

NAMES = ("boat", "tree", "drum", "lamp", "road")


@pytest.fixture(autouse=True)
def _own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(sys, "path", [*sys.path])


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """A small store in the working directory, whose items were encoded by something cheap."""
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    layout = Layout(tmp_path / "work" / "shop")
    index(layout, NAMES)
    return layout


def forge(layout: Layout, encoders: str) -> None:
    """Change what a manifest says of its encoders, and its digest with it."""
    path = layout.generations / "1" / "manifest.json"
    said = json.loads(path.read_text()) | {"encoders": encoders}
    told = json.dumps({name: value for name, value in said.items() if name != "digest"}, sort_keys=True)
    path.write_text(json.dumps(said | {"digest": hashlib.sha256(told.encode()).hexdigest()}))


def evil_encoders(folder: Path, sentinel: Path) -> Path:
    """A folder with the encoder that ran code when it was first found out."""
    (evil,) = [one for one in EVIL if one.name == "open-clip-tokenizer"]
    folder.mkdir(parents=True)
    evil.lay_down(folder / "model", sentinel)
    lines = ["[[encoders]]", 'factory = "mmrec.encoders.hub.open_clip.OpenClip"', 'model = "./model"']
    (folder / "encoders.toml").write_text("\n".join(lines))
    return folder


def evil_code(folder: Path, sentinel: Path) -> Path:
    """A folder whose factory is code beside it."""
    folder.mkdir(parents=True)
    (folder / f"{HANDLE}.py").write_text(f"from pathlib import Path\nPath({str(sentinel)!r}).touch()\n")
    (folder / "encoders.toml").write_text(f'[[encoders]]\nfactory = "{HANDLE}.Evil"\n')
    return folder


def sound_encoders(folder: Path, model: Path) -> Path:
    folder.mkdir(parents=True)
    shutil.copytree(model, folder / "model")
    lines = ["[[encoders]]", 'factory = "mmrec.encoders.hub.text.HubText"', 'model = "./model"', 'name = "cheap"']
    (folder / "encoders.toml").write_text("\n".join(lines))
    return folder


WAYS: dict[str, Callable[[Path], str]] = {
    "by the process": lambda _: "/proc/self/cwd/shop/enc",
    "by the process, twice": lambda _: "//proc/self/cwd/shop/enc",
    "by a number of a process": lambda _: f"/proc/{os.getpid()}/cwd/shop/enc",
    "relative": lambda _: "shop/enc",
    "relative to the store": lambda _: "enc",
    "dotted": lambda _: "./shop/../shop/enc",
    "absolute": str,
    "by a link": lambda folder: str(linked(folder)),
    "by kind": lambda folder: f"open-clip={folder / 'model'}",
    "by kind, relative": lambda _: "open-clip=shop/enc/model",
    "as a file": lambda folder: str(folder / "encoders.toml"),
}


def linked(folder: Path) -> Path:
    link = folder.parents[2] / "link"
    link.symlink_to(folder)
    return link


@pytest.mark.parametrize(
    ("way", "lay_down"),
    [*((way, evil_encoders) for way in WAYS), ("by the process", evil_code), ("absolute", evil_code)],
)
def test_no_command_runs_what_lies_in_a_copied_store(
    way: str, lay_down: Callable[[Path, Path], Path], shop: Layout, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sentinel = tmp_path / "ran"
    folder = lay_down(shop.root / "enc", sentinel)
    forge(shop, WAYS[way](folder))
    (tmp_path / "items.csv").write_text("id,text\nboat,boat\n")
    (tmp_path / "queries.jsonl").write_text('{"text": "boat"}\n')
    said = {}
    for words, expected in (
        (["verify", "shop"], 1),
        (["search", "shop", "--text", "boat"], 1),
        (["recommend", "shop", "--text", "boat"], 1),
        (["index", str(tmp_path / "items.csv"), "shop", "--id", "id", "--text", "text"], 1),
        (["reindex", "shop"], 1),
        (["finetune", "align", "shop", "--out", str(tmp_path / "out"), "--dry-run"], 1),
        (["quarantine", "shop", "--retry"], 1),
        (["finetune", "align", "shop", "--out", "shop/out"], 2),
        (["similar", "shop", "boat"], 0),
        (["status", "shop"], 0),
        (["search", "shop", "--text", "boat", "--encoders", str(folder)], 2),
        (["reindex", "shop", "--encoders", "shop/enc"], 2),
    ):
        code = run_app(app, words)
        said[words[0]] = capfd.readouterr().err
        assert code == expected, (words, said[words[0]])
        assert not sentinel.exists(), words
        assert "fault in mmrec" not in said[words[0]]
        assert f"--encoders {WAYS[way](folder) if way != 'by a link' else folder}" not in said[words[0]], words
    run_app(app, ["compare", "shop", "--generations", "1", "1", "--queries", str(tmp_path / "queries.jsonl")])
    engine = mmrec.open("shop")
    with pytest.raises(StoreError, match="was made with the encoders of"):
        engine.search("boat")
    with pytest.raises(StoreError):
        mmrec.open("shop", confirm=lambda _: True).recommend(text="boat")
    with pytest.raises(StoreError):
        engine.upsert([Item("new", (Field(Modality.TEXT, "title", text="new"),), {"number": 1}, 0)])
    with pytest.raises(UsageError, match="inside the store"):
        mmrec.open("shop", encoders=folder, trust_code=True)
    assert not sentinel.exists()
    assert engine.similar("boat").hits


def test_verify_names_the_forged_manifest_and_the_way_out(shop: Layout, tmp_path: Path) -> None:
    evil_encoders(shop.root / "enc", tmp_path / "ran")
    forge(shop, "/proc/self/cwd/shop/enc")
    (finding,) = verify_store(shop).findings
    assert (finding.check, finding.where) == ("manifest", "generations/1/manifest.json")
    assert "inside the store" in finding.what
    assert finding.run == (f"mmrec reindex {shop.root} --encoders packaged",)
    for honest in ("packaged", "hub", "none", "mine.toml", "text=owner/name", str(tmp_path / "elsewhere")):
        forge(shop, honest)
        assert verify_store(shop).findings == []


def test_a_folder_outside_is_used_once_the_user_has_named_it(shop: Layout, tmp_path: Path, monkeypatch) -> None:
    sound_encoders(tmp_path / "enc", small_models.bert_mean())
    encoders = mmrec.encoders.presets.load_encoders(tmp_path / "enc", device="cpu")
    items = [Item(name, (Field(Modality.TEXT, "title", text=name),), {}, row) for row, name in enumerate(NAMES)]
    layout = Layout(tmp_path / "work" / "own")
    how = mmrec.Indexing(encoder_source=recorded_source(tmp_path / "enc"))
    mmrec.index_items(items, pa.schema([]), layout, encoders, how)
    assert mmrec.open(layout.root).search("boat").hits[0].id == "boat"
    # Another user, or this one with the store at another place, has not named it.
    moved = layout.root.rename(tmp_path / "moved")
    with pytest.raises(StoreError, match=r"have not named.*--encoders"):
        mmrec.open(moved).search("boat")
    asked = []
    with pytest.raises(StoreError, match="have not named"):
        mmrec.open(moved, confirm=lambda words: bool(asked.append(words))).search("boat")
    assert str(tmp_path / "enc") in asked[0]
    assert mmrec.open(moved, encoders=tmp_path / "enc").search("boat").hits[0].id == "boat"
    assert mmrec.open(moved).search("tree").hits[0].id == "tree"
    again = moved.rename(tmp_path / "again")
    assert mmrec.open(again, confirm=lambda _: True).search("drum").hits[0].id == "drum"
    assert run_app(app, ["search", str(again), "--text", "drum"]) == 0
    # What was named is what lay there then.
    settings = tmp_path / "enc" / "model" / "sentence_bert_config.json"
    settings.write_text(settings.read_text() + " ")
    with pytest.raises(StoreError, match="changed since"):
        mmrec.open(again).search("drum")


def test_the_terminal_is_asked_and_no_is_the_default(shop: Layout, tmp_path: Path, monkeypatch, capfd) -> None:
    folder = sound_encoders(tmp_path / "enc", small_models.bert_mean())
    forge(shop, str(folder))
    questions = []
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    monkeypatch.setattr("typer.confirm", lambda words, default, err: questions.append((words, default, err)) or False)
    assert run_app(app, ["search", "shop", "--text", "boat"]) == 1
    ((words, default, err),) = questions
    assert str(folder) in words
    assert (default, err) == (False, True)
    assert not (tmp_path / "state").exists()


def test_a_home_that_cannot_be_written_is_no_error(shop: Layout, tmp_path: Path, monkeypatch, caplog) -> None:
    folder = sound_encoders(tmp_path / "enc", small_models.bert_mean())
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    record_consent(shop, folder)
    assert "have to be named again" in caplog.text
    assert not is_consented(shop, str(folder))


def test_presets_and_models_of_a_hub_need_no_question(shop: Layout, tmp_path: Path) -> None:
    for source in ("packaged", "hub", "text=owner/name,image=other/model", "speech=HUBERT_BASE"):
        check_encoders(shop, source)
        assert is_consented(shop, source)
    assert not (tmp_path / "state").exists()
    # Where a folder of that name lies in the working directory, it would be read instead.
    shutil.copytree(small_models.bert_mean(), "intfloat/multilingual-e5-small")
    shutil.copytree(small_models.bert_mean(), "owner/name")
    for source in ("hub", "text=owner/name"):
        with pytest.raises(StoreError):
            check_encoders(shop, source, lambda _: True)
    assert recorded_source("text=owner/name") == f"text={tmp_path}/work/owner/name"


@pytest.mark.parametrize("odd", ["", "x" * 10_000, "a\0b", "/" + "y" * 300, "=", "text=", "nothing=x", "\x1b[31m", "~"])
def test_odd_manifests_are_refused_in_words(odd: str, shop: Layout) -> None:
    with pytest.raises((StoreError, UsageError)):
        check_encoders(shop, odd, lambda _: True)
    location_fault(shop, odd)


def test_encoders_that_read_from_inside_the_store_lie_inside_it(shop: Layout, tmp_path: Path) -> None:
    shutil.copytree(small_models.bert_mean(), shop.root / "model")
    folder = tmp_path / "enc"
    folder.mkdir()
    lines = ["[[encoders]]", 'factory = "mmrec.encoders.hub.text.HubText"', f'model = "{shop.root / "model"}"']
    (folder / "encoders.toml").write_text("\n".join(lines))
    assert "inside the store" in str(location_fault(shop, str(folder)))
    with pytest.raises(UsageError, match="inside the store"):
        check_outside_store(shop, folder)
    with pytest.raises(UsageError, match="inside the store"):
        mmrec.index_items([], pa.schema([]), shop, [Cheap()], mmrec.Indexing(encoder_source=str(folder)))
