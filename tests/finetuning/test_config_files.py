"""The files of settings: each is read, opens with the command that runs it, and fits the packaged encoders."""

import json
from pathlib import Path

import pytest
from finetuning.shops import mmrec
from launching import launch

from mmrec.finetuning.config import FinetuneConfig, load_finetune_config
from mmrec.types import Modality

CONFIGS = sorted((Path(__file__).parents[2] / "pipelines" / "configs").glob("finetune-*.toml"))
COMMAND = Path(__file__).parents[1] / "training" / "learn_job.py"
BY_NAME = pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)


def test_there_are_files():
    assert {path.stem for path in CONFIGS} == {"finetune-heads-cpu", "finetune-lora-gpu", "finetune-full-gpus"}


@BY_NAME
def test_each_file_is_read_and_opens_with_the_command_that_runs_it(path):
    assert load_finetune_config(path) != FinetuneConfig()
    command = path.read_text().splitlines()[0]
    asked = f"align my-store --config pipelines/configs/{path.name} --out my-encoders"
    several = "accelerate launch --multi_gpu --num_processes 4 -m pipelines.finetune"
    assert command in {f"# mmrec finetune {asked}", f"# {several} {asked}"}


@pytest.mark.parametrize(
    "path", [pytest.param(path, id=path.stem, marks=[pytest.mark.slow] * ("gpu" in path.stem)) for path in CONFIGS]
)
def test_each_file_fits_the_packaged_encoders_and_takes_steps_where_there_is_no_gpu(path, small_shop, tmp_path):
    """The device is another one here; all else is as in the file, the number format too."""
    (tmp_path / "cpu.toml").write_text(path.read_text().replace('device = "cuda"', 'device = "cpu"'))
    asked = ["finetune", "align", str(small_shop), "--config", str(tmp_path / "cpu.toml"), "--dry-run", "--json"]
    # A process trains in one precision alone.
    told = json.loads(launch([], COMMAND, *asked).stdout if "gpu" in path.stem else mmrec(*asked))
    assert told["steps"] == 3
    assert told["memory"]["step"] > 0
    towers = load_finetune_config(path).towers
    assert towers.keys() == set(Modality)
    for modality, tower in towers.items():
        size = told["towers"][modality]
        assert size["how"] == tower.how
        match tower.how:
            case "frozen":
                assert size["trained"] == 0
            case "lora":
                assert 0 < size["trained"] < 0.3 * size["frozen"]
            case "full":
                assert size["trained"] > 1_000_000
                assert size["frozen"] == 0
