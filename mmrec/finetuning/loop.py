"""The fine-tuning loop, with gradient caching for batches larger than memory, and embedding in parts."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from accelerate import Accelerator
from jaxtyping import Int64
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.objective import ContentVectors, FinetuneObjective, Step
from mmrec.finetuning.samples import Samples
from mmrec.finetuning.towers import ContentTower
from mmrec.training.checkpoint import seed_torch, trainable_parameters
from mmrec.training.trainer import Epoch, Trainer
from mmrec.types import Modality


@dataclass(frozen=True, slots=True, eq=False)
class EmbeddingPart:
    """Contents of one modality that are embedded at once: where they are in the batch, and in the corpus."""

    modality: Modality
    in_batch: Int64[np.ndarray, " n"]
    places: Int64[np.ndarray, " n"]


class Embedder:
    """Embeds batches in parts of contents of similar cost, which need little padding; each part in one process."""

    def __init__(
        self,
        towers: Mapping[Modality, ContentTower],
        samples: Mapping[Modality, Samples],
        accelerator: Accelerator,
        cost: int = 0,
        least: int = 1,
    ) -> None:
        """Embed samples by the tower of their modality.

        Parts cost no more than `cost`, or than each tower's own batch where it is 0, and each modality has at least
        `least` of them where it has as many contents.
        """
        self.towers, self.samples, self.accelerator = towers, samples, accelerator
        self._cost, self._least = cost, least
        self.networks = nn.ModuleDict({str(name): towers[name].network for name in sorted(towers)})

    def parts(self, contents: Mapping[Modality, Int64[np.ndarray, " _"]]) -> list[EmbeddingPart]:
        """Return all parts of a batch, the most costly contents of each modality first."""
        return [part for modality, places in contents.items() for part in self._cut(modality, places)]

    def _cut(self, modality: Modality, places: Int64[np.ndarray, " n"]) -> list[EmbeddingPart]:
        costs = self.samples[modality].costs[places]
        order = np.argsort(-costs, kind="stable")
        most = self._cost or self.towers[modality].batch_cost
        evenly = -(-len(places) // self._least)
        parts, start = [], 0
        while start < len(order):
            size = max(1, min(evenly, most // max(1, int(costs[order[start]]))))
            at = order[start : start + size]
            parts.append(EmbeddingPart(modality, at, places[at]))
            start += size
        return parts

    def own(self, parts: list[EmbeddingPart]) -> list[tuple[int, EmbeddingPart]]:
        """The parts of this process, with their numbers."""
        return list(enumerate(parts))[self.accelerator.process_index :: self.accelerator.num_processes]

    def expect(self, part: EmbeddingPart | None) -> None:
        """Start to prepare a part that is needed soon."""
        if part is not None:
            self.samples[part.modality].expect(part.places)

    def embed(self, part: EmbeddingPart) -> Tensor:
        """Unit vectors of a part, in float32, on the accelerator's device whatever device its tower is on."""
        with self.accelerator.autocast():
            vectors = self.towers[part.modality].embed(self.samples[part.modality].take(part.places))
        return vectors.to(self.accelerator.device, torch.float32)

    def rows(self, part: EmbeddingPart) -> Tensor:
        """Where the contents of a part are in the batch, on the accelerator's device."""
        return torch.from_numpy(np.ascontiguousarray(part.in_batch)).to(self.accelerator.device)

    def empty(self, sizes: Mapping[Modality, int]) -> dict[Modality, Tensor]:
        """Return zeros for the vectors of so many contents."""
        device = self.accelerator.device
        return {name: torch.zeros(size, self.towers[name].dim, device=device) for name, size in sizes.items()}

    def joined(self, vectors: Mapping[Modality, Tensor]) -> dict[Modality, Tensor]:
        """Sum the vectors over the processes: each row is zero but in the process that embedded it."""
        return {name: self.accelerator.reduce(some, "sum") for name, some in vectors.items()}

    @torch.no_grad()
    def embed_corpus(self, corpus: Corpus) -> ContentVectors:
        """Vectors of all contents of a corpus, as a service would have them: nothing is dropped."""
        vectors = self.empty({modality: len(own) for modality, own in corpus.contents.items()})
        with self.evaluating():
            parts = self.parts({modality: np.arange(len(own)) for modality, own in corpus.contents.items()})
            mine = [part for _, part in self.own(parts)]
            for part, following in zip_longest(mine, mine[1:]):
                self.expect(following)
                vectors[part.modality][self.rows(part)] = self.embed(part)
        return {name: some.cpu().numpy() for name, some in self.joined(vectors).items()}

    @contextmanager
    def evaluating(self) -> Iterator[None]:
        """Set the networks to evaluation within this context."""
        was = self.networks.training
        self.networks.eval()
        try:
            yield
        finally:
            if was:
                self.set_training()

    def set_training(self) -> None:
        """Set the networks to training, but not batch normalisation: a vector must not depend on its batch."""
        self.networks.train()
        for module in self.networks.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def backward(step: Step, embedder: Embedder, learned: nn.Module, seeds: Sequence[int], *, cached: bool) -> float:
    """Leave the gradients of a step's mean loss in all weights that are trained; returns the loss.

    Where `cached`, parts are embedded twice rather than held in memory; `learned` is the temperature of the loss.
    """
    parts = embedder.parts(step.contents)
    own = embedder.own(parts)
    held = not cached or len(parts) == 1
    graphs: list[Tensor] = []
    vectors = embedder.empty({name: len(places) for name, places in step.contents.items()})
    for number, part in _ahead(embedder, own):
        seed_torch([*seeds, number])
        with torch.set_grad_enabled(held):
            graphs.append(embedder.embed(part))
        vectors[part.modality][embedder.rows(part)] = graphs[-1].detach()
        if not held:
            graphs.clear()
    leaves = {name: some.detach().requires_grad_() for name, some in embedder.joined(vectors).items()}
    loss = step.loss(leaves)
    torch.autograd.backward(loss)
    for place, (number, part) in enumerate(own if held else _ahead(embedder, own)):
        if not any(weight.requires_grad for weight in embedder.towers[part.modality].network.parameters()):
            continue
        if not held:
            seed_torch([*seeds, number])
        made = graphs[place] if held else embedder.embed(part)
        gradient = leaves[part.modality].grad
        if made.requires_grad and gradient is not None:
            torch.autograd.backward(made, gradient[embedder.rows(part)])
    _join(embedder, learned)
    return float(loss.detach().item())


