"""The loop: it learns what can be learned, caches gradients exactly, and goes on exactly where it stopped."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from finetuning.towers import AUDIO, IMAGE, TEXT, loop_of, paired, run, small_config, weights_of

from mmrec.errors import UsageError
from mmrec.finetuning.loop import backward


def gradients(corpus, vectors, **settings):
    """Gradients of one step, and its loss."""
    sizes = {"dropout": settings.pop("dropout", 0.2)}
    config = small_config(batch=64, **settings)
    loop = loop_of(corpus, vectors, config, **sizes)
    loop.embedder.set_training()
    step = next(iter(loop.objective.steps(1)))
    loss = backward(step, loop.embedder, loop.objective.temperature, (0, 1), cached=config.cached)
    return loss, {name: weight.grad.clone() for name, weight in loop.module.named_parameters()}


def same(one, other, **tolerance):
    assert one[0] == pytest.approx(other[0], rel=tolerance["rtol"])
    assert one[1].keys() == other[1].keys()
    for name, gradient in one[1].items():
        torch.testing.assert_close(other[1][name], gradient, **tolerance, msg=name)


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
@pytest.mark.parametrize("parts", [7, 16])
def test_cached_gradients_are_those_of_the_large_batch(loss, parts):
    """In many parts with dropout on, against the same parts held at once."""
    corpus, vectors = paired(duplicates=6)
    held = gradients(corpus, vectors, loss=loss, part_cost=parts, cached=False)
    cached = gradients(corpus, vectors, loss=loss, part_cost=parts, cached=True)
    same(held, cached, rtol=1e-4, atol=1e-7)
    assert all(gradient.any() for gradient in cached[1].values())


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_parts_add_up_to_the_batch_in_one_part(loss):
    corpus, vectors = paired(modalities=(TEXT, IMAGE, AUDIO))
    whole = gradients(corpus, vectors, loss=loss, dropout=0.0, part_cost=1000)
    for parts in (1, 9):
        same(whole, gradients(corpus, vectors, loss=loss, dropout=0.0, part_cost=parts), rtol=1e-4, atol=1e-6)
    same(whole, gradients(corpus, vectors, loss=loss, dropout=0.0, part_cost=1000, shards=5), rtol=1e-4, atol=1e-6)


def test_gradients_reach_everything_that_is_trained_and_nothing_else():
    corpus, vectors = paired(modalities=(TEXT, IMAGE, AUDIO))
    loop = loop_of(corpus, vectors, small_config(decay=0.1), frozen=(TEXT,))
    before = weights_of(loop)
    for step in loop.objective.steps(1):
        loop.step(step, 0.0)
    for name, weight in weights_of(loop).items():
        assert torch.equal(weight, before[name]) == name.startswith("towers.text"), name


@pytest.mark.parametrize(
    "settings",
    [{}, {"loss": "siglip"}, {"mining": {"count": 2, "margin": 0.0}}, {"average": 0.9}, {"anneal": True}],
    ids=["infonce", "siglip", "mining", "average", "anneal"],
)
def test_sixteen_pairs_are_learned_by_heart(tmp_path, settings):
    corpus, vectors = paired(16, noise=0.5)
    loop = loop_of(corpus, vectors, small_config(epochs=150, batch=16, **settings), dropout=0.0)
    curve = run(loop, tmp_path)
    assert loop.progress.best == 1
    assert loop.score(loop.embedder.embed_corpus(corpus)) == 1
    assert curve[-1].loss < curve[0].loss


SETTINGS = [
    {"mining": {"count": 2, "every": 3, "margin": 0.0}},
    {"loss": "siglip", "average": 0.9, "anneal": True, "part_cost": 7},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=["mining", "siglip"])
@pytest.mark.parametrize("stops", [(1, 3), (2,)])
def test_a_run_that_was_interrupted_ends_with_the_same_weights(tmp_path, settings, stops):
    corpus, vectors = paired(duplicates=4, noise=0.4)
    config = small_config(epochs=5, **settings)
    whole = loop_of(corpus, vectors, config)
    curve = run(whole, tmp_path / "whole")

    for stop in stops:

        def said(epoch, stop=stop):
            if epoch.epoch == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(loop_of(corpus, vectors, config), tmp_path / "parts", said)
    parts, heard = loop_of(corpus, vectors, config), []
    other = run(parts, tmp_path / "parts", heard.append)
    assert [epoch.epoch for epoch in heard] == list(range(stops[-1] + 1, 6))
    for name, weight in weights_of(whole).items():
        assert torch.equal(weight, weights_of(parts)[name]), name
    assert [replace(epoch, seconds=0) for epoch in curve] == [replace(epoch, seconds=0) for epoch in other]


def test_another_training_is_not_gone_on_from(tmp_path):
    corpus, vectors = paired()
    run(loop_of(corpus, vectors, small_config(epochs=1)), tmp_path)
    with pytest.raises(UsageError, match="other data or with another configuration"):
        loop_of(corpus, vectors, small_config(epochs=1)).run(tmp_path / "checkpoint.safetensors", "x", lambda _: None)


def test_it_stops_when_it_gets_no_better_and_keeps_the_weights_that_were_there(tmp_path):
    """A rate that destroys everything leaves the towers as they were."""
    corpus, vectors = paired()
    learned = loop_of(corpus, vectors, small_config(epochs=40), dropout=0.0)
    run(learned, tmp_path / "good")
    loop = loop_of(corpus, vectors, small_config(epochs=40, rate=10.0, patience=3), dropout=0.0)
    loop.module.load_state_dict(learned.module.state_dict())
    before = weights_of(loop)
    curve = run(loop, tmp_path / "bad")
    assert len(curve) == 3
    assert loop.progress.best_epoch == 0
    for name, weight in weights_of(loop).items():
        assert torch.equal(weight, before[name]), name


def test_pairs_that_share_a_content_are_masked_and_mined_strangers_share_none():
    corpus, vectors = paired(duplicates=12, noise=0.4)
    config = small_config(mining={"count": 3, "margin": 0.1, "after": 1})
    loop = loop_of(corpus, vectors, config)
    found = loop.embedder.embed_corpus(corpus)
    loop.objective.find_hard_negatives(found)
    assert loop.objective.hard_negatives
    for name, mined in loop.objective.hard_negatives.items():
        way = int(name[-1])
        sides = [found[side][corpus.contents[side].places] for side in (TEXT, IMAGE)]
        asking, gives = sides[way], sides[1 - way]
        partners = (asking * gives).sum(axis=1)
        for item, found_ones in enumerate(mined.numpy()):
            others = found_ones[found_ones >= 0]
            assert not corpus.share(np.array([item]), others).any()
            assert (gives[others] @ asking[item] <= partners[item] - 0.1 + 1e-5).all()
    assert any((mined >= 0).any() for mined in loop.objective.hard_negatives.values())


def test_the_same_seed_gives_the_same_weights(tmp_path):
    corpus, vectors = paired()
    runs = []
    for number, seed in enumerate((0, 0, 1)):
        loop = loop_of(corpus, vectors, small_config(seed=seed, epochs=2))
        run(loop, tmp_path / str(number))
        runs.append(torch.cat([weight.flatten() for weight in weights_of(loop).values()]))
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
