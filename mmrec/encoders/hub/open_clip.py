"""open_clip models of text and images as encoders."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any, cast

import torch
from jaxtyping import Float, Int32
from PIL import Image
from torch import Tensor, nn

from mmrec.encoders.contents import checked_image, checked_text
from mmrec.encoders.hub.base import JointEncoder
from mmrec.encoders.hub.loading import explain_errors, load_config, once, quiet
from mmrec.encoders.hub.preprocessing import longer_side_for_crop
from mmrec.encoders.hub.source import ModelFiles, file_digest, find_model, read_json
from mmrec.encoders.hub.vetting import check_keywords
from mmrec.encoders.protocol import Sample, fingerprint
from mmrec.encoders.vectors import unit_rows
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Content, Modality

# In the order in which open_clip itself chooses.
_WEIGHTS = (
    ("open_clip_*.safetensors",),
    ("open_clip_pytorch_model.bin",),
    ("*.safetensors",),
    ("*.bin", "*.pt", "*.pth"),
)
_CONTEXT = 77
_FILE = "open_clip_config.json"
_TOKENIZER = frozenset({"additional_special_tokens", "clean", "language", "reduction_mask", "strip_sep_token"})
_MODEL = frozenset({
    "custom_text", "embed_dim", "init_logit_bias", "init_logit_scale", "multimodal_cfg", "nonscalar_logit_scale",
    "output_dict", "pad_id", "quick_gelu", "text_cfg", "vision_cfg",
})  # fmt: skip
# Checked elsewhere: models and tokenizers that are loaded here and not by open_clip, and timm's architecture names.
_CHECKED_ELSEWHERE = frozenset({"hf_model_name", "hf_tokenizer_name", "timm_model_name", "tokenizer_kwargs"})


@dataclass(frozen=True, eq=False)
class Architecture:
    """Description of an open_clip model; nothing is loaded before `load`, `transform` or `tokenizer` is called.

    `model` and `preprocess` are its configuration, `pin` decides its vectors. It is read from the directory `files`, or
    it is an architecture of open_clip's own, `named`, with the weights in `checkpoint`.
    """

    model: Mapping[str, Any]
    preprocess: Mapping[str, Any]
    pin: str
    files: ModelFiles | None = None
    named: str = ""
    checkpoint: str | None = None

    @property
    def dim(self) -> int:
        """Numbers of a vector."""
        return int(self.model["embed_dim"])

    @property
    def side(self) -> int:
        """Pixels of the longest side of a preprocessed image."""
        size = self._size
        return max(size) if isinstance(size, list | tuple) else int(size)

    @property
    def patches(self) -> int:
        """Patches of an image."""
        patch = self.model["vision_cfg"].get("patch_size") or 16
        return max(1, (self.side // int(patch)) ** 2)

    def load(self) -> nn.Module:
        """Return the network. Raises EncoderError if it cannot be loaded, or is not wholly in the weights."""
        import open_clip  # noqa: PLC0415 (takes seconds)

        name = self.named if self.files is None else f"local-dir:{self.files.with_weights(_WEIGHTS)}"
        advice = "See that configuration and weights are whole and belong together."
        with quiet(), explain_errors(f"open_clip's model {self.checkpoint or name}", advice):
            made = open_clip.create_model(
                name,
                self.checkpoint,
                require_pretrained=True,
                pretrained_image=False,
                pretrained_text=False,
                weights_only=True,
                text_cfg=self._text(),
            )
        return cast("nn.Module", made)

    def transform(self) -> Any:  # noqa: ANN401
        """Return the preprocessing of an image that the model was evaluated with."""
        from open_clip.transform import PreprocessCfg, image_transform_v2  # noqa: PLC0415

        known = {key: value for key, value in self.preprocess.items() if key in PreprocessCfg.__dataclass_fields__}
        return image_transform_v2(PreprocessCfg(**{**known, "size": self._size}), is_train=False)

    def tokenizer(self) -> Any:  # noqa: ANN401
        """Return the model's own tokenizer. Raises EncoderError if its files are not available."""
        import open_clip  # noqa: PLC0415

        text = self.model["text_cfg"]
        settings = check_keywords(Path(_FILE), text.get("tokenizer_kwargs"), _TOKENIZER)
        length = int(text.get("context_length", _CONTEXT))
        if not text.get("hf_tokenizer_name"):
            return open_clip.SimpleTokenizer(context_length=length, **settings)
        folder = self.files.folder if self.files else find_model(str(text["hf_tokenizer_name"]), None).folder
        with explain_errors(f"The tokenizer in {folder}", "Copy its files there."):
            return open_clip.tokenizer.HFTokenizer(
                str(folder),
                context_length=length,
                tokenizer_mode=text.get("tokenizer_mode"),
                **{**settings, "trust_remote_code": False, "local_files_only": True},
            )

    @property
    def _size(self) -> Any:  # noqa: ANN401
        return self.model["vision_cfg"].get("image_size", 224)

    def _text(self) -> dict[str, Any]:
        """The text tower's configuration; one of transformers' networks is described by files on this machine."""
        text = {**self.model["text_cfg"], "hf_model_pretrained": False}
        if not text.get("hf_model_name"):
            del text["hf_model_pretrained"]
            return text
        folder = find_model(str(text["hf_model_name"]), None).folder
        load_config(folder)  # refuses what would need code of its own
        return {**text, "hf_model_name": str(folder)}


