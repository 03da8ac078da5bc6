"""A trained tower as a model of people."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from mmrec.users.model import Interests, Moments, Past, moments_of
from mmrec.users.rating_levels import rating_levels
from mmrec.users.readout import Read
from mmrec.users.sequences import Sequences
from mmrec.users.tower import Tower

__all__ = ["TowerModel"]

_AT_ONCE = 256
_ITEMS_AT_ONCE = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class TowerModel:
    """Places items and people by a trained tower; a `mmrec.users.model.UserModel`.

    Attributes:
        tower: What was trained, ready to run.
        name: What it is called in tables and manifests.

    """

    tower: Tower
    name: str = "tower"

    @property
    def dim(self) -> int:
        """Length of its vectors."""
        return self.tower.config.dim

    @torch.no_grad()
    def items(
        self, rows: Int64[np.ndarray, " n"], contents: Float32[np.ndarray, "n content"]
    ) -> Float32[np.ndarray, "n dim"]:
        """Return unit vectors; those of rows that training did not know owe nothing but their content.

        A tower without content gives zeros for such rows.
        """
        found = [
            self._items(rows[start : start + _ITEMS_AT_ONCE], contents[start : start + _ITEMS_AT_ONCE])
            for start in range(0, len(rows), _ITEMS_AT_ONCE)
        ]
        return np.concatenate(found) if found else np.empty((0, self.dim), dtype=np.float32)

    @torch.no_grad()
    def people(
        self, pasts: Sequence[Past], vectors: Sequence[Float32[np.ndarray, "_ dim"]], now: Moments = None
    ) -> list[Interests]:
        """Place people by their newest events; who has none gets no vector. See `UserModel.people`."""
        found: list[Interests] = []
        moments = moments_of(pasts, now)
        for start in range(0, len(pasts), _AT_ONCE):
            some = pasts[start : start + _AT_ONCE]
            asked = moments[start : start + _AT_ONCE]
            read = self.tower.people(self._batch(some, vectors[start : start + _AT_ONCE], asked))
            found += [self._interests(read, row, len(past)) for row, past in enumerate(some)]
        return found

    def _items(
        self, rows: Int64[np.ndarray, " n"], contents: Float32[np.ndarray, "n content"]
    ) -> Float32[np.ndarray, "n dim"]:
        items, device = self.tower.items, self._device
        white = items.whiten(torch.from_numpy(contents).to(device)) if self.tower.config.content else None
        placed: Tensor = items(white, items.places(torch.from_numpy(rows).to(device)))
        return placed.cpu().numpy()

    def _batch(
        self, pasts: Sequence[Past], vectors: Sequence[Float32[np.ndarray, "_ dim"]], moments: Sequence[int]
    ) -> Sequences:
        config = self.tower.config
        length = max(1, min(config.window, max(len(past) for past in pasts)))
        shape = (len(pasts), length)
        given = np.zeros((*shape, config.dim), dtype=np.float32)
        kinds, times, asked, ratings = (np.zeros(shape, dtype=np.int64) for _ in range(4))
        liked = np.zeros(shape, dtype=bool)
        codes = {name: code for code, name in enumerate(config.kinds, start=1)}
        for row, (past, own) in enumerate(zip(pasts, vectors, strict=True)):
            if not len(past):
                continue
            count = min(length, len(past))
            given[row, :count] = own[-count:]
            kinds[row, :count] = [codes.get(kind, 0) for kind in past.kinds[-count:]]
            # A tower that is not told ratings has no other way to know of the low ones.
            liked[row, :count] = (past.chosen if config.ratings else past.weights > 0)[-count:]
            times[row, :count] = past.times[-count:]
            asked[row, :count] = np.append(past.times[-count:][1:], moments[row])
            ratings[row, :count] = rating_levels(past.strengths, len(past))[-count:]
        arrays = (given, kinds, liked, times, asked, ratings)
        return Sequences(*(torch.from_numpy(array).to(self._device) for array in arrays))

    def _interests(self, read: Read, row: int, events: int) -> Interests:
        if not events:
            return Interests(np.empty((0, self.dim), np.float32), np.empty(0, np.float32), 0.0)
        at = min(events, read.vectors.shape[1]) - 1
        shares = read.log_shares[row, at].exp()
        order = torch.argsort(shares, descending=True, stable=True)
        vectors = read.vectors[row, at][order].cpu().numpy()
        short = float((shares * read.short[row, at]).sum().item())
        return Interests(vectors, shares[order].cpu().numpy(), min(1.0, max(0.0, short)))

    @property
    def _device(self) -> torch.device:
        return self.tower.log_scale.device
