"""A dry run: it counts what the fine-tuning then has, writes nothing, and measures memory as it is."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from finetuning.shops import config, mmrec
from torch.utils.checkpoint import checkpoint

from mmrec.finetuning.config import HeadSettings, TowerSettings
from mmrec.finetuning.estimate import PeakMemory
from mmrec.finetuning.tower_building import build_towers
from mmrec.finetuning.towers import load_sources
from mmrec.training.checkpoint import ESTIMATE_STEPS, seconds_for
from mmrec.types import Modality
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

PICTURES = '[towers.text]\nhow = "frozen"\n[towers.image]\nhow = "lora"\nlast_blocks = 1\n[towers.image.head]\n'
HEADS = '[towers.text]\nhow = "frozen"\n[towers.image]\nhow = "head"\n[towers.audio]\nhow = "head"\n'


def dry(objective: str, store: Path, *arguments: object) -> dict:
    return json.loads(mmrec("finetune", objective, store, "--dry-run", "--json", *arguments))


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}


def test_it_counts_what_the_fine_tuning_then_has_and_writes_nothing(small_shop, tmp_path):
    settings = config(tmp_path, HEADS)
    before = files(small_shop.parent)
    told = dry("align", small_shop, "--config", settings, "--out", tmp_path / "out")
    assert files(small_shop.parent) == before
    assert not (tmp_path / "out").exists()
    mmrec("finetune", "align", small_shop, "--config", settings, "--out", tmp_path / "out")
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert told["counts"] == report["counts"]
    assert told["counts"]["text-image pairs"] == told["counts"]["trained on"] > told["counts"]["test"] > 0
    # A step for each pair: text-picture, text-sound, picture-sound.
    assert told["steps"] == 3
    heads = {"text": 0, "image": 1280 * 384 + 384 * 384 + 384, "audio": 1024 * 384 + 384 * 384 + 384}
    assert {name: tower["trained"] for name, tower in told["towers"].items()} == heads
    memory = told["memory"]
    # Beside the heads the temperature and the bias may learn.
    assert 4 * sum(heads.values()) <= memory["gradients"] <= 4 * sum(heads.values()) + 8
    assert memory["optimiser"] == 2 * memory["gradients"]
    assert memory["device"] == sum(memory.values()) - memory["contents"] - memory["device"]
    seconds = told["preparing_seconds"] + 2 * told["epoch_seconds"] + 4 * told["validation_seconds"]
    assert told["most_seconds"] == pytest.approx(seconds)


def test_labels_are_counted_and_heads_in_closed_form_take_no_step(small_shop):
    labels = dry("label", small_shop, "--column", "subcategory")
    assert labels["counts"]["labels"] >= 2
    assert labels["steps"] >= 1
    fitted = dry("align", small_shop)
    assert fitted["steps"] == fitted["epoch_seconds"] == fitted["memory"]["gradients"] == 0
    assert fitted["towers"]["image"]["fitted"] > fitted["towers"]["image"]["trained"] == 0


def test_a_store_without_events_is_told_so_and_gets_none(small_shop, capsys):
    assert run_app(app, ["finetune", "coengage", str(small_shop), "--dry-run"]) == ExitCode.USAGE
    assert "mmrec events import" in capsys.readouterr().err
    assert not (small_shop / "events.db").exists()


@pytest.mark.slow
def test_weights_of_whole_encoders_are_counted_and_checkpointing_saves_memory(small_shop, tmp_path):
    settings = {Modality.IMAGE: TowerSettings(how="full", head=HeadSettings(dim=384))}
    built = build_towers(load_sources(device="cpu"), settings)[Modality.IMAGE].network
    whole = '[towers.text]\nhow = "frozen"\n[towers.image]\nhow = "full"\nhead = {}\n'
    found = {}
    for kept, line in {"all": "", "inputs": "gradient_checkpointing = true\n"}.items():
        found[kept] = dry("align", small_shop, "--config", config(tmp_path, whole + line))
    size = sum(weight.numel() for weight in built.parameters())
    for told in found.values():
        assert told["towers"]["image"] == {"how": "full", "trained": size, "fitted": 0, "frozen": 0}
    assert 0 < found["inputs"]["memory"]["step"] < 0.7 * found["all"]["memory"]["step"]


@pytest.mark.slow
def test_contents_that_are_gone_or_changed_are_left_out_and_counted(small_shop, tmp_path):
    (small_shop.parent / "media").rename(small_shop.parent / "away")
    try:
        # The store names its files where they were.
        settings = config(tmp_path, PICTURES)
        asked = ["finetune", "align", str(small_shop), "--dry-run", "--config", str(settings)]
        assert run_app(app, asked) == ExitCode.USAGE
        shutil.copytree(small_shop.parent / "away", small_shop.parent / "media")
        pictures = sorted((small_shop.parent / "media").glob("*.png"))
        pictures[0].unlink()
        pictures[1].write_bytes(pictures[2].read_bytes())
        told = dry("align", small_shop, "--config", settings)
        assert told["counts"]["image contents left out"] == 2
        assert told["counts"]["image contents"] == len(pictures) - 2
        assert "cannot be read" in told["left_out"]["image"] or "has changed" in told["left_out"]["image"]
    finally:
        shutil.rmtree(small_shop.parent / "media", ignore_errors=True)
        (small_shop.parent / "away").rename(small_shop.parent / "media")


def test_nothing_outside_the_media_root_is_read(small_shop, tmp_path, capsys):
    settings = config(tmp_path, PICTURES)
    asked = ["finetune", "align", str(small_shop), "--dry-run", "--config", str(settings), "--media-root"]
    assert run_app(app, [*asked, str(tmp_path)]) == ExitCode.USAGE
    assert "outside --media-root" in capsys.readouterr().err


def test_peak_memory_is_that_of_the_tensors_that_are_held():
    size, device = 100_000, torch.device("cpu")
    weight = torch.nn.Parameter(torch.rand(size))

    def block(x):
        for _ in range(8):
            x = x.sin()
        return x

    def held(step) -> int:
        weight.grad = None
        with PeakMemory(device) as seen:
            x = weight
            for _ in range(4):
                x = step(x)
            x.sum().backward()
            del x
        return round(seen.most / weight.nbytes)

    # What 32 sines are of, but for the weight, then the last of them, its gradient and that of what it is of.
    assert held(block) == 34
    # The inputs of three blocks and one block in full.
    assert held(lambda x: checkpoint(block, x, use_reentrant=False)) <= 3 + 8 + 2
    with PeakMemory(device) as seen:
        for _ in range(5):
            weight.detach().add_(1).view(10, -1).mul_(2)
    assert seen.most == 0


def test_time_is_shared_out_by_size(monkeypatch):
    clock = iter(range(100))
    monkeypatch.setattr("mmrec.training.checkpoint.perf_counter", lambda: float(next(clock)))
    taken = []
    assert seconds_for(60.0, list(range(1, 10)), float, taken.append) == pytest.approx(60 / (2 + 3 + 4))
    assert taken == [1, 2, 3, 4][:ESTIMATE_STEPS]
    taken.clear()
    assert seconds_for(5.0, [5], float, taken.append) == 1.0
    assert taken == [5, 5]
    assert seconds_for(0.0, [], float, taken.append) == 0.0
