"""The loop of a fine-tuning: steps of an objective over towers, led by `mmrec.training.course`.

It knows neither stores nor encoders: towers, samples, an objective and a judge are given to it.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter

import torch
from torch import Tensor, nn

from mmrec.finetuning.caching import backward
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.embedding import Embedder
from mmrec.finetuning.objective import ContentVectors, Objective, Step
from mmrec.training.average import Average, trained
from mmrec.training.course import Course, Epoch

__all__ = ["Loop"]


class Loop:
    """Trains what asks for gradients in the towers, and what the objective itself learns."""

    def __init__(
        self,
        embedder: Embedder,
        corpus: Corpus,
        objective: Objective,
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
        self.course = Course(
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

    def __init__(self, objective: Objective) -> None:
        self._objective = objective

    def kept(self) -> Mapping[str, Tensor]:
        return self._objective.mined

    def bring_back(self, kept: Mapping[str, Tensor]) -> None:
        self._objective.bring_back(kept)


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
