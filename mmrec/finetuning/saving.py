"""Save fine-tuned encoders as a folder, in the formats of the libraries that they came from."""

import json
import re
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
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
from mmrec.finetuning.config import FinetuneConfig, HeadSettings
from mmrec.finetuning.model_card import FinetuneReport, model_card
from mmrec.finetuning.tower_building import FinetuneTower, merged_state
from mmrec.finetuning.towers import EncoderSource, EncoderTower
from mmrec.types import Modality, Space


def _save_own(encoder: Encoder, spec: EncoderSpec, folder: Path, name: str) -> EncoderSpec:
    """Write an encoder as its own library does. Returns how it is built from there; `name` is that of its space."""
    folder.mkdir(parents=True)
    with quiet():
        _SAVERS[type(encoder)](encoder, folder)
    kept = {key: value for key, value in spec.settings.items() if key not in ("model", "checkpoint", "revision")}
    key = "checkpoint" if isinstance(encoder, SpeechBundle) else "model"
    return EncoderSpec(spec.factory, {**kept, key: str(folder), "name": name})


def _text(encoder: Any, folder: Path) -> None:  # noqa: ANN401
    own = encoder._own  # noqa: SLF001 -- saving and loading of a kind are one concern in two files
    source = encoder._files.folder  # noqa: SLF001
    _describe(source, folder)
    encoder.module.transformer.save_pretrained(folder / own.transformer.relative_to(source))
    for step, layer in zip(own.steps, encoder.module.head, strict=True):
        if layer.state_dict():
            save_file(_tensors(layer), folder / step.folder.relative_to(source) / "model.safetensors")


def _of_transformers(encoder: Any, folder: Path) -> None:  # noqa: ANN401
    _describe(encoder._files.folder, folder)  # noqa: SLF001
    encoder.module.save_pretrained(folder)


def _multimodal(encoder: Any, folder: Path) -> None:  # noqa: ANN401
    encoder.module.save_pretrained(str(folder), create_model_card=False)


