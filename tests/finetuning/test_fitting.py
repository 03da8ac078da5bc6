"""Heads in closed form on towers: who teaches, who is taught, and what cannot be."""

import numpy as np
import pytest
import torch
from finetuning.towers import named

from mmrec.errors import UsageError
from mmrec.finetuning.config import HeadSettings, TowerSettings
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.head_fitting import fit_towers
from mmrec.finetuning.samples import VectorSamples
from mmrec.finetuning.tower_building import build_towers
from mmrec.finetuning.towers import load_sources
from mmrec.types import Modality
from mmrec.unit import unit

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
COUNT = 40
SPACES = {TEXT: "minilm", IMAGE: "efficientnet-lite0", AUDIO: "yamnet"}


@pytest.fixture(scope="module")
def sources():
    return load_sources(device="cpu")


def given(sources, **ways):
    """Towers, and contents of theirs that are views of one hidden vector."""
    settings = {
        Modality(name): TowerSettings(how=how, head=None if how == "frozen" else HeadSettings(inputs=(SPACES[name],)))
        for name, how in ways.items()
    }
    towers = build_towers(sources, settings)
    random = np.random.default_rng(0)
    hidden = random.normal(size=(COUNT, 4))
    vectors = {
        modality: unit((hidden @ random.normal(size=(4, tower.inputs[0][1]))).astype(np.float32))
        for modality, tower in towers.items()
    }
    corpus = Corpus.of(
        list(range(COUNT)), {modality: [[named(modality, f"{at:04}")] for at in range(COUNT)] for modality in towers}
    )
    return corpus, vectors, towers, {modality: VectorSamples(own) for modality, own in vectors.items()}


def placed(towers, vectors, modality):
    rows = torch.from_numpy(vectors[modality])
    with torch.no_grad():
        return towers[modality].head({SPACES[modality]: rows}).numpy()


def test_a_frozen_modality_teaches_the_others_and_none_but_the_items_named(sources):
    corpus, vectors, towers, samples = given(sources, text="frozen", image="fitted")
    taught = np.arange(0, COUNT, 2)
    fitted = fit_towers(towers, samples, corpus, taught, 0)
    assert fitted[TEXT] is towers[TEXT]
    assert len(fitted[IMAGE].head.inner.weight) == len(taught)
    wanted = vectors[TEXT][taught]
    wanted = unit(wanted - wanted.mean(axis=0))
    assert (placed(fitted, vectors, IMAGE)[taught] * wanted).sum(axis=1).mean() > 0.95
    assert not any(weight.requires_grad for weight in fitted[IMAGE].network.parameters())


def test_given_targets_teach_every_modality_and_items_without_one_teach_nothing(sources):
    corpus, vectors, towers, samples = given(sources, text="fitted", image="fitted")
    targets = np.random.default_rng(1).normal(size=(COUNT, 5))
    targets[::4] = 0
    fitted = fit_towers(towers, samples, corpus, np.arange(COUNT), 0, lambda: targets)
    known = targets.any(axis=1)
    wanted = unit(targets[known].astype(np.float32))
    wanted = unit(wanted - wanted.mean(axis=0))
    for modality in (TEXT, IMAGE):
        assert fitted[modality].dim == 5
        assert len(fitted[modality].head.inner.weight) == known.sum()
        assert (placed(fitted, vectors, modality)[known] * wanted).sum(axis=1).mean() > 0.8


def test_towers_that_lie_elsewhere_are_not_taught_beside_given_targets(sources):
    corpus, _, towers, samples = given(sources, text="frozen", image="fitted", audio="head")
    with pytest.raises(UsageError, match="text, audio do not lie"):
        fit_towers(towers, samples, corpus, np.arange(COUNT), 0, lambda: np.ones((COUNT, 3)))


def test_heads_without_a_teacher_say_what_is_missing(sources):
    corpus, _, towers, samples = given(sources, image="fitted", audio="fitted")
    with pytest.raises(UsageError, match='give one how = "frozen"'):
        fit_towers(towers, samples, corpus, np.arange(COUNT), 0)


def test_nothing_to_fit_changes_nothing_and_asks_for_no_targets(sources):
    corpus, _, towers, samples = given(sources, text="frozen", image="head")

    def never():
        raise AssertionError("targets were computed for nothing")

    assert fit_towers(towers, samples, corpus, np.arange(COUNT), 0, never) == towers
    assert AUDIO not in towers
