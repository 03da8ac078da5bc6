"""The two-tower model of users and items: its network, its files, and its use as a user model."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import torch
from jaxtyping import Float32, Int64
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from indexers.atomic import write_atomically
from mmrec.errors import StoreError
from mmrec.users.model import History, Interests, RequestTimes, request_times
from mmrec.users.networks import EventInterests, ItemTower, Sequences, SequenceTower, Whitening
from mmrec.users.tower_config import TowerConfig, rating_levels

_FIRST_SCALE = 12.0
_GREATEST_SCALE = 100.0


class Tower(nn.Module):
    """Item tower, user tower (`people` in the names of saved weights), and the temperature of their inner products."""

    def __init__(self, config: TowerConfig, rows: Int64[Tensor, " known"], whitening: Whitening | None) -> None:
        super().__init__()
        self.config = config
        self.items = ItemTower(config, rows, whitening)
        self.people = SequenceTower(config)
        self.log_scale = nn.Parameter(torch.tensor(math.log(_FIRST_SCALE)))

    @property
    def scale(self) -> Tensor:
        """The inverse of the temperature, at most 100."""
        return self.log_scale.exp().clamp(max=_GREATEST_SCALE)


_USERS_PER_BATCH: Final = 256
_ITEMS_PER_BATCH: Final = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class TowerModel:
    """A trained tower as a `mmrec.users.model.UserModel`; `name` is its name in tables and manifests."""

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
        """Return unit vectors; rows unknown to training are placed by content alone, or are zero without content."""
        items, device = self.tower.items, self._device
        found = [np.empty((0, self.dim), dtype=np.float32)]
        for start in range(0, len(rows), _ITEMS_PER_BATCH):
            part = slice(start, start + _ITEMS_PER_BATCH)
            white = items.whiten(torch.from_numpy(contents[part]).to(device)) if self.tower.config.content else None
            placed: Tensor = items(white, items.places(torch.from_numpy(rows[part]).to(device)))
            found.append(placed.cpu().numpy())
        return np.concatenate(found)

    @torch.no_grad()
    def users(
        self, histories: Sequence[History], vectors: Sequence[Float32[np.ndarray, "_ dim"]], now: RequestTimes = None
    ) -> list[Interests]:
        """Return interests from the newest events; users without events have none. See `UserModel.users`."""
        found: list[Interests] = []
        times = request_times(histories, now)
        for start in range(0, len(histories), _USERS_PER_BATCH):
            part = slice(start, start + _USERS_PER_BATCH)
            read = self.tower.people(self._batch(histories[part], vectors[part], times[part]))
            found += [self._interests(read, row, len(history)) for row, history in enumerate(histories[part])]
        return found

    def _batch(
        self, histories: Sequence[History], vectors: Sequence[Float32[np.ndarray, "_ dim"]], now: Sequence[int]
    ) -> Sequences:
        config = self.tower.config
        length = max(1, min(config.window, max(len(history) for history in histories)))
        shape = (len(histories), length)
        given = np.zeros((*shape, config.dim), dtype=np.float32)
        kinds, times, requested, ratings = (np.zeros(shape, dtype=np.int64) for _ in range(4))
        liked = np.zeros(shape, dtype=bool)
        codes = {name: code for code, name in enumerate(config.kinds, start=1)}
        for row, (history, own) in enumerate(zip(histories, vectors, strict=True)):
            count = min(length, len(history))
            if not count:
                continue
            given[row, :count] = own[-count:]
            kinds[row, :count] = [codes.get(kind, 0) for kind in history.kinds[-count:]]
            # Without rating inputs a tower has no other way to know of low ratings.
            liked[row, :count] = (history.positive_kinds if config.ratings else history.weights > 0)[-count:]
            times[row, :count] = history.times[-count:]
            requested[row, :count] = np.append(history.times[-count:][1:], now[row])
            ratings[row, :count] = rating_levels(history.strengths, len(history))[-count:]
        arrays = (given, kinds, liked, times, requested, ratings)
        return Sequences(*(torch.from_numpy(array).to(self._device) for array in arrays))

    def _interests(self, read: EventInterests, row: int, events: int) -> Interests:
        if not events:
            return Interests.none(self.dim)
        at = min(events, read.vectors.shape[1]) - 1
        shares = read.log_shares[row, at].exp()
        order = torch.argsort(shares, descending=True, stable=True)
        vectors = read.vectors[row, at][order].cpu().numpy()
        short = float((shares * read.short[row, at]).sum().item())
        return Interests(vectors, shares[order].cpu().numpy(), min(1.0, max(0.0, short)))

    @property
    def _device(self) -> torch.device:
        return self.tower.log_scale.device


WEIGHTS: Final = "tower.safetensors"
CONFIG: Final = "tower.json"
_VERSION: Final = 1


def save_tower(model: TowerModel, folder: Path) -> None:
    """Write ``tower.safetensors``, then ``tower.json``, which names the checksum of the first."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.tower.state_dict().items()}
    weights = save(tensors)
    write_atomically(folder / WEIGHTS, weights)
    about = {
        "version": _VERSION,
        "name": model.name,
        "weights_sha256": sha256(weights).hexdigest(),
        "tower": model.tower.config.model_dump(mode="json"),
    }
    write_atomically(folder / CONFIG, json.dumps(about, indent=2, sort_keys=True).encode())


def load_tower(folder: Path, device: torch.device | None = None) -> TowerModel:
    """EventInterests what `save_tower` wrote. Raises StoreError where it is missing, damaged or of another version."""
    try:
        about = json.loads((folder / CONFIG).read_bytes())
        weights = (folder / WEIGHTS).read_bytes()
        if about["version"] != _VERSION:
            raise StoreError(
                f"{folder} holds a tower of version {about['version']}, and this mmrec reads {_VERSION}. Train anew."
            )
        if sha256(weights).hexdigest() != about["weights_sha256"]:
            raise StoreError(f"{folder / WEIGHTS} is not the file that {CONFIG} was written for. Train anew.")
        tensors = load(weights)
        config = TowerConfig.model_validate(about["tower"])
        parts = [tensors[name].numpy() for name in ("items.mean", "items.matrix") if name in tensors]
        tower = Tower(config, tensors["items.rows"], Whitening(*parts) if parts else None)
        tower.load_state_dict(tensors)
        return TowerModel(tower.eval().to(device or torch.device("cpu")), str(about["name"]))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ValidationError) as error:
        raise StoreError(f"{folder} holds no tower that can be read ({error}). Train anew.") from error
