"""Small towers, a corpus whose modalities belong together, and loops over them."""

from pathlib import Path

import numpy as np
import torch
from torch import nn

from mmrec.encoders.protocol import Sample
from mmrec.finetuning.align import Align
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.loop import Embedder, Loop
from mmrec.finetuning.questions import cross_modal_questions
from mmrec.finetuning.samples import VectorSamples
from mmrec.training.checkpoint import make_accelerator
from mmrec.types import Modality
from mmrec.unit import unit

TEXT, IMAGE, AUDIO = Modality.TEXT, Modality.IMAGE, Modality.AUDIO
WIDTH = {TEXT: 8, IMAGE: 12, AUDIO: 6}


class Small:
    """A two-layer network with dropout over stored vectors."""

    def __init__(self, modality, dim=8, dropout=0.2, batch_cost=64):
        torch.manual_seed(sorted(WIDTH).index(modality))
        width = WIDTH[modality]
        self.modality, self.dim, self.batch_cost = modality, dim, batch_cost
        self.network = nn.Sequential(nn.Linear(width, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, dim))

    def prepare(self, content):
        return Sample(torch.as_tensor(content), cost=1)

    def embed(self, samples):
        batch = torch.stack([sample.tensor for sample in samples]).to(self.network[0].weight.device)
        return nn.functional.normalize(self.network(batch).float(), dim=1)


def named(modality, number):
    return f"{modality}{number}".encode().ljust(16, b".")


def paired(count=40, latent=4, seed=0, noise=0.05, modalities=(TEXT, IMAGE), duplicates=0):
    """Items whose contents are views of one hidden vector; the first `duplicates` texts are those of the next item."""
    random = np.random.default_rng(seed)
    hidden = random.normal(size=(count, latent))
    names, vectors = {}, {}
    for modality in modalities:
        view = np.random.default_rng(sorted(WIDTH).index(modality)).normal(size=(latent, WIDTH[modality]))
        seen = hidden @ view + noise * random.normal(size=(count, WIDTH[modality]))
        names[modality] = [[named(modality, f"{number:04}")] for number in range(count)]
        vectors[modality] = unit(seen.astype(np.float32))
    for number in range(duplicates):
        names[TEXT][number] = names[TEXT][number + 1]
    corpus = Corpus.of(list(range(10, 10 + count)), names)
    if duplicates:
        kept = [int(name[:8].decode().strip(".")[4:]) for name in corpus.contents[TEXT].hashes]
        vectors[TEXT] = vectors[TEXT][kept]
    return corpus, vectors


def small_config(**settings):
    plain = {"device": "cpu", "batch": 16, "warmup": 2, "epochs": 4, "rate": 1e-2, "patience": 100, "decay": 0.0}
    return FinetuneConfig(**{**plain, **settings})


def loop_of(corpus, vectors, config, items=None, asked=None, frozen=(), **sizes):
    towers = {modality: Small(modality, **sizes) for modality in corpus.contents}
    for modality in frozen:
        towers[modality].network.requires_grad_(requires_grad=False)
    accelerator = make_accelerator(config.device, config.precision)
    samples = {modality: VectorSamples(own) for modality, own in vectors.items()}
    items = np.arange(len(corpus)) if items is None else items
    asked = items if asked is None else asked
    questions = cross_modal_questions(corpus, config.align.pairs, asked, np.arange(len(corpus)), np.arange(len(corpus)))
    embedder = Embedder(towers, samples, accelerator, config.part_cost, config.shards)

    def score(found):
        answers = questions.rank([found])
        return float(np.mean([answer.metric("r@1").mean() for answer in answers.values()]))

    return Loop(embedder, corpus, Align(corpus, items, config), score, config)


def run(loop, folder: Path, said=lambda _: None):
    folder.mkdir(exist_ok=True)
    return loop.run(folder / "checkpoint.safetensors", "data", said)


def weights_of(loop):
    return {name: weight.detach().clone() for name, weight in loop.module.named_parameters()}
