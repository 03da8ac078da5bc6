"""The one place that imports sentence-transformers, which is an extra."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from mmrec.encoders.hub.explained import explained
from mmrec.encoders.hub.networks import quiet
from mmrec.errors import EncoderError

__all__ = ["load_sentence_transformer", "to_device"]

_OWN = "sentence_transformers."


def load_sentence_transformer(
    folder: Path, kinds: list[str], device: torch.device, dtype: torch.dtype
) -> torch.nn.Module:
    """Return the model in a folder, whose modules are of the given kinds; none of its own code is run.

    Raises EncoderError where the extra is not installed, or the model cannot be loaded.
    """
    if foreign := [kind for kind in kinds if not kind.startswith(_OWN)]:
        raise EncoderError(
            f"The model in {folder} needs code of its own ({foreign[0]}), which is never run. Name a model that is "
            "made of sentence-transformers' modules alone."
        )
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
            model_kwargs={"dtype": torch.float32},
        )
    moved: torch.nn.Module = model.to(device, dtype).eval()
    return moved


def to_device(features: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> dict[str, Any]:
    """Return a batch's tensors on a device, those of numbers in the network's format."""
    moved = {name: value.to(device) if isinstance(value, torch.Tensor) else value for name, value in features.items()}
    return {
        name: value.to(dtype) if isinstance(value, torch.Tensor) and value.is_floating_point() else value
        for name, value in moved.items()
    }
