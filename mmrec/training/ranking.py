"""Rank targets among the whole catalog during training (full ranking, never sampled)."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor, nn

from mmrec.training.windows import Events, Windows, batch_of
from mmrec.users.sequence_tower import Sequences
from mmrec.users.tower import Tower

__all__ = ["Ranking", "mean_ndcg", "mid_ranks"]


def mid_ranks(
    scores: Float[Tensor, "n m"], targets: Int64[Tensor, " n"], left_out: Bool[Tensor, "n m"]
) -> Float64[np.ndarray, " n"]:
    """Rank of each target from 1, ties at their mean rank, among the items that are not left out."""
    own = scores.gather(1, targets.unsqueeze(1))
    competing = ~left_out
    competing.scatter_(1, targets.unsqueeze(1), False)
    above = ((scores > own) & competing).sum(dim=1)
    equal = ((scores == own) & competing).sum(dim=1)
    return (1 + above + equal / 2).double().cpu().numpy()


def mean_ndcg(ranks: Float64[np.ndarray, " n"], k: int = 10) -> float:
    """Mean of ``1 / log2(1 + rank)`` where the rank is k or better, with one relevant item each; 0 of none."""
    gains = np.where(ranks <= k, 1 / np.log2(1 + ranks), 0.0)
    return float(gains.mean()) if len(gains) else 0.0


_AT_ONCE = 128


@dataclass(frozen=True, slots=True, eq=False)
class Ranking:
    """Events to predict, each among all items that its person had not met by then.

    Attributes:
        events: Everything that people did, items as places in the catalog.
        targets: Places in `events` of the events to predict.
        rows: Row numbers of the catalog.
        contents: Their contents; None for a tower without content.
        among: Which of the catalog compete; all if None.

    """

    events: Events
    targets: Int64[np.ndarray, " n"]
    rows: Int64[np.ndarray, " items"]
    contents: Float[Tensor, "items content"] | None
    among: Bool[np.ndarray, " items"] | None = None

    @torch.no_grad()
    def ranks(self, tower: Tower) -> Float64[np.ndarray, " n"]:
        """Mid-rank of each target from 1; infinite where the tower cannot place its item."""
        was_training = tower.training
        tower.eval()
        device = tower.log_scale.device
        places = tower.items.places(torch.from_numpy(self.rows).to(device))
        white = None if self.contents is None else tower.items.whiten(self.contents.to(device))
        vectors = tower.items(white, places)
        placed = torch.ones_like(places, dtype=torch.bool) if white is not None else places >= 0
        found = [
            self._ranks(tower, vectors, placed, self.targets[start : start + _AT_ONCE])
            for start in range(0, len(self.targets), _AT_ONCE)
        ]
        tower.train(was_training)
        return np.concatenate(found) if found else np.empty(0)

    def _ranks(
        self, tower: Tower, vectors: Float[Tensor, "items dim"], placed: Tensor, targets: Int64[np.ndarray, " n"]
    ) -> Float64[np.ndarray, " n"]:
        device = vectors.device
        firsts = self.events.offsets[np.searchsorted(self.events.offsets, targets, side="right") - 1]
        windows = Windows(np.maximum(firsts, targets - tower.config.window), targets)
        batch = batch_of(self.events, windows, np.arange(len(targets))).to(device)
        given = nn.functional.embedding(batch.items, vectors)
        read = tower.people(Sequences(given, batch.kinds, batch.liked, batch.times, batch.asked, batch.ratings))
        at = torch.arange(len(targets), device=device)
        newest = torch.from_numpy(np.maximum(windows.stops - windows.starts - 1, 0)).to(device)
        scores = tower.scale * torch.einsum("nmd,id->nmi", read.vectors[at, newest], vectors)
        scores = torch.logsumexp(scores + read.log_shares[at, newest].unsqueeze(2), dim=1)
        # Nothing is known of who has done nothing: all items are alike to them.
        scores[torch.from_numpy(windows.stops == windows.starts)] = 0
        met = np.concatenate([self.events.items[first:target] for first, target in zip(firsts, targets, strict=True)])
        out = (~placed).repeat(len(targets), 1)
        if self.among is not None:
            out |= torch.from_numpy(~self.among).to(device)
        out[torch.from_numpy(np.repeat(np.arange(len(targets)), targets - firsts)), torch.from_numpy(met)] = True
        wanted = torch.from_numpy(self.events.items[targets]).to(device)
        ranks = mid_ranks(scores, wanted, out)
        ranks[~placed[wanted].cpu().numpy()] = np.inf
        return ranks