def _ahead(embedder: Embedder, own: Sequence[tuple[int, EmbeddingPart]]) -> Iterator[tuple[int, EmbeddingPart]]:
    """Yield the parts of this process, each while the next one is prepared."""
    for place, numbered in enumerate(own):
        for _, part in own[place : place + 2]:
            embedder.expect(part)
        yield numbered


def _join(embedder: Embedder, learned: nn.Module) -> None:
    """Add up the towers' gradients over the processes; the loss's own are the same in each.

    A weight that no content of this batch reached has a gradient of zero, in one process as in several.
    """
    for module, how in ((embedder.networks, "sum"), (learned, "mean")):
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        if not weights:
            continue
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        if embedder.accelerator.num_processes > 1:
            whole = embedder.accelerator.reduce(parameters_to_vector(gradients), how)
            vector_to_parameters(whole, gradients)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient


class Loop(Trainer):
    """Trains the towers and the temperature of the objective; `score` validates vectors of all contents."""

    config: FinetuneConfig

    def __init__(
        self,
        embedder: Embedder,
        corpus: Corpus,
        objective: FinetuneObjective,
        score: Callable[[ContentVectors], float],
        config: FinetuneConfig,
    ) -> None:
        self.embedder, self.corpus, self.objective, self.score = embedder, corpus, objective, score
        device = embedder.accelerator.device
        parts = {"towers": embedder.networks, "loss": objective.temperature}
        module = nn.ModuleDict(parts).to(device)
        groups = _groups(embedder.networks, objective.temperature, config)
        optimizer = torch.optim.AdamW(groups, lr=config.rate, fused=device.type in {"cpu", "cuda"})
        optimizer = embedder.accelerator.prepare(optimizer)
        super().__init__(module, optimizer, embedder.accelerator, config, objective.hard_negatives)

    def run(self, path: Path, fingerprint: str, on_epoch: Callable[[Epoch], None]) -> list[Epoch]:
        """Train as `Trainer.run` does; the weights that were there before the first epoch may be the best ones."""
        if not path.exists():
            self.keep_weights(self.validate())
        return super().run(path, fingerprint, on_epoch)

    def step(self, step: Step, progress: float) -> float:
        """Take one step; returns its mean loss. `progress` is the share of all epochs that came before."""
        self.progress.step += 1
        factor = min(1.0, self.progress.step / max(1, self.config.warmup))
        factor *= (1 + math.cos(math.pi * progress)) / 2 if self.config.anneal else 1
        for group in self.optimizer.param_groups:
            group["lr"] = factor * group["full_rate"]
        seeds = (self.config.seed, self.progress.step)
        loss = backward(step, self.embedder, self.objective.temperature, seeds, cached=self.config.cached)
        self.apply_gradients()
        return loss

    def train_epoch(self) -> Epoch:
        """Look for hard negatives where that is due, and take a step for each batch of the objective."""
        epoch, mining = self.progress.epoch, self.config.mining
        began = perf_counter()
        if self.objective.uses_hard_negatives and epoch >= mining.after and (epoch - mining.after) % mining.every == 0:
            self.objective.find_hard_negatives(self.embedder.embed_corpus(self.corpus))
        self.embedder.set_training()
        total, count = 0.0, 0
        for step in self.objective.steps(epoch):
            total += step.count * self.step(step, (epoch - 1 + step.progress) / self.config.epochs)
            count += step.count
        scale = float(self.objective.temperature.scale.item())
        return Epoch(epoch, total / max(1, count), None, scale, perf_counter() - began)

    def validate(self) -> float:
        """Score the vectors of all contents."""
        return self.score(self.embedder.embed_corpus(self.corpus))


def _groups(networks: nn.Module, learned: nn.Module, config: FinetuneConfig) -> list[dict[str, object]]:
    weights = list(trainable_parameters(networks).values())
    matrices = [weight for weight in weights if weight.ndim >= 2]
    vectors = [weight for weight in weights if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.decay, "full_rate": config.rate},
        {"params": vectors, "weight_decay": 0.0, "full_rate": config.rate},
        {"params": list(learned.parameters()), "weight_decay": 0.0, "full_rate": config.scale_rate},
    ]
    return [group for group in groups if group["params"]]
