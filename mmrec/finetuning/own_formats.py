"""Trained networks of hub encoders, saved as their own libraries save them, so that those load them too.

transformers, sentence-transformers and open_clip: a directory with configuration, tokenizer, preprocessor and
safetensors. timm: the same, without a classifier. torchaudio: the bundle's file of weights.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from mmrec.encoders.factories import EncoderSpec
from mmrec.encoders.hub.audio_text import HubAudioText
from mmrec.encoders.hub.digests import describing_files
from mmrec.encoders.hub.image import HubImage
from mmrec.encoders.hub.image_text import HubImageText
from mmrec.encoders.hub.multimodal import HubMultimodal
from mmrec.encoders.hub.networks import quiet
from mmrec.encoders.hub.open_clip import OpenClip
from mmrec.encoders.hub.speech import SpeechBundle
from mmrec.encoders.hub.text import HubText
from mmrec.encoders.hub.timm_image import TimmImage
from mmrec.encoders.protocol import Encoder

__all__ = ["has_own_format", "save_own"]

_Saver = Callable[[Any, Any, Path], dict[str, object]]
"""Encoder, its trained network and a folder -> the settings that replace the encoder's own."""


def has_own_format(encoder: Encoder) -> bool:
    """Return whether an encoder's network can be saved as its own library saves it."""
    return type(encoder) in _SAVERS


def save_own(encoder: Encoder, spec: EncoderSpec, folder: Path, name: str) -> EncoderSpec:
    """Write an encoder with trained weights in its network into a new folder. Returns how it is built from there.

    Args:
        encoder: The encoder; `has_own_format`.
        spec: How it was built.
        folder: Where to write; made here.
        name: Of the space that it fills from now on.

    """
    folder.mkdir(parents=True)
    with quiet():
        placed = _SAVERS[type(encoder)](encoder, encoder.module, folder)
    kept = {key: value for key, value in spec.settings.items() if key not in ("model", "checkpoint", "revision")}
    return EncoderSpec(spec.factory, {**kept, **placed, "name": name})


def _text(encoder: Any, network: Any, folder: Path) -> dict[str, object]:  # noqa: ANN401
    own = encoder._own  # noqa: SLF001 -- saving and loading of a kind are one concern in two files
    source = encoder._files.folder  # noqa: SLF001
    _describe(source, folder)
    _transformer(network.transformer, folder / own.transformer.relative_to(source))
    for step, layer in zip(own.steps, network.head, strict=True):
        if layer.state_dict():
            save_file(_tensors(layer), folder / step.folder.relative_to(source) / "model.safetensors")
    return {"model": str(folder)}


def _of_transformers(encoder: Any, network: Any, folder: Path) -> dict[str, object]:  # noqa: ANN401
    _describe(encoder._files.folder, folder)  # noqa: SLF001
    _transformer(network, folder)
    return {"model": str(folder)}


def _multimodal(encoder: Any, network: Any, folder: Path) -> dict[str, object]:  # noqa: ANN401
    del encoder
    network.save_pretrained(str(folder), create_model_card=False)
    return {"model": str(folder)}


def _timm(encoder: Any, network: Any, folder: Path) -> dict[str, object]:  # noqa: ANN401
    config = json.loads((encoder._files.folder / "config.json").read_text(encoding="utf-8"))  # noqa: SLF001
    # Its classifier was never loaded, and would be of the old features.
    config |= {"num_classes": 0, "num_features": network.num_features}
    config.setdefault("pretrained_cfg", {})["num_classes"] = 0
    if "num_classes" in config.get("model_args", {}):
        config["model_args"]["num_classes"] = 0
    for stale in ("label_names", "label_descriptions"):
        config.pop(stale, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(_tensors(network), folder / "model.safetensors")
    return {"model": str(folder)}


def _open_clip(encoder: Any, network: Any, folder: Path) -> dict[str, object]:  # noqa: ANN401
    architecture = encoder._architecture  # noqa: SLF001
    if architecture.files is not None:
        _describe(architecture.files.folder, folder)
    config = {"model_cfg": dict(architecture.model), "preprocess_cfg": dict(architecture.preprocess)}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(_tensors(network), folder / "open_clip_model.safetensors")
    return {"model": str(folder)}


def _speech(encoder: Any, network: Any, folder: Path) -> dict[str, object]:  # noqa: ANN401
    source = encoder._weights  # noqa: SLF001
    stored: Mapping[str, Tensor] = torch.load(source, map_location="cpu", weights_only=True)
    trained = {_bundled(name, stored): value for name, value in _tensors(network).items()}
    # What the bundle drops when it loads (classes of letters) stays as it was in the file.
    fits = {name: value for name, value in trained.items() if name in stored and stored[name].shape == value.shape}
    torch.save({**stored, **fits}, folder / source.name)
    return {"checkpoint": str(folder)}


def _bundled(name: str, stored: Mapping[str, Tensor]) -> str:
    """A tensor's name as older files have it, where torch has since renamed its two halves of a normed weight."""
    for new, old in (
        ("parametrizations.weight.original0", "weight_g"),
        ("parametrizations.weight.original1", "weight_v"),
    ):
        if name.endswith(new) and name not in stored:
            return name.removesuffix(new) + old
    return name


def _transformer(network: Any, folder: Path) -> None:  # noqa: ANN401
    network.save_pretrained(folder)


def _describe(source: Path, folder: Path) -> None:
    for path in describing_files(source):
        if path.name.endswith(".index.json"):  # of weights in several files, which are written anew
            continue
        target = folder / path.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(path, target)


def _tensors(network: nn.Module) -> dict[str, Tensor]:
    # Copies: two names of one tensor are written as two.
    return {name: value.detach().cpu().contiguous().clone() for name, value in network.state_dict().items()}


_SAVERS: Mapping[type, _Saver] = {
    HubText: _text,
    HubImage: _of_transformers,
    HubImageText: _of_transformers,
    HubAudioText: _of_transformers,
    HubMultimodal: _multimodal,
    TimmImage: _timm,
    OpenClip: _open_clip,
    SpeechBundle: _speech,
}
