"""Save fine-tuned encoders as a folder, in the formats of the libraries that they came from."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from indexers.atomic import temporary_name
from mmrec.encoders.factories import TUNED, EncoderSpec, build_encoder
from mmrec.encoders.head import Head, save_head
from mmrec.encoders.hub.audio_text import HubAudioText
from mmrec.encoders.hub.image import HubImage
from mmrec.encoders.hub.image_text import HubImageText
from mmrec.encoders.hub.loading import quiet
from mmrec.encoders.hub.multimodal import HubMultimodal
from mmrec.encoders.hub.open_clip import OpenClip
from mmrec.encoders.hub.source import describing_files
from mmrec.encoders.hub.speech import SpeechBundle
from mmrec.encoders.hub.text import HubText
from mmrec.encoders.hub.timm_image import TimmImage
from mmrec.encoders.presets import ENCODERS_FILE
from mmrec.encoders.protocol import Encoder
from mmrec.encoders.tuned_config import ParentConfig, TunedConfig, TunedHead, write_tuned_config
from mmrec.encoders.vectors import changed_tensors, save_changed
from mmrec.errors import UsageError
from mmrec.files import replace_tree, write_atomically
from mmrec.finetuning.model_card import ModelCard, write_card
from mmrec.finetuning.tower_building import Tower, merged_state
from mmrec.finetuning.towers import EncoderSource, EncoderTower
from mmrec.types import Modality, Space

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
    network.transformer.save_pretrained(folder / own.transformer.relative_to(source))
    for step, layer in zip(own.steps, network.head, strict=True):
        if layer.state_dict():
            save_file(_tensors(layer), folder / step.folder.relative_to(source) / "model.safetensors")
    return {"model": str(folder)}


def _of_transformers(encoder: Any, network: Any, folder: Path) -> dict[str, object]:  # noqa: ANN401
    _describe(encoder._files.folder, folder)  # noqa: SLF001
    network.save_pretrained(folder)
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


_PATHS = ("model", "checkpoint", "folder")
_WEIGHTS = "weights.safetensors"
_SUFFIX = "tuned"


def save_encoders(
    towers: Mapping[Modality, Tower], sources: Sequence[EncoderSource], folder: Path, card: ModelCard
) -> dict[str, Space]:
    """Write a folder that `load_encoders` takes, in place of one that was there. The towers stay as they are.

    Heads of other modalities are said to approximate the space of the text's tower (of the first, where texts have
    none), so that its queries meet them. Returns all spaces that the saved encoders fill, by name.

    Raises UsageError where something else lies at `folder`, or names are taken twice.
    """
    if folder.exists() and not (folder / ENCODERS_FILE).is_file():
        raise UsageError(f"{folder} is there and holds no {ENCODERS_FILE}. Name a new folder.")
    if folder.is_symlink():
        raise UsageError(f"{folder} is a symbolic link; name the folder itself, or a new one.")
    beside = folder.absolute().with_name(temporary_name(folder.name))
    beside.mkdir(parents=True)
    try:
        spaces = _write(towers, sources, beside, card)
        replace_tree(beside, folder.absolute())
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    return spaces


def _write(
    towers: Mapping[Modality, Tower], sources: Sequence[EncoderSource], folder: Path, card: ModelCard
) -> dict[str, Space]:
    anchor = Modality.TEXT if Modality.TEXT in towers else next(iter(towers))
    # The anchor's encoder first: the others' heads name its space.
    ordered = sorted(sources, key=lambda source: source is not towers[anchor].source)
    met: str | None = None
    saved: dict[int, EncoderSpec] = {}
    spaces: dict[str, Space] = {}
    for source in ordered:
        own = {modality: tower for modality, tower in towers.items() if tower.source is source}
        spec, renamed = _Saving(source, own, folder, sources, anchor, met).save()
        saved[id(source)] = spec
        built = EncoderSource(spec, _built(spec))
        if taken := sorted(spaces.keys() & built.by_name().keys()):
            raise UsageError(f"Two encoders would fill the space {taken[0]!r}. Give one of the heads another name.")
        spaces |= built.by_name()
        if source is towers[anchor].source:
            met = spaces[renamed[anchor]].comparison_key
        if (place := folder / _slug(source)).is_dir():
            parents = list(source.by_name().values())
            text = write_card(card, source.spec, parents, [s for s in built.by_name().values() if s not in parents])
            write_atomically(place / "README.md", text.encode())
    specs = [saved[id(source)] for source in sources]
    write_atomically(folder / ENCODERS_FILE, _toml(specs, folder).encode())
    return spaces


@dataclass(frozen=True, eq=False)
class _Saving:
    """One encoder on its way into the folder."""

    source: EncoderSource
    towers: Mapping[Modality, Tower]
    root: Path
    sources: Sequence[EncoderSource]
    anchor: Modality
    met: str | None

    def save(self) -> tuple[EncoderSpec, dict[Modality, str]]:
        """Return how the saved encoder is built, and the name of the space of each tower."""
        changed = self._changed()
        heads = {modality: tower.head for modality, tower in self.towers.items() if tower.head is not None}
        names = {modality: self._space_name(modality, changed=bool(changed)) for modality in self.towers}
        spec = EncoderSpec(self.source.spec.factory, _absolute(self.source.spec.settings))
        if not changed and not heads:
            return spec, names
        place = self.root / _slug(self.source)
        kept = self._kept(changed=bool(changed), heads=heads)
        if changed and not kept:
            own = self._own_format(changed, spec, place / "model" if heads else place)
            if own is not None:
                spec, changed = own, {}
        if changed or heads:
            spec = self._tuned(spec, changed, heads, names, kept)
        return spec, names

    def _changed(self) -> dict[str, torch.Tensor]:
        """The tensors that are not as they were, additions merged."""
        for tower in self.towers.values():
            if isinstance(tower, EncoderTower):
                return changed_tensors(merged_state(tower.network.encoder), self._fresh().module.state_dict())
        return {}

    def _fresh(self) -> Encoder:
        """The encoder as it was."""
        return _built(self.source.spec)

    def _own_format(self, changed: Mapping[str, torch.Tensor], spec: EncoderSpec, folder: Path) -> EncoderSpec | None:
        fresh = self._fresh()
        if not has_own_format(fresh):
            return None
        fresh.module.load_state_dict(changed, strict=False)
        return save_own(fresh, spec, folder, f"{_slug(self.source)}-{_SUFFIX}")

    def _tuned(
        self,
        parent: EncoderSpec,
        changed: Mapping[str, torch.Tensor],
        heads: Mapping[Modality, Head],
        names: Mapping[Modality, str],
        kept: tuple[str, ...],
    ) -> EncoderSpec:
        place = self.root / _slug(self.source)
        place.mkdir(exist_ok=True)
        if changed:
            save_changed(changed, place / _WEIGHTS)
        described = []
        built = EncoderSource(parent, _built(parent))
        renaming = dict(zip(self.source.by_name(), built.by_name(), strict=True))
        for modality, head in heads.items():
            file = f"{names[modality]}.safetensors"
            inputs = tuple((renaming[name], dim) for name, dim in head.config.inputs)
            residual = None if head.config.residual is None else renaming[head.config.residual]
            config = head.config.model_copy(update={"inputs": inputs, "residual": residual})
            save_head(head, place / file, config)
            replaced = self.towers[modality].settings.wants_head
            replaces = tuple(renaming[name] for name in (replaced.replaces if replaced else ()))
            meets = None if modality is self.anchor else self.met
            described.append(
                TunedHead(modality=modality, space=names[modality], file=file, approximates=meets, replaces=replaces)
            )
        fingerprints = {name: space.fingerprint for name, space in built.by_name().items()}
        settings = {key: _relative(value, place) for key, value in parent.settings.items()}
        about = ParentConfig.model_validate(
            {"factory": parent.factory, "settings": settings, "fingerprints": fingerprints}
        )
        weights = _WEIGHTS if changed else None
        write_tuned_config(
            TunedConfig(parent=about, weights=weights, suffix=_SUFFIX, heads=tuple(described), kept=kept), place
        )
        return EncoderSpec(TUNED, {"folder": str(place)})

    def _space_name(self, modality: Modality, *, changed: bool) -> str:
        tower = self.towers[modality]
        if tower.head is None:
            return f"{tower.space.name}-{_SUFFIX}" if changed else tower.space.name
        given = tower.settings.wants_head
        return given.name if given is not None and given.name is not None else f"{tower.space.name}-aligned"

    def _kept(self, *, changed: bool, heads: Mapping[Modality, Head]) -> tuple[str, ...]:
        """Spaces of this encoder that others approximate, and that its items would no longer fill."""
        settings = [self.towers[modality].settings.wants_head for modality in heads]
        replaced = {name for one in settings if one is not None for name in one.replaces}
        met = {
            space.approximates
            for other in self.sources
            for space in other.by_name().values()
            if other is not self.source
        }
        own = self.source.by_name()
        return tuple(name for name in own if own[name].fingerprint in met and (changed or name in replaced))


def _built(spec: EncoderSpec) -> Encoder:
    """An encoder anew, on the CPU. Its code is trusted: to be fine-tuned, it was loaded by who may say so."""
    return build_encoder(spec, torch.device("cpu"), torch.float32, trust_code=True)


def _slug(source: EncoderSource) -> str:
    return next(iter(source.by_name()))


def _absolute(settings: Mapping[str, object]) -> dict[str, object]:
    """Settings whose paths hold in any working directory."""
    return {
        key: str(Path(value).expanduser().resolve())
        if key in _PATHS and isinstance(value, str) and Path(value).expanduser().exists()
        else value
        for key, value in settings.items()
    }


def _relative(value: object, folder: Path) -> object:
    """A path within a folder as it is written there."""
    if isinstance(value, str) and Path(value).is_absolute() and Path(value).is_relative_to(folder):
        return f"./{Path(value).relative_to(folder)}"
    return list(value) if isinstance(value, tuple) else value


def _toml(specs: Sequence[EncoderSpec], folder: Path) -> str:
    tables = []
    for spec in specs:
        settings = {key: _relative(value, folder) for key, value in spec.settings.items() if value is not None}
        # Of texts, numbers and lists of them, JSON's way of writing is TOML's too.
        lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in settings.items()]
        tables.append("\n".join(["[[encoders]]", f"factory = {json.dumps(spec.factory)}", *lines, ""]))
    return "\n".join(tables)
