"""Towers for ``mmrec evaluate``, trained on what its split lets them see, beside the same tower without content."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from mmrec.behaviour.kinds import Kinds
from mmrec.behaviour.splits import Split
from mmrec.errors import UsageError
from mmrec.evaluation.baselines.recent import RecentPopularity
from mmrec.evaluation.candidates import Candidates
from mmrec.evaluation.scorer import Scorer
from mmrec.evaluation.user_model import UNTIMED, UserModelScorer
from mmrec.training.config import TrainingConfig
from mmrec.training.course import Epoch
from mmrec.training.train import train
from mmrec.users.tower_model import TowerModel
from pipelines import console

__all__ = ["WITHOUT_CONTENT", "Towers"]

WITHOUT_CONTENT = "ID-only SASRec"


@dataclass(frozen=True, slots=True)
class Towers:
    """Trains towers when it is called.

    Attributes:
        config: Sizes and settings.
        seeds: How many times each is trained, with seeds from that of the configuration on.
        kinds: Weights of the kinds of events.
        untimed: Whether each tower is also asked without being told the time of the request, as most papers do.
        losses: Loss of each epoch, by tower and seed; filled by the call.

    """

    config: TrainingConfig
    seeds: int = 1
    kinds: Kinds = field(default_factory=Kinds)
    untimed: bool = False
    losses: dict[str, Sequence[float]] = field(default_factory=dict)

    def __call__(self, split: Split, candidates: Candidates) -> Mapping[str, Sequence[Scorer]]:
        """Train on the training part. Who has no history yet is answered by what was popular lately.

        Raises UsageError where there is nothing to learn from, or no item has a content.
        """
        cold = RecentPopularity(kinds=self.kinds).fit(split.train, candidates)
        variants = {"tower": True, WITHOUT_CONTENT: False}
        found = {
            name: [
                UserModelScorer(self._trained(name, seed, split, candidates, content=content), candidates, cold=cold)
                for seed in range(self.config.seed, self.config.seed + self.seeds)
            ]
            for name, content in variants.items()
        }
        if self.untimed:
            found |= {f"{name}{UNTIMED}": [replace(one, timed=False) for one in runs] for name, runs in found.items()}
        return found

    def _trained(self, name: str, seed: int, split: Split, candidates: Candidates, *, content: bool) -> TowerModel:
        if candidates.vectors is None:
            raise UsageError("Towers are trained on contents: give candidates that have vectors.")
        tower = self.config.tower.model_copy(update={"content": content})
        config = self.config.model_copy(update={"tower": tower, "seed": seed})

        def said(epoch: Epoch) -> None:
            if epoch.score is not None:
                console.note(f"{name}, seed {seed}, epoch {epoch.epoch}: NDCG@10 {epoch.score:.4f} on validation")

        vectors = np.asarray(candidates.vectors, dtype=np.float32)
        with TemporaryDirectory(prefix="mmrec-evaluate-") as folder:
            weights = dict(self.kinds.weights)
            done = train(split, vectors, candidates.rows, config, Path(folder), weights, said)
        self.losses[f"{name}, seed {seed}"] = [epoch.loss for epoch in done.report.curve]
        return TowerModel(done.model.tower, name)