def find_architecture(model: str, checkpoint: str | None, revision: str | None) -> Architecture:
    """Return the architecture of a model's name; arguments as of `OpenClip`. Raises EncoderError or UsageError."""
    built_in = _built_in(model)
    if checkpoint is not None:
        return _with_checkpoint(model, built_in, Path(checkpoint).expanduser(), revision)
    if built_in and not Path(model).is_dir():
        raise UsageError(
            f"{model} is an architecture of open_clip, without weights. Set checkpoint to a file of weights, or name a "
            "model's directory or its id on the hub."
        )
    files = find_model(model, revision)
    found = read_json(files.folder / _FILE)
    config, preprocess = found.get("model_cfg"), found.get("preprocess_cfg", {})
    if not _is_whole(config) or not isinstance(preprocess, dict):
        raise EncoderError(
            f"{files.folder} has no open_clip_config.json that describes a model of images and text. Read models of "
            "transformers with mmrec.encoders.hub.image_text.HubImageText."
        )
    _check_config(files.folder / _FILE, cast("Mapping[str, Any]", config))
    return Architecture(cast("Mapping[str, Any]", config), preprocess, files.pin, files)


def _check_config(path: Path, config: Mapping[str, Any]) -> None:
    """Raise EncoderError for keywords that open_clip's networks do not have, and for values that are not plain."""
    towers = {"vision_cfg", "text_cfg", "multimodal_cfg"}
    check_keywords(path, {key: value for key, value in config.items() if key not in towers}, _MODEL)
    for name in sorted(towers & config.keys()):
        tower = config[name]
        if not isinstance(tower, Mapping):
            raise EncoderError(f"{path}: {name} is no table. Copy or download the model again.")
        found = {key: value for key, value in tower.items() if key not in _CHECKED_ELSEWHERE}
        check_keywords(path, found, frozenset(found))  # open_clip's config classes validate the names
    check_keywords(path, config["text_cfg"].get("tokenizer_kwargs"), _TOKENIZER)


def _with_checkpoint(model: str, built_in: Mapping[str, Any], checkpoint: Path, revision: str | None) -> Architecture:
    if revision is not None:
        raise UsageError(f"A checkpoint has no revision {revision!r}. Leave revision out.")
    if not built_in:
        raise UsageError(f"A checkpoint needs one of open_clip's architectures as its model, and {model!r} is none.")
    if not checkpoint.is_file():
        raise EncoderError(f"There is no file {str(checkpoint)!r}. Set checkpoint to a file of weights.")
    pin = fingerprint(weights=file_digest(checkpoint), architecture=built_in)
    return Architecture(built_in, {}, pin, None, model, str(checkpoint))


