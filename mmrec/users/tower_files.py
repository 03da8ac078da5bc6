"""A tower on disk: its weights, and beside them what it is."""

import json
from hashlib import sha256
from pathlib import Path
from typing import Final

import numpy as np
import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save

from indexers.atomic import write_atomically
from mmrec.errors import StoreError
from mmrec.users.tower import Tower
from mmrec.users.tower_config import TowerConfig
from mmrec.users.tower_model import TowerModel
from mmrec.users.whitening import Whitening

__all__ = ["CONFIG", "WEIGHTS", "load_tower", "save_tower"]

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
    """Read what `save_tower` wrote. Raises StoreError where it is missing, damaged or of another version."""
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
        tower = Tower(config, tensors["items.rows"], _shaped(tensors))
        tower.load_state_dict(tensors)
        return TowerModel(tower.eval().to(device or torch.device("cpu")), str(about["name"]))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, ValidationError) as error:
        raise StoreError(f"{folder} holds no tower that can be read ({error}). Train anew.") from error


def _shaped(tensors: dict[str, torch.Tensor]) -> Whitening | None:
    """A whitening of the right sizes, to be filled."""
    if "items.matrix" not in tensors:
        return None
    mean, matrix = tensors["items.mean"], tensors["items.matrix"]
    return Whitening(np.zeros(mean.shape, np.float32), np.zeros(matrix.shape, np.float32))
