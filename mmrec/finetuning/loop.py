"""The fine-tuning loop, with gradient caching for batches larger than memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.embedding import Embedder, Part
from mmrec.finetuning.objective import ContentVectors, FinetuneObjective, Step
from mmrec.training.checkpoint import Average, trained
from mmrec.training.processes import seed_torch
from mmrec.training.trainer import Epoch, Trainer

__all__ = ["Loop", "backward"]


def backward(step: Step, embedder: Embedder, learned: nn.Module, seeds: Sequence[int], *, cached: bool) -> float:
    """Leave the gradients of a step's mean loss in all weights that are trained; returns the loss.

    Args:
        step: The batch.
        embedder: The towers.
        learned: What the loss itself learns.
        seeds: What decides the random numbers of the step.
        cached: Whether parts are embedded twice rather than held.

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
    """Trains what asks for gradients in the towers, and what the objective itself learns."""

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
        self.module = nn.ModuleDict({"towers": embedder.networks, "loss": objective.module}).to(self.accelerator.device)
        fused = self.accelerator.device.type in {"cpu", "cuda"}
        groups = _groups(embedder.networks, objective.module, config)
        self.optimizer = self.accelerator.prepare(torch.optim.AdamW(groups, lr=config.rate, fused=fused))
        average = Average(self.module, config.average) if config.average else None
        self.course = Trainer(
            self.module, self.optimizer.optimizer, self.accelerator, config, average, _Mined(objective)
        )

    def run(self, path: Path, fingerprint: str, said: Callable[[Epoch], None]) -> list[Epoch]:
        """Train until validation stops getting better, and leave the best weights in the towers.

        The weights that were there before the first epoch may be the best ones. Arguments and errors are those of
        `Course.run`.
        """
        if not path.exists():
            self.course.begin_with(self._judged())
        return self.course.run(path, fingerprint, self._epoch, self._judged, said)

    def step(self, step: Step, progress: float) -> float:
        """Take one step; returns its mean loss.

        Args:
            step: The batch.
            progress: Share of all epochs that is behind.

        """
        at = self.course.at
        at.step += 1
        pace = min(1.0, at.step / max(1, self.config.warmup))
        pace *= (1 + math.cos(math.pi * progress)) / 2 if self.config.anneal else 1
        for group in self.course.optimizer.param_groups:
            group["lr"] = pace * group["full_rate"]
        seeds = (self.config.seed, at.step)
        loss = backward(step, self.embedder, self.objective.module, seeds, cached=self.config.cached)
        nn.utils.clip_grad_norm_(trained(self.module).values(), self.config.clip)
        self.optimizer.step()
        self.optimizer.zero_grad()
        if self.course.average is not None:
            self.course.average.update(at.step)
        return loss

    def _epoch(self) -> Epoch:
        epoch = self.course.at.epoch
        began = perf_counter()
        self._mine(epoch)
        self.embedder.learning()
        total, count = 0.0, 0
        for step in self.objective.steps(epoch):
            total += step.count * self.step(step, (epoch - 1 + step.behind) / self.config.epochs)
            count += step.count
        return Epoch(epoch, total / max(1, count), None, self.objective.scale, perf_counter() - began)

    def _mine(self, epoch: int) -> None:
        mining = self.config.mining
        if self.objective.mines and epoch >= mining.after and (epoch - mining.after) % mining.every == 0:
            self.objective.mine(self.embedder.all(self.corpus))

    def _judged(self) -> float:
        return self.judge(self.embedder.all(self.corpus))


class _Mined:
    """What an objective mined, as a course remembers it."""

    def __init__(self, objective: FinetuneObjective) -> None:
        self._objective = objective

    def state_dict(self) -> Mapping[str, Tensor]:
        return self._objective.mined

    def load_state_dict(self, kept: Mapping[str, Tensor]) -> None:
        self._objective.load_mined(kept)


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
