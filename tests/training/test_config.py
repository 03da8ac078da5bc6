"""Settings from files, and what a training is estimated to cost."""

from pathlib import Path

import pytest
import torch
from accelerate import Accelerator
from training.made import ROWS, contents, random_histories, small_config

from mmrec.errors import UsageError
from mmrec.events.splits import leave_one_out
from mmrec.training.config import TrainingConfig, load_config
from mmrec.training.estimate import estimate
from mmrec.training.train import make_training_task, train
from mmrec.training.trainer import accelerator_for

CONFIGS = sorted((Path(__file__).parents[2] / "pipelines" / "configs").glob("train-*.toml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_each_file_is_read_and_opens_with_the_command_that_runs_it(path):
    assert load_config(path) != TrainingConfig()
    assert path.read_text().startswith(f"# mmrec train my-store --config pipelines/configs/{path.name}\n")


def test_there_are_files():
    assert {path.stem for path in CONFIGS} == {"train-cpu", "train-gpu", "train-small"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rates = 1", "rates: Extra inputs"),
        ("rate = 0", "rate: Input should be greater"),
        ("[tower]\ninterests = 5", "tower.interests"),
        ("batch = 9\nshards = 2", "multiple of shards"),
        ("rate = ", "not a TOML file"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused_by_name(tmp_path, text, message):
    (tmp_path / "a.toml").write_text(text)
    with pytest.raises(UsageError, match=message):
        load_config(tmp_path / "a.toml")


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UsageError, match="not a TOML file"):
        load_config(tmp_path / "none.toml")


def test_an_estimate_counts_what_the_training_then_has(tmp_path):
    data, config = leave_one_out(random_histories(30)), small_config(epochs=2)
    before = torch.random.get_rng_state()
    found = estimate(data, contents(), ROWS, config)
    assert torch.equal(before, torch.random.get_rng_state())
    trained = train(data, contents(), ROWS, config, tmp_path)
    assert found.parameters == sum(weight.numel() for weight in trained.model.tower.parameters())
    report = trained.report
    assert (found.items, found.users, found.events) == (report.items, report.users, report.events)
    assert found.validation == len(data.validation)
    assert found.loss == "full"
    assert found.most_seconds == pytest.approx(2 * found.epoch_seconds)


def test_an_estimate_grows_with_what_is_asked():
    data = leave_one_out(random_histories(30))
    small, large = (
        estimate(data, contents(), ROWS, small_config(tower={"width": width, "interests": interests}))
        for width, interests in ((16, 1), (64, 3))
    )
    assert large.memory > 2 * small.memory
    assert large.parameters > small.parameters


def test_a_split_without_validation_events_has_each_persons_last_event_held_out():
    histories = random_histories(30)
    task = make_training_task(histories, {"view": 1.0}, 5, 0)
    assert len(task.validation) == 5
    assert set(task.validation.tolist()) <= set((histories.offsets[1:] - 1).tolist())
    whole = make_training_task(histories, {"view": 1.0}, 1000, 0)
    assert len(whole.train.items) == len(histories.items) - len(whole.validation)
    assert (histories.lengths[histories.owners[whole.validation]] > 2).all()


def test_processes_that_do_not_divide_the_shards_are_refused(monkeypatch):
    class Three(Accelerator):
        num_processes = 3

        def __init__(self):
            """Start nothing."""

    monkeypatch.setattr("mmrec.training.checkpoint.Accelerator", lambda **_: Three())
    with pytest.raises(UsageError, match="3 processes cannot share 2 shards"):
        accelerator_for(small_config(shards=2))


def test_a_second_precision_in_one_process_is_refused():
    accelerator_for(small_config())
    with pytest.raises(UsageError, match=r"'bf16' was asked for, and this process has trained with 'no'"):
        accelerator_for(small_config(precision="bf16"))
