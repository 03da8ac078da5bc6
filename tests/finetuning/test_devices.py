"""Fine-tuning where the accelerator has another device than the towers: all that meets is brought there."""

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from finetuning.towers import IMAGE, TEXT, Small, paired
from pretended_cuda import CUDA, pretended_cuda

from mmrec.finetuning import preparing
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.finetune import finetune
from mmrec.finetuning.loop import Embedder
from mmrec.finetuning.losses import HardNegatives, Temperature, pair_loss, supcon
from mmrec.finetuning.samples import VectorSamples
from mmrec.finetuning.towers import load_sources
from mmrec.storage.layout import Layout


class OnCuda(Accelerator):
    """An accelerator of one process whose device is the pretended one."""

    device = CUDA

    def __init__(self, *_):
        super().__init__(cpu=True, mixed_precision="no")


@pytest.fixture
def cuda():
    with pretended_cuda():
        yield


def test_a_tensor_left_on_the_host_is_found(cuda):
    rows = torch.zeros(3, 2, device="cuda")
    assert rows.is_cuda
    with pytest.raises(RuntimeError, match="two devices"):
        rows[torch.tensor([0]).to("cuda")] = torch.ones(1, 2)
    with pytest.raises(RuntimeError, match="two devices"):
        torch.nn.Linear(2, 2).to("cuda")(torch.ones(1, 2))
    assert (rows + 1).cpu().tolist() == [[1, 1]] * 3


@pytest.mark.slow
def test_fitted_heads_of_a_store_are_judged(small_shop, tmp_path, monkeypatch, cuda):
    monkeypatch.setattr(preparing, "make_accelerator", OnCuda)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    settings = FinetuneConfig(held_out={"validation": 0.1, "test": 0.3})
    done = finetune(Layout(small_shop), load_sources(device="auto"), "align", settings, tmp_path / "on-cuda")
    monkeypatch.undo()
    plain = settings.model_copy(update={"device": "cpu"})
    on_cpu = finetune(Layout(small_shop), load_sources(device="cpu"), "align", plain, tmp_path / "on-cpu")
    assert done.verdict == on_cpu.verdict


def test_towers_of_any_device_fill_the_vectors_of_a_corpus(cuda):
    corpus, vectors = paired()
    towers = {modality: Small(modality, dropout=0.0) for modality in corpus.contents}
    towers[IMAGE].network.to("cuda")
    samples = {modality: VectorSamples(own) for modality, own in vectors.items()}
    found = Embedder(towers, samples, OnCuda()).embed_corpus(corpus)
    for modality in (TEXT, IMAGE):
        network = towers[modality].network.to("cpu")
        with torch.no_grad():
            expected = torch.nn.functional.normalize(network(torch.from_numpy(vectors[modality])), dim=1)
        np.testing.assert_allclose(found[modality], expected, atol=1e-6)


@pytest.mark.parametrize("loss", ["infonce", "siglip"])
def test_losses_of_vectors_on_a_gpu_make_nothing_on_the_host(loss, cuda):
    vectors = torch.nn.functional.normalize(torch.arange(1.0, 25).reshape(3, 2, 4).sin(), dim=2)
    same, nobody = torch.eye(2, dtype=torch.bool), torch.zeros(2, 2, dtype=torch.bool)
    made = Temperature(20.0, -10.0 if loss == "siglip" else None)

    def lost(device):
        left, right, more = vectors.to(device)
        hard = HardNegatives(more, nobody.to(device))
        lost = pair_loss(left, right, made.to(device), same.to(device), hard=(hard, hard))
        return float(lost.detach().cpu())

    assert lost("cuda") == pytest.approx(lost("cpu"), abs=1e-6)


def test_the_loss_of_labels_makes_nothing_on_the_host(cuda):
    vectors = torch.nn.functional.normalize(torch.arange(1.0, 13).reshape(3, 4).sin(), dim=1)
    given = (vectors, torch.tensor([0, 0, 1]), torch.tensor(5.0), torch.eye(3, dtype=torch.bool))
    on_cuda = supcon(*(one.to("cuda") for one in given))
    np.testing.assert_allclose(on_cuda.cpu().numpy(), supcon(*given).numpy(), atol=1e-6)
