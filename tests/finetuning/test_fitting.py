"""Heads in closed form on towers: who teaches, who is taught, and what cannot be."""

import numpy as np
import pytest
import torch
from finetuning.towers import AUDIO, IMAGE, TEXT, WIDTH, paired

from mmrec.encoders.head import Head, HeadConfig
from mmrec.errors import UsageError
from mmrec.finetuning.fitting import fit_towers
from mmrec.finetuning.samples import VectorSamples
from mmrec.finetuning.sources import load_sources
from mmrec.finetuning.tower_settings import TowerSettings
from mmrec.finetuning.vector_tower import VectorTower
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.unit import unit

COUNT = 40


def tower(modality, how):
    space = Space(f"{modality}s", WIDTH[modality], "0" * 64)
    head = None if how == "frozen" else Head(HeadConfig(inputs=((space.name, space.dim),), dim=WIDTH[TEXT]))
    return VectorTower(modality, load_sources(device="cpu")[0], space, TowerSettings(how=how), head)


def given(**ways):
    asked = {Modality(name): how for name, how in ways.items()}
    corpus, vectors = paired(COUNT, modalities=tuple(asked), noise=0.0)
    towers = {modality: tower(modality, how) for modality, how in asked.items()}
    return corpus, vectors, towers, {modality: VectorSamples({modality: own}) for modality, own in vectors.items()}


def placed(towers, vectors, modality):
    rows = torch.from_numpy(vectors[modality])
    with torch.no_grad():
        return towers[modality].head({f"{modality}s": rows}).numpy()


def test_a_frozen_modality_teaches_the_others_and_none_but_the_items_named():
    corpus, vectors, towers, samples = given(text="frozen", image="fitted")
    taught = np.arange(0, COUNT, 2)
    fitted = fit_towers(towers, samples, corpus, taught, 0)
    assert fitted[TEXT] is towers[TEXT]
    assert len(fitted[IMAGE].head.inner.weight) == len(taught)
    wanted = vectors[TEXT][taught]
    wanted = unit(wanted - wanted.mean(axis=0))
    assert (placed(fitted, vectors, IMAGE)[taught] * wanted).sum(axis=1).mean() > 0.95
    assert not any(weight.requires_grad for weight in fitted[IMAGE].network.parameters())


def test_given_targets_teach_every_modality_and_items_without_one_teach_nothing():
    corpus, vectors, towers, samples = given(text="fitted", image="fitted")
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


def test_towers_that_lie_elsewhere_are_not_taught_beside_given_targets():
    corpus, _, towers, samples = given(text="frozen", image="fitted", audio="head")
    with pytest.raises(UsageError, match="text, audio do not lie"):
        fit_towers(towers, samples, corpus, np.arange(COUNT), 0, lambda: np.ones((COUNT, 3)))


def test_heads_without_a_teacher_say_what_is_missing():
    corpus, _, towers, samples = given(image="fitted", audio="fitted")
    with pytest.raises(UsageError, match='give one how = "frozen"'):
        fit_towers(towers, samples, corpus, np.arange(COUNT), 0)


def test_nothing_to_fit_changes_nothing_and_asks_for_no_targets():
    corpus, _, towers, samples = given(text="frozen", image="head")

    def never():
        raise AssertionError("targets were computed for nothing")

    assert fit_towers(towers, samples, corpus, np.arange(COUNT), 0, never) == towers
    assert AUDIO not in towers