def _built_in(model: str) -> Mapping[str, Any]:
    """The configuration of an architecture that open_clip carries, read without importing it."""
    spec = find_spec("open_clip")
    places = spec.submodule_search_locations if spec else None
    if not places or Path(model).name != model:
        return {}
    found = read_json(Path(places[0]) / "model_configs" / f"{model}.json")
    return found if _is_whole(found) else {}


def _is_whole(config: object) -> bool:
    return isinstance(config, dict) and {"embed_dim", "vision_cfg", "text_cfg"} <= config.keys()


CHARACTERS = 65_536


@dataclass(frozen=True, eq=False)
class ClipTexts:
    """Tokenises one text after the other; `tokenizer` is one of open_clip's."""

    tokenizer: Any
    _alone: Lock = field(default_factory=Lock)

    def __call__(self, text: str) -> tuple[Int32[Tensor, " tokens"], bool]:
        """Return a text's tokens and whether it was cut."""
        with self._alone:  # the tokenizers of transformers change at each call
            tokens = self.tokenizer([text[:CHARACTERS]])[0]
            cut = len(text) > CHARACTERS or self._is_cut(text, tokens)
        return tokens.to(torch.int32), cut

    def _is_cut(self, text: str, tokens: Tensor) -> bool:
        inner = getattr(self.tokenizer, "tokenizer", None)
        if inner is None:
            full = bool(tokens[-1] != 0)
            return full and len(self.tokenizer.encode(text)) + 2 > len(tokens)
        full = bool((tokens != inner.pad_token_id).all())
        return full and len(inner(self.tokenizer.clean_fn(text))["input_ids"]) > len(tokens)


@dataclass(frozen=True, eq=False)
class OpenClip(JointEncoder):
    """Image or text -> one space for both, so that text finds images. Weights are read at first use.

    Attributes:
        model: A directory with ``open_clip_config.json`` and weights, a hub's id, or one of open_clip's architectures.
        checkpoint: File of an architecture's weights; only beside one of those.

    """

    _reads = (Modality.TEXT, Modality.IMAGE)

    checkpoint: str | None = None

    @property
    def image_side(self) -> int:
        """Longer side of an image, in pixels, beyond which nothing is gained."""
        return longer_side_for_crop(self._architecture.side)

    @once
    def module(self) -> nn.Module:
        """The network, loaded at first use. Raises EncoderError if that fails."""
        return self._architecture.load().to(self.device, self.dtype).eval()

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Preprocess one content as the model's own transform and tokenizer do. Raises MediaError."""
        if modality is not Modality.TEXT:
            pixels = self._transform(checked_image(self.model, modality, content))
            return Sample(pixels, cost=self._architecture.patches)
        tokens, truncated = self._texts(checked_text(self.model, modality, content))
        return Sample(tokens, cost=len(tokens), truncated=truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        network: Any = self.module
        batch = self.to_device(torch.stack([sample.tensor for sample in samples]))
        if modality is Modality.TEXT:
            return {self._space.name: unit_rows(network.encode_text(batch.long()))}
        return {self._space.name: unit_rows(network.encode_image(batch.to(self.dtype)))}

    @once
    def _architecture(self) -> Architecture:
        return find_architecture(self.model, self.checkpoint, self.revision)

    @property
    def _pin(self) -> str:
        return self._architecture.pin

    def _dim(self) -> int:
        return self._architecture.dim

    def _settings(self) -> dict[str, object]:
        return {"kind": "open_clip", "version": 1}

    @once
    def _transform(self) -> Callable[[Image.Image], Float[Tensor, "3 height width"]]:
        return cast("Callable[[Image.Image], Tensor]", self._architecture.transform())

    @once
    def _texts(self) -> ClipTexts:
        return ClipTexts(self._architecture.tokenizer())