def _timm(encoder: Any, folder: Path) -> None:  # noqa: ANN401
    config = json.loads((encoder._files.folder / "config.json").read_text(encoding="utf-8"))  # noqa: SLF001
    # Its classifier was never loaded, and would be of the old features.
    config |= {"num_classes": 0, "num_features": encoder.module.num_features}
    config.setdefault("pretrained_cfg", {})["num_classes"] = 0
    if "num_classes" in config.get("model_args", {}):
        config["model_args"]["num_classes"] = 0
    for stale in ("label_names", "label_descriptions"):
        config.pop(stale, None)
    (folder / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(_tensors(encoder.module), folder / "model.safetensors")


def _open_clip(encoder: Any, folder: Path) -> None:  # noqa: ANN401
    architecture = encoder._architecture  # noqa: SLF001
    if architecture.files is not None:
        _describe(architecture.files.folder, folder)
    config = {"model_cfg": dict(architecture.model), "preprocess_cfg": dict(architecture.preprocess)}
    (folder / "open_clip_config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    save_file(_tensors(encoder.module), folder / "open_clip_model.safetensors")


def _speech(encoder: Any, folder: Path) -> None:  # noqa: ANN401
    source = encoder._weights  # noqa: SLF001
    stored: Mapping[str, Tensor] = torch.load(source, map_location="cpu", weights_only=True)
    trained = {_bundled(name, stored): value for name, value in _tensors(encoder.module).items()}
    # What the bundle drops when it loads (classes of letters) stays as it was in the file.
    fits = {name: value for name, value in trained.items() if name in stored and stored[name].shape == value.shape}
    torch.save({**stored, **fits}, folder / source.name)


def _bundled(name: str, stored: Mapping[str, Tensor]) -> str:
    """A tensor's name as older files have it, where torch has since renamed its two halves of a normed weight."""
    if name in stored:
        return name
    return re.sub(r"parametrizations\.weight\.original([01])$", lambda half: f"weight_{'gv'[int(half[1])]}", name)


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


_SAVERS: Mapping[type, Callable[[Any, Path], None]] = {
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
    towers: Mapping[Modality, FinetuneTower],
    sources: Sequence[EncoderSource],
    folder: Path,
    report: FinetuneReport,
    config: FinetuneConfig,
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
    anchor = Modality.TEXT if Modality.TEXT in towers else next(iter(towers))
    anchor_space: str | None = None
    specs: dict[int, EncoderSpec] = {}
    spaces: dict[str, Space] = {}
    root = folder.absolute().with_name(temporary_name(folder.name))
    root.mkdir(parents=True)
    try:
        # The anchor's encoder first: the others' heads name its space.
        for source in sorted(sources, key=lambda source: source is not towers[anchor].source):
            saver = _EncoderSaver(source, towers, root / _slug(source), sources, anchor, anchor_space)
            specs[id(source)] = spec = saver.save()
            built = _built(spec).by_name()
            if taken := sorted(spaces.keys() & built.keys()):
                raise UsageError(f"Two encoders would fill the space {taken[0]!r}. Give one of the heads another name.")
            spaces |= built
            if source is towers[anchor].source:
                anchor_space = spaces[saver.names[anchor]].comparison_key
            if saver.folder.is_dir():
                parents = list(source.by_name().values())
                new = [space for space in built.values() if space not in parents]
                card = model_card(report, config, source.spec, parents, new)
                write_atomically(saver.folder / "README.md", card.encode())
        write_atomically(root / ENCODERS_FILE, _toml([specs[id(source)] for source in sources], root).encode())
        replace_tree(root, folder.absolute())
    finally:
        shutil.rmtree(root, ignore_errors=True)
    return spaces


@dataclass(frozen=True, eq=False)
class _EncoderSaver:
    """Saves one of the encoders into a folder of its own, where anything of it is new."""

    source: EncoderSource
    all_towers: Mapping[Modality, FinetuneTower]
    folder: Path
    sources: Sequence[EncoderSource]
    anchor: Modality
    anchor_space: str | None

    def save(self) -> EncoderSpec:
        """Return how the saved encoder is built."""
        changed, kept = self.changed, self._kept()
        spec = EncoderSpec(self.source.spec.factory, _absolute(self.source.spec.settings))
        if changed and not kept:
            fresh = _built(self.source.spec).encoder
            if type(fresh) in _SAVERS:
                fresh.module.load_state_dict(changed, strict=False)
                place = self.folder / "model" if self.heads else self.folder
                spec, changed = _save_own(fresh, spec, place, f"{_slug(self.source)}-{_SUFFIX}"), {}
        return self._tuned(spec, changed, kept) if changed or self.heads else spec

    @cached_property
    def towers(self) -> dict[Modality, FinetuneTower]:
        """The towers of this encoder."""
        return {modality: tower for modality, tower in self.all_towers.items() if tower.source is self.source}

    @cached_property
    def heads(self) -> dict[Modality, tuple[Head, HeadSettings]]:
        """The heads of these towers, and their settings."""
        return {
            modality: (tower.head, tower.settings.head_settings or HeadSettings())
            for modality, tower in self.towers.items()
            if tower.head is not None
        }

    @cached_property
    def changed(self) -> dict[str, Tensor]:
        """The tensors that are not as they were, additions merged."""
        for tower in self.towers.values():
            if isinstance(tower, EncoderTower):
                before = _built(self.source.spec).encoder.module.state_dict()
                return changed_tensors(merged_state(tower.network.encoder), before)
        return {}

    @cached_property
    def names(self) -> dict[Modality, str]:
        """Name of the space of each tower."""
        names = {m: f"{t.space.name}-{_SUFFIX}" if self.changed else t.space.name for m, t in self.towers.items()}
        heads = {m: head.name or f"{self.towers[m].space.name}-aligned" for m, (_, head) in self.heads.items()}
        return names | heads

    def _kept(self) -> tuple[str, ...]:
        """Spaces of this encoder that others approximate, and that its items would no longer fill."""
        replaced = {name for _, settings in self.heads.values() for name in settings.replaces}
        others = [source for source in self.sources if source is not self.source]
        approximated = {space.approximates for source in others for space in source.by_name().values()}
        own = self.source.by_name().items()
        return tuple(n for n, space in own if space.fingerprint in approximated and (self.changed or n in replaced))

    def _tuned(self, parent: EncoderSpec, changed: Mapping[str, Tensor], kept: tuple[str, ...]) -> EncoderSpec:
        """Write changed tensors and heads beside the name of the encoder that they change."""
        self.folder.mkdir(exist_ok=True)
        if changed:
            save_changed(changed, self.folder / _WEIGHTS)
        built = _built(parent).by_name()
        renamed = dict(zip(self.source.by_name(), built, strict=True))
        described = []
        for modality, (head, settings) in self.heads.items():
            name = self.names[modality]
            inputs = tuple((renamed[name], dim) for name, dim in head.config.inputs)
            residual = None if head.config.residual is None else renamed[head.config.residual]
            config = head.config.model_copy(update={"inputs": inputs, "residual": residual})
            save_head(head, self.folder / f"{name}.safetensors", config)
            described.append(
                TunedHead(
                    modality=modality,
                    space=name,
                    file=f"{name}.safetensors",
                    approximates=None if modality is self.anchor else self.anchor_space,
                    replaces=tuple(renamed[name] for name in settings.replaces),
                )
            )
        about = {
            "factory": parent.factory,
            "settings": {key: _relative(value, self.folder) for key, value in parent.settings.items()},
            "fingerprints": {name: space.fingerprint for name, space in built.items()},
        }
        tuned = TunedConfig(
            parent=ParentConfig.model_validate(about),
            weights=_WEIGHTS if changed else None,
            suffix=_SUFFIX,
            heads=tuple(described),
            kept=kept,
        )
        write_tuned_config(tuned, self.folder)
        return EncoderSpec(TUNED, {"folder": str(self.folder)})


def _built(spec: EncoderSpec) -> EncoderSource:
    """Build an encoder again, on the CPU. Its code is trusted: it was allowed when the encoder was loaded."""
    return EncoderSource(spec, build_encoder(spec, torch.device("cpu"), torch.float32, trust_code=True))


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
