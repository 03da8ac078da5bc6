"""The one place that imports sentence-transformers, which is an extra."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch

from mmrec.encoders.hub.explained import explained
from mmrec.encoders.hub.networks import quiet
from mmrec.encoders.hub.source import read_json
from mmrec.errors import EncoderError

__all__ = ["load_sentence_transformer", "to_device"]

# Modules that load nothing but their own folder's tensors, tokenizer and processor.
_KNOWN: Final = (
    "CLIPModel",
    "Dense",
    "Dropout",
    "LayerNorm",
    "Normalize",
    "Pooling",
    "Router",
    "Transformer",
    "WeightedLayerPooling",
)
_OWN: Final = re.compile(r"sentence_transformers(\.\w+)*\.(\w+)", re.ASCII)


def load_sentence_transformer(
    folder: Path, kinds: list[str], device: torch.device, dtype: torch.dtype
) -> torch.nn.Module:
    """Return the model in a folder, whose modules are of the given kinds; none of its own code is run.

    Raises EncoderError where the extra is not installed, or the model cannot be loaded.
    """
    _check_kinds(folder, kinds)
    try:
        from sentence_transformers import SentenceTransformer  # noqa: PLC0415 (an extra, and slow)
    except ImportError as error:
        raise EncoderError(
            "Models of sentence-transformers need an extra. Install it: pip install 'mmrec[multimodal]'"
        ) from error
    with quiet(), explained(f"The model in {folder}", "See that it is whole, and that sentence-transformers knows it."):
        model = SentenceTransformer(
            str(folder),
            device=str(device),
            trust_remote_code=False,
            local_files_only=True,
            model_kwargs={"dtype": torch.float32, "weights_only": True},
        )
    moved: torch.nn.Module = model.to(device, dtype).eval()
    return moved


def _check_kinds(folder: Path, kinds: list[str]) -> None:
    """Raise EncoderError for other modules than known ones, those within a router included."""
    routers = [read_json(path) for name in ("router_config.json", "config.json") for path in folder.rglob(name)]
    routed = [one for found in routers if isinstance(types := found.get("types"), dict) for one in types.values()]
    for kind in [*kinds, *map(str, routed)]:
        named = _OWN.fullmatch(kind)
        if named is None or named[2] not in _KNOWN:
            raise EncoderError(
                f"The model in {folder} has a module of the kind {kind[:80]!r}; read are sentence-transformers' own "
                f"{', '.join(_KNOWN)}. Name another model: code of its own is never run."
            )
    about = read_json(folder / "config_sentence_transformers.json").get("model_type", "SentenceTransformer")
    if about != "SentenceTransformer":
        raise EncoderError(f"The model in {folder} is a {about!r}, which makes no vectors of this kind. Name another.")


def to_device(features: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return a batch's tensors on a device, those of numbers in the network's format."""
    moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in features.items()}
    return {
        name: value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in moved.items()
    }
