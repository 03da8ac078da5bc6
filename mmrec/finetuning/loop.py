"""The fine-tuning loop, with gradient caching for batches larger than memory, and embedding in parts."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
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
from mmrec.training.checkpoint import WeightAverage, seed_torch, trained
from mmrec.training.trainer import Epoch, Trainer
from mmrec.types import Modality


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Contents that are embedded at once.

    Attributes:
        modality: What they are.
        at: Where they are in the batch.
        places: Where they are in the corpus.

    """

    modality: Modality
    at: Int64[np.ndarray, " n"]
    places: Int64[np.ndarray, " n"]


@dataclass(frozen=True, slots=True, eq=False)
class Parts:
    """Cuts batches into parts of contents of similar cost, which need little padding.

    Attributes:
        towers: What embeds them.
        samples: The contents and their costs.
        cost: Greatest cost of a part; 0 for each tower's own batch.
        least: Least number of parts of each modality, where it has as many contents.

    """

    towers: Mapping[Modality, ContentTower]
    samples: Samples
    cost: int = 0
    least: int = 1

    def of(self, contents: Mapping[Modality, Int64[np.ndarray, " _"]]) -> list[Part]:
        """Return all parts of a batch, the most costly contents of each modality first."""
        return [part for modality, places in contents.items() for part in self._cut(modality, places)]

    def _cut(self, modality: Modality, places: Int64[np.ndarray, " n"]) -> list[Part]:
        costs = self.samples.costs(modality)[places]
        order = np.argsort(-costs, kind="stable")
        most = self.cost or self.towers[modality].batch_cost
        evenly = -(-len(places) // self.least)
        parts, start = [], 0
        while start < len(order):
            size = max(1, min(evenly, most // max(1, int(costs[order[start]]))))
            at = order[start : start + size]
            parts.append(Part(modality, at, places[at]))
            start += size
        return parts


class Embedder:
    """Embeds parts of batches, each by one of the processes."""

    def __init__(self, parts: Parts, accelerator: Accelerator) -> None:
        self.parts, self.accelerator = parts, accelerator
        self.towers = parts.towers
        self.networks = nn.ModuleDict({str(name): self.towers[name].network for name in sorted(self.towers)})

    def own(self, parts: list[Part]) -> list[tuple[int, Part]]:
        """The parts of this process, with their numbers."""
        return list(enumerate(parts))[self.accelerator.process_index :: self.accelerator.num_processes]

    def embed(self, part: Part) -> Tensor:
        """Unit vectors of a part, in float32, on the accelerator's device whatever device its tower is on."""
        tower = self.towers[part.modality]
        with self.accelerator.autocast():
            vectors = tower.embed(self.parts.samples.take(part.modality, part.places))
        return vectors.to(self.accelerator.device, torch.float32)

    def empty(self, sizes: Mapping[Modality, int]) -> dict[Modality, Tensor]:
        """Return zeros for the vectors of so many contents."""
        device = self.accelerator.device
        return {name: torch.zeros(size, self.towers[name].dim, device=device) for name, size in sizes.items()}

    def joined(self, vectors: Mapping[Modality, Tensor]) -> dict[Modality, Tensor]:
        """Sum the vectors over the processes: each row is zero but in the process that embedded it."""
        return {name: self.accelerator.reduce(some, "sum") for name, some in vectors.items()}

    @torch.no_grad()
    def all(self, corpus: Corpus) -> ContentVectors:
        """Vectors of all contents of a corpus, as a service would have them: nothing is dropped."""
        vectors = self.empty({modality: len(own) for modality, own in corpus.contents.items()})
        with self.evaluating():
            parts = self.parts.of({modality: np.arange(len(own)) for modality, own in corpus.contents.items()})
            mine = [part for _, part in self.own(parts)]
            for part, following in zip(mine, [*mine[1:], None], strict=True):
                if following is not None:
                    self.parts.samples.expect(following.modality, following.places)
                vectors[part.modality][torch.from_numpy(part.at).to(self.accelerator.device)] = self.embed(part)
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
                self.learning()

    def learning(self) -> None:
        """Set the networks to training, but not batch normalisation: a vector must not depend on its batch."""
        self.networks.train()
        for module in self.networks.modules():
            if isinstance(module, _BatchNorm):
                module.eval()


def backward(step: Step, embedder: Embedder, learned: nn.Module, seeds: Sequence[int], *, cached: bool) -> float:
    """Leave the gradients of a step's mean loss in all weights that are trained; returns the loss.

    Args:
        step: The batch.
        embedder: The towers.
        learned: The temperature of the loss.
        seeds: Seeds of the step's random numbers.
        cached: Whether parts are embedded twice rather than held in memory.

    """
    parts = embedder.parts.of(step.contents)
    own = embedder.own(parts)
    held = not cached or len(parts) == 1
    graphs: list[Tensor] = []
    vectors = embedder.empty({name: len(places) for name, places in step.contents.items()})
    _expect(embedder, own, 0)
    for place, (number, part) in enumerate(own):
        _expect(embedder, own, place + 1)
        seed_torch([*seeds, number])
        with torch.set_grad_enabled(held):
            graphs.append(embedder.embed(part))
        vectors[part.modality][_rows(part, embedder)] = graphs[-1].detach()
        if not held:
            graphs.clear()
    leaves = {name: some.detach().requires_grad_() for name, some in embedder.joined(vectors).items()}
    loss = step.loss(leaves)
    torch.autograd.backward(loss)
    for place, (number, part) in enumerate(own):
        if not any(weight.requires_grad for weight in embedder.towers[part.modality].network.parameters()):
            continue
        if not held:
            _expect(embedder, own, place + 1)
            seed_torch([*seeds, number])
        found = graphs[place] if held else embedder.embed(part)
        given = leaves[part.modality].grad
        if found.requires_grad and given is not None:
            torch.autograd.backward(found, given[_rows(part, embedder)])
    _join(embedder, learned)
    return float(loss.detach().item())


def _expect(embedder: Embedder, own: Sequence[tuple[int, Part]], place: int) -> None:
    if place < len(own):
        part = own[place][1]
        embedder.parts.samples.expect(part.modality, part.places)


def _rows(part: Part, embedder: Embedder) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(part.at)).to(embedder.accelerator.device)


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


class Loop:
    """Trains the towers and the temperature of the objective."""

    def __init__(
        self,
        embedder: Embedder,
        corpus: Corpus,
        objective: FinetuneObjective,
        judge: Callable[[ContentVectors], float],
        config: FinetuneConfig,
    ) -> None:
        self.embedder, self.corpus, self.objective, self.judge = embedder, corpus, objective, judge
        self.config, self.accelerator = config, embedder.accelerator
        parts = {"towers": embedder.networks, "loss": objective.temperature}
        self.module = nn.ModuleDict(parts).to(self.accelerator.device)
        fused = self.accelerator.device.type in {"cpu", "cuda"}
        groups = _groups(embedder.networks, objective.temperature, config)
        self.optimizer = self.accelerator.prepare(torch.optim.AdamW(groups, lr=config.rate, fused=fused))
        average = WeightAverage(self.module, config.average) if config.average else None
        self.trainer = Trainer(self.module, self.optimizer.optimizer, self.accelerator, config, average, objective)

    def run(self, path: Path, fingerprint: str, said: Callable[[Epoch], None]) -> list[Epoch]:
        """Train until validation stops getting better, and leave the best weights in the towers.

        The weights that were there before the first epoch may be the best ones. Arguments and errors are those of
        `Trainer.run`.
        """
        if not path.exists():
            self.trainer.begin_with(self._judged())
        return self.trainer.run(path, fingerprint, self._epoch, self._judged, said)

    def step(self, step: Step, progress: float) -> float:
        """Take one step; returns its mean loss.

        Args:
            step: The batch.
            progress: Share of all epochs that came before.

        """
        at = self.trainer.progress
        at.step += 1
        factor = min(1.0, at.step / max(1, self.config.warmup))
        factor *= (1 + math.cos(math.pi * progress)) / 2 if self.config.anneal else 1
        for group in self.trainer.optimizer.param_groups:
            group["lr"] = factor * group["full_rate"]
        seeds = (self.config.seed, at.step)
        loss = backward(step, self.embedder, self.objective.temperature, seeds, cached=self.config.cached)
        nn.utils.clip_grad_norm_(trained(self.module).values(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.trainer.average is not None:
            self.trainer.average.update()
        return loss

    def _epoch(self) -> Epoch:
        epoch = self.trainer.progress.epoch
        began = perf_counter()
        self._mine(epoch)
        self.embedder.learning()
        total, count = 0.0, 0
        for step in self.objective.steps(epoch):
            total += step.count * self.step(step, (epoch - 1 + step.progress) / self.config.epochs)
            count += step.count
        scale = float(self.objective.temperature.scale.item())
        return Epoch(epoch, total / max(1, count), None, scale, perf_counter() - began)

    def _mine(self, epoch: int) -> None:
        mining = self.config.mining
        if self.objective.mines and epoch >= mining.after and (epoch - mining.after) % mining.every == 0:
            self.objective.mine(self.embedder.all(self.corpus))

    def _judged(self) -> float:
        return self.judge(self.embedder.all(self.corpus))


def _groups(networks: nn.Module, learned: nn.Module, config: FinetuneConfig) -> list[dict[str, object]]:
    weights = list(trained(networks).values())
    matrices = [weight for weight in weights if weight.ndim >= 2]
    vectors = [weight for weight in weights if weight.ndim < 2]
    groups = [
        {"params": matrices, "weight_decay": config.decay, "full_rate": config.rate},
        {"params": vectors, "weight_decay": 0.0, "full_rate": config.rate},
        {"params": list(learned.parameters()), "weight_decay": 0.0, "full_rate": config.scale_rate},
    ]
    return [group for group in groups if group["params"]]
