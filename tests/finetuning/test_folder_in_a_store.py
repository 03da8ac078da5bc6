"""A store made with a folder of fine-tuned encoders: texts meet its new spaces, and it opens from any directory."""

import json
from pathlib import Path

import pytest
from finetuning.test_saving import HEADS, saved
from finetuning.tower_cases import contents
from typer.testing import CliRunner

import mmrec
from mmrec.types import Modality
from pipelines.cli import app


def test_a_store_of_a_folder_is_asked_from_another_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    saved(tmp_path / "out", HEADS)
    rows = []
    for number, picture in enumerate(contents(Modality.IMAGE)):
        picture.save(tmp_path / f"{number}.png")
        rows.append({"id": str(number), "image": f"{number}.png"})
    (tmp_path / "items.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(tmp_path)
    made = CliRunner().invoke(
        app, ["index", "items.jsonl", "store", "--encoders", "out", "--image", "image", "--id", "id"]
    )
    assert made.exit_code == 0, made.output
    monkeypatch.chdir("/")
    engine = mmrec.open(tmp_path / "store")
    found = engine.search("a red boat", k=4)
    assert {hit.id for hit in found.hits} == {"0", "1", "2", "3"}
