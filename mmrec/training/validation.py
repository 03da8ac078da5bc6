"""Validation of a user tower: the rank of held-out events among all items of the catalog."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from mmrec.evaluation.metrics import mean_rank, rank_counts
from mmrec.training.windows import TowerEvents, Windows, batch_of
from mmrec.users.tower import Tower

_TARGETS_PER_BATCH: Final = 128


@dataclass(frozen=True, slots=True, eq=False)
class ValidationRanking:
    """Held-out events, each target ranked among all items without those that the user has seen before.

    Items of events are places in `rows`, the row numbers of the catalog. `contents` is None for a tower without
    content; `among` says which of the catalog are ranked, all if None.
    """

    events: TowerEvents
    targets: Int64[np.ndarray, " n"]
    rows: Int64[np.ndarray, " items"]
    contents: Float[Tensor, "items content"] | None
    among: Bool[np.ndarray, " items"] | None = None

    @torch.no_grad()
    def ranks(self, tower: Tower) -> Float64[np.ndarray, " n"]:
        """Rank of each target from 1, ties at their mean rank; infinite where the tower cannot place its item."""
        was_training = tower.training
        tower.eval()
        device = tower.log_scale.device
        places = tower.items.places(torch.from_numpy(self.rows).to(device))
        white = None if self.contents is None else tower.items.whiten(self.contents.to(device))
        vectors = tower.items(white, places)
        placed = torch.ones_like(places, dtype=torch.bool) if white is not None else places >= 0
        found = [
            self._ranks(tower, vectors, placed, self.targets[start : start + _TARGETS_PER_BATCH])
            for start in range(0, len(self.targets), _TARGETS_PER_BATCH)
        ]
        tower.train(was_training)
        return np.concatenate(found) if found else np.empty(0)

    def _ranks(
        self, tower: Tower, vectors: Float[Tensor, "items dim"], placed: Tensor, targets: Int64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        device = vectors.device
        firsts = self.events.offsets[np.searchsorted(self.events.offsets, targets, side="right") - 1]
        windows = Windows(np.maximum(firsts, targets - tower.config.window), targets)
        read = tower.people(batch_of(self.events, windows, np.arange(len(targets))).to(device).sequences(vectors))
        at = torch.arange(len(targets), device=device)
        newest = torch.from_numpy(np.maximum(windows.stops - windows.starts - 1, 0)).to(device)
        scores = tower.scale * torch.einsum("nmd,id->nmi", read.vectors[at, newest], vectors)
        scores = torch.logsumexp(scores + read.log_shares[at, newest].unsqueeze(2), dim=1)
        # Nothing is known of a user without events: all items are alike.
        scores[torch.from_numpy(windows.stops == windows.starts)] = 0
        wanted = torch.from_numpy(self.events.items[targets]).to(device).unsqueeze(1)
        own = scores.gather(1, wanted)
        seen = np.concatenate([self.events.items[first:target] for first, target in zip(firsts, targets, strict=True)])
        scores[:, ~placed] = torch.nan
        if self.among is not None:
            scores[:, torch.from_numpy(~self.among).to(device)] = torch.nan
        lines = np.repeat(np.arange(len(targets)), targets - firsts)
        scores[torch.from_numpy(lines), torch.from_numpy(seen)] = torch.nan
        above, tied = rank_counts(scores.scatter(1, wanted, own), own)
        ranks = mean_rank(above.cpu().numpy(), tied.cpu().numpy())
        ranks[~placed[wanted[:, 0]].cpu().numpy()] = np.inf
        return ranks
