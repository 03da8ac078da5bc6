"""Labels: each item once an epoch, with partners and with others, and a loss that has them apart."""

import numpy as np
import pytest
import torch
from finetuning.towers import named
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mmrec.errors import UsageError
from mmrec.finetuning.align import Label
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.losses import supcon
from mmrec.types import Modality

TEXT = Modality.TEXT


def corpus_of(count, shared=0):
    """Items of one text each; the first `shared` have one text in common."""
    names = [[named(TEXT, f"{0 if at < shared else at:04}")] for at in range(count)]
    return Corpus.of(list(range(count)), {TEXT: names})


def learned(labels, **settings):
    labels = np.array(labels, dtype=np.int64)
    return Label(corpus_of(len(labels)), np.arange(len(labels)), labels, FinetuneConfig(device="cpu", **settings))


def epochs_items(objective, epoch):
    """Items of each batch: each has one content, numbered as it is."""
    return [step.contents[TEXT].tolist() for step in objective.steps(epoch)]


@settings(deadline=None)
@given(
    st.lists(st.integers(-1, 5), min_size=2, max_size=60),
    st.integers(2, 16),
    st.integers(2, 6),
    st.integers(0, 3),
)
def test_an_epoch_is_all_items_once_each_with_partners(labels, batch, each, epoch):
    counts = np.bincount([label for label in labels if label >= 0], minlength=1)
    assume((counts >= 2).sum() >= 2)
    objective = learned(labels, batch=batch, label={"each": each})
    batches = epochs_items(objective, epoch)
    met = sorted(item for some in batches for item in some)
    assert met == [at for at, label in enumerate(labels) if label >= 0 and counts[label] >= 2]
    for some in batches:
        values = np.array([labels[item] for item in some])
        assert len(some) >= 4
        assert min(np.bincount(values)[np.unique(values)]) >= 2
    hands = sum(max(1, count // each) for count in counts[counts >= 2])
    assert len(batches) == min(-(-len(met) // batch), hands // 2)
    steps = list(objective.steps(epoch))
    assert [step.count for step in steps] == [len(some) for some in batches]
    assert [step.progress for step in steps] == [at / len(steps) for at in range(len(steps))]
    assert epochs_items(learned(labels, batch=batch, label={"each": each}), epoch) == batches


def test_epochs_and_seeds_differ():
    labels = [at % 3 for at in range(60)]
    runs = [epochs_items(learned(labels, batch=12, seed=seed), epoch) for seed, epoch in ((0, 1), (0, 2), (1, 1))]
    assert runs[0] != runs[1] != runs[2] != runs[0]


def test_the_loss_is_supcon_of_the_batch_in_its_order_with_what_is_shared_masked():
    labels = np.array([0, 0, 0, 1, 1, 1])
    objective = Label(corpus_of(6, shared=2), np.arange(6), labels, FinetuneConfig(device="cpu"))
    (step,) = objective.steps(1)
    vectors = torch.nn.functional.normalize(torch.randn(5, 4, generator=torch.Generator().manual_seed(0)), dim=1)
    placed = vectors[torch.tensor([0, 0, 1, 2, 3, 4])]
    same = torch.eye(6, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    wanted = supcon(placed, torch.from_numpy(labels), torch.tensor(20.0), same).mean()
    torch.testing.assert_close(step.loss({TEXT: vectors}), wanted)
    assert objective.temperature.scale.item() == pytest.approx(20)


@pytest.mark.parametrize("labels", [[0, 0, 0, 0], [0, 1, 2, 3], [-1, -1, 0, 0], [0, 0, 1, -1], []])
def test_fewer_than_two_values_of_two_items_are_refused_with_the_column_named(labels):
    with pytest.raises(UsageError, match=r"'colour' has fewer than two values.*label\.column"):
        learned(labels, label={"column": "colour"})
