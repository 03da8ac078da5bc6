"""A fitted fusion as one safetensors file with its blocks described in the header."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from mmrec.errors import StoreError
from mmrec.fusion.agreement import Agreement
from mmrec.fusion.blocks import Block
from mmrec.fusion.fusion import Fusion
from mmrec.fusion.projection import Rotation
from mmrec.types import Modality, Space

__all__ = ["dump_fusion", "load_fusion"]


def dump_fusion(fusion: Fusion) -> bytes:
    """Serialise a fusion."""
    tensors = {"weights": fusion.weights}
    for block, mean, rotation in zip(fusion.blocks, fusion.means, fusion.rotations, strict=True):
        tensors[f"{block.name}/mean"] = mean
        tensors[f"{block.name}/directions"] = np.ascontiguousarray(rotation.directions)
        tensors[f"{block.name}/energy"] = np.ascontiguousarray(rotation.energy)
    described = [
        {"space": asdict(block.space), "modality": str(block.modality), "fitted_on": count}
        for block, count in zip(fusion.blocks, fusion.fitted_on, strict=True)
    ]
    about = {"blocks": json.dumps(described)}
    if fusion.agreements:
        about["agreements"] = json.dumps([asdict(one) for one in fusion.agreements])
    return save(tensors, metadata=about)


def load_fusion(path: Path) -> Fusion:
    """Read what `dump_fusion` wrote. Raises StoreError where the file is missing or malformed."""
    try:
        with safe_open(path, framework="numpy") as file:
            about = file.metadata() or {}
            described = json.loads(about["blocks"])
            blocks = tuple(Block(Space(**entry["space"]), Modality(entry["modality"])) for entry in described)
            return Fusion(
                blocks=blocks,
                weights=file.get_tensor("weights"),
                means=tuple(file.get_tensor(f"{block.name}/mean") for block in blocks),
                rotations=tuple(
                    Rotation(file.get_tensor(f"{block.name}/directions"), file.get_tensor(f"{block.name}/energy"))
                    for block in blocks
                ),
                fitted_on=tuple(int(entry["fitted_on"]) for entry in described),
                agreements=tuple(Agreement(**entry) for entry in json.loads(about.get("agreements", "[]"))),
            )
    except (OSError, SafetensorError, KeyError, ValueError, TypeError) as error:
        msg = f"{path} is not a readable fusion file ({error}); roll back with `mmrec rollback` or index again"
        raise StoreError(msg) from error
