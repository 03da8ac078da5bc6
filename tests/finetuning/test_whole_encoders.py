"""LoRA and whole encoders by the command, on pictures, texts and sounds as files: from a store to a store."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from finetuning.shops import config, mmrec, towers
from safetensors.torch import load_file

from mmrec.errors import MediaError
from mmrec.finetuning.config import TowerSettings
from mmrec.finetuning.samples import ContentLocation, MediaSamples
from mmrec.finetuning.tower_building import build_towers
from mmrec.finetuning.towers import load_sources
from mmrec.jobs import finetune
from mmrec.sources.media_access import MediaAccess, content_hash
from mmrec.types import Modality
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app


def tensors(folder: Path) -> dict[str, torch.Tensor]:
    """All that was written of weights, by file and name."""
    files = [folder / "checkpoint.safetensors", *(folder / "encoders").rglob("*.safetensors")]
    return {f"{file.relative_to(folder)} {name}": value for file in files for name, value in load_file(file).items()}


def interrupt(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.slow
@pytest.mark.parametrize(("how", "rate"), [("lora", 3e-3), ("full", 1e-4)])
def test_it_is_gone_on_with_judged_saved_and_taken_up(how, rate, small_shop, tmp_path, monkeypatch, capsys):
    store = tmp_path / "store"
    shutil.copytree(small_shop, store)
    asked = ["finetune", "align", store, "--config", config(tmp_path, towers(how), rate=rate), "--json"]
    told = json.loads(mmrec(*asked, "--out", tmp_path / "whole"))
    assert told["epochs"] == 2
    assert told["verdict"] in {"helped", "no difference", "hurt"}
    said = json.loads((tmp_path / "whole" / "encoders" / "verdict.json").read_text())
    assert said["word"] == told["verdict"]
    assert (tmp_path / "whole" / "report.html").stat().st_size > 10_000

    with monkeypatch.context() as patched:
        patched.setattr(finetune, "_report", interrupt)
        assert run_app(app, [*map(str, asked), "--out", str(tmp_path / "parts")]) == ExitCode.INTERRUPTED
    assert not (tmp_path / "parts" / "encoders").exists()
    capsys.readouterr()
    mmrec(*asked, "--out", tmp_path / "parts")
    heard = capsys.readouterr().err
    assert "epoch 2:" in heard
    assert "epoch 1:" not in heard
    whole, parts = tensors(tmp_path / "whole"), tensors(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    for name, value in whole.items():
        assert torch.equal(value, parts[name]), name

    made = json.loads(mmrec("reindex", store, "--encoders", tmp_path / "whole" / "encoders", "--force", "--json"))
    assert made["generation"] == 2
    assert made["encoded"]["image"] == 16
    found = json.loads(mmrec("search", store, "--text", "a frog", "--against", "image", "-k", "16", "--json"))
    assert len(found["results"]) == 16
    assert found["generation"] == 2


def test_a_content_that_vanishes_while_it_trains_is_named(small_shop, tmp_path):
    picture = tmp_path / "a.png"
    shutil.copy(next((small_shop.parent / "media").glob("*.png")), picture)
    settings = {Modality.IMAGE: TowerSettings(how="full", last_blocks=1)}
    tower = build_towers(load_sources(device="cpu"), settings)[Modality.IMAGE]
    hashes = [content_hash(picture.read_bytes())]
    samples = MediaSamples(tower, [ContentLocation(uri=str(picture))], hashes, MediaAccess(), memory=0)
    assert samples.drop_unusable().tolist() == [True]
    assert samples.fault is None
    picture.unlink()
    with pytest.raises(MediaError, match=r"a\.png: .*put it back and give the same command again"):
        samples.take(torch.tensor([0]).numpy())
