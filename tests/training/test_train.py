"""Training: it learns what can be learned, moves what it should, and goes on exactly where it stopped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from training.made import ROWS, contents, cyclic, histories_of, random_histories, small_config

from mmrec.errors import UsageError
from mmrec.events.kinds import DEFAULT_WEIGHTS
from mmrec.events.splits import leave_one_out
from mmrec.training.train import make_trainer, make_training_task, train
from mmrec.training.trainer import accelerator_for
from mmrec.users.model import History
from mmrec.users.tower import TowerModel, load_tower


def loop_of(data, **settings):
    config = small_config(**settings)
    task = make_training_task(data, DEFAULT_WEIGHTS, 1000, 0)
    return make_trainer(task, contents(), ROWS, config, accelerator_for(config), DEFAULT_WEIGHTS)


@pytest.mark.slow
def test_a_tower_is_told_how_items_were_rated_where_values_count(tmp_path):
    """Whoever rates an item high goes on with the one after it, whoever rates it low with the one before."""
    random, last = np.random.default_rng(0), len(ROWS) - 1
    firsts, loves = random.integers(1, last, 60), random.random(60) < 0.5
    told = [ROWS[[first, first + (1 if love else -1)]] for first, love in zip(firsts, loves, strict=True)]
    # A third event, so that the second is no validation.
    histories = histories_of([np.append(one, ROWS[0]) for one in told], kind_names=("rate",))
    strengths = np.full(len(histories.items), 1.0, dtype=np.float32)
    strengths[histories.offsets[:-1]] = np.where(loves, 2, -2)
    rated = replace(histories, strengths=strengths)
    config = small_config(epochs=40, batch=16, average=0.8, tower={"dropout": 0.0})
    model = train(rated, contents(), ROWS, config, tmp_path / "told").model
    assert model.tower.config.ratings
    model, vectors = load_tower(tmp_path / "told"), model.items(ROWS, contents())
    times = np.array([1_600_000_000_000_000])

    def leaning(strength, place):
        """How much nearer a person is to the item after than to the one before."""
        past = History(ROWS[[place]], ("rate",), np.ones(1, np.float32), times, np.array([strength], np.float32))
        (found,) = model.users([past], [vectors[[place]]], int(times[0]) + 10**6)
        return float(found.vectors[0] @ (vectors[place + 1] - vectors[place - 1]))

    # Of a tower that is not told, both are the same.
    assert np.mean([leaning(2.0, place) - leaning(-2.0, place) for place in range(1, last)]) > 0.1
    plain = train(histories, contents(), ROWS, small_config(epochs=1), tmp_path / "plain").model
    assert not plain.tower.config.ratings
    assert not any("ratings" in name for name in plain.tower.state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"tower": {"content": False}},
        {"tower": {"interests": 3}},
        {"loss": "sampled", "negatives": 32},
        {"loss": "gbce", "negatives": 6},
        {"tower": {"delta_bound": 0.0}},
    ],
    ids=["content", "ids", "interests", "sampled", "gbce", "no delta"],
)
def test_an_order_that_everybody_follows_is_learned(tmp_path, settings):
    tower = {"dropout": 0.0, **settings.pop("tower", {})}
    trained = train(cyclic(), contents(), ROWS, small_config(epochs=25, tower=tower, **settings), tmp_path)
    assert trained.report.ndcg == pytest.approx(1)
    assert trained.report.curve[-1].loss < trained.report.curve[0].loss
    model = load_tower(tmp_path)
    vectors = model.items(ROWS, contents())
    mine = History(ROWS[[2, 3, 4]], ("view",) * 3, np.ones(3, np.float32), 1_600_000_000_000_000 + np.arange(3) * 10**6)
    (found,) = model.users([mine], [vectors[[2, 3, 4]]], int(mine.times[-1]) + 10**6)
    odds = np.exp(float(model.tower.scale.detach()) * (found.vectors @ vectors.T))
    scores = found.weights @ (odds / odds.sum(axis=1, keepdims=True))
    scores[[2, 3, 4]] = -1
    assert np.argmax(scores) == 5
    assert {path.name for path in tmp_path.iterdir()} == {
        "checkpoint.safetensors",
        "curves.png",
        "tensorboard",
        "tower.json",
        "tower.safetensors",
    }
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert any((tmp_path / "tensorboard").iterdir())


def weights_of(trained):
    return {name: weight.clone() for name, weight in trained.model.tower.state_dict().items()}


@pytest.mark.parametrize("stops", [(1, 2), (3,)])
def test_a_run_that_was_interrupted_ends_with_the_same_weights(tmp_path, stops):
    data, config = leave_one_out(random_histories(30)), small_config(epochs=5, average=0.9)
    whole = train(data, contents(), ROWS, config, tmp_path / "whole")
    for stop in stops:
        train(data, contents(), ROWS, config.model_copy(update={"epochs": stop}), tmp_path / "parts")
    heard = []
    parts = train(data, contents(), ROWS, config, tmp_path / "parts", on_epoch=heard.append)
    assert [epoch.epoch for epoch in heard] == list(range(stops[-1] + 1, 6))
    for name, weight in weights_of(whole).items():
        assert torch.equal(weight, weights_of(parts)[name]), name
    timeless = [[replace(epoch, seconds=0) for epoch in run.report.curve] for run in (whole, parts)]
    assert timeless[0] == timeless[1]


def test_the_same_seed_gives_the_same_bytes_and_leaves_torch_alone(tmp_path):
    data = leave_one_out(random_histories(30))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        train(data, contents(), ROWS, small_config(epochs=2, seed=seed), tmp_path / name)
    assert torch.equal(torch.rand(3), expected)
    one, two, other = ((tmp_path / name / "tower.safetensors").read_bytes() for name in "abc")
    assert one == two
    assert one != other


def test_rows_may_come_in_any_order(tmp_path):
    data, config = leave_one_out(random_histories(30)), small_config(epochs=2)
    order = np.random.default_rng(0).permutation(len(ROWS))
    train(data, contents(), ROWS, config, tmp_path / "a")
    train(data, contents()[order], ROWS[order], config, tmp_path / "b")
    one, two = ((tmp_path / name / "tower.safetensors").read_bytes() for name in "ab")
    assert one == two


def test_another_training_is_not_gone_on_from(tmp_path):
    data, config = leave_one_out(random_histories(30)), small_config(epochs=1)
    train(data, contents(), ROWS, config, tmp_path)
    with pytest.raises(UsageError, match="other data or with another configuration"):
        train(data, contents(), ROWS, config.model_copy(update={"rate": 0.1}), tmp_path)
    with pytest.raises(UsageError, match="other data or with another configuration"):
        train(data, contents(seed=1), ROWS, config, tmp_path)
    (tmp_path / "checkpoint.safetensors").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match="no checkpoint"):
        train(data, contents(), ROWS, config, tmp_path)


@pytest.mark.parametrize(
    "sizes", [{}, {"content": False}, {"interests": 3}, {"adaptor": 4}, {"spans": False, "ask_time": False}]
)
def test_gradients_reach_everything_that_is_trained_and_nothing_else(sizes):
    loop = loop_of(random_histories(30), tower=sizes, delta_drop=0.0)
    before = {name: tensor.clone() for name, tensor in loop.objective.state_dict().items()}
    for _ in range(2):  # In the first step a delta of zero still hides its bound.
        windows, taken = loop.steps(1)
        loop.step(windows, taken[0])
    trained = dict(loop.objective.named_parameters())
    for name, tensor in loop.objective.state_dict().items():
        assert torch.equal(tensor, before[name]) == (name not in trained), name


def test_items_that_training_has_not_seen_have_no_delta_and_no_loss():
    histories = random_histories(30)
    assert ROWS[7] not in histories.items
    loop = loop_of(histories)
    rows = loop.objective.tower.items.rows.tolist()
    assert ROWS[7] not in rows
    assert set(rows) == set(make_training_task(histories, DEFAULT_WEIGHTS, 1000, 0).train.items.tolist())
    assert len(loop.objective.white) == len(rows)


@pytest.mark.parametrize("shards", [2, 4])
def test_shards_add_up_to_the_whole_step(shards):
    """Without dropout, gradients over shards are those of the batch at once."""
    still = {"delta_drop": 0.0, "tower": {"dropout": 0.0}}
    losses = []
    for count in (1, shards):
        loop = loop_of(random_histories(30), shards=count, **{**still, "tower": dict(still["tower"])})
        losses.append([loop.train_epoch().loss for _ in range(3)])
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)


def test_validation_is_full_ranking_without_what_was_met():
    """Against scores in float64, one person at a time, through the public model."""
    data = leave_one_out(random_histories(30))
    loop = loop_of(data)
    model = TowerModel(loop.objective.tower.eval())
    vectors = model.items(ROWS, contents())
    gains = []
    live = data.live
    for target in data.validation:
        seen = data.history(int(target))
        mine = History(
            live.items[seen],
            ("view",) * (seen.stop - seen.start),
            np.ones(seen.stop - seen.start, np.float32),
            live.times[seen],
        )
        places = np.searchsorted(ROWS, mine.rows)
        (found,) = model.users([mine], [vectors[places]], int(live.times[target]))
        scores = vectors.astype(np.float64) @ found.vectors[0].astype(np.float64)
        wanted = np.searchsorted(ROWS, live.items[target])
        left = np.setdiff1d(np.arange(len(ROWS)), np.setdiff1d(places, [wanted]))
        rank = 1 + (scores[left] > scores[wanted]).sum()
        gains.append(1 / np.log2(1 + rank) if rank <= 10 else 0)
    assert loop.validate() == pytest.approx(np.mean(gains), abs=1e-6)


def test_what_cannot_be_trained_on_is_refused(tmp_path):
    with pytest.raises(UsageError, match="nobody has two events"):
        train(histories_of([[5], [6]]), contents(), ROWS, small_config(), tmp_path)
    with pytest.raises(UsageError, match="have no content"):
        train(histories_of([[5, 6, 7]]), contents(), ROWS, small_config(), tmp_path)
    with pytest.raises(UsageError, match="one row number"):
        train(cyclic(), contents(9), np.append(ROWS, 5), small_config(), tmp_path)
