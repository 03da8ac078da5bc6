"""Text embedding models of transformers and sentence-transformers as encoders."""

import logging
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from mmrec.encoders.contents import checked_text
from mmrec.encoders.hub.base import HubEncoder
from mmrec.encoders.hub.loading import explain_errors, load_config, load_network, once
from mmrec.encoders.hub.sentence_config import POOLINGS, HeadStep, SentenceConfig, pool, read_sentence_config
from mmrec.encoders.hub.source import read_json
from mmrec.encoders.hub.tokens import Tokens, load_tokens
from mmrec.encoders.protocol import Sample
from mmrec.encoders.vectors import unit_rows
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Content, Modality

# Networks whose encoder alone makes the vectors.
_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}


class TextNetwork(nn.Module):
    """Token numbers -> vectors, not yet of length one.

    `pooling` names keys of `POOLINGS`; `head` is what follows the pooling.
    """

    def __init__(self, transformer: nn.Module, pooling: tuple[str, ...], head: nn.Sequential) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling
        self.head = head

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        real: Bool[Tensor, "batch tokens"],
        pooled: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch dim"]:
        """Return one vector per row; `real` tokens are read, those `pooled` also count in the pooling."""
        found = self.transformer(input_ids=tokens, attention_mask=real.long())
        vectors: Tensor = self.head(pool(self.pooling, found.last_hidden_state, pooled))
        return vectors


class _Dense(nn.Module):
    def __init__(self, config: dict[str, object], folder: Path) -> None:
        super().__init__()
        wide, narrow = int(str(config["in_features"])), int(str(config["out_features"]))
        self.linear = nn.Linear(wide, narrow, bias=bool(config.get("bias", True)))
        named = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
        self.activation = _activation(named, folder)
        self.residual: nn.Module | None = None
        if config.get("use_residual"):
            self.residual = nn.Identity() if wide == narrow else nn.Linear(wide, narrow, bias=False)

    def forward(self, vectors: Float[Tensor, "batch wide"]) -> Float[Tensor, "batch narrow"]:
        made: Tensor = self.activation(self.linear(vectors))
        return made if self.residual is None else made + self.residual(vectors)


class _Unit(nn.Module):
    def forward(self, vectors: Float[Tensor, "batch wide"]) -> Float[Tensor, "batch wide"]:
        return torch.nn.functional.normalize(vectors, dim=1)


def _step(step: HeadStep) -> nn.Module:
    if step.kind == "Normalize":
        return _Unit()
    config = read_json(step.folder / "config.json")
    with explain_errors(f"The layer in {step.folder}", "Copy the model again."):
        if step.kind == "LayerNorm":
            module: nn.Module = nn.Sequential(OrderedDict(norm=nn.LayerNorm(int(str(config["dimension"])))))
        else:
            if config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
                raise EncoderError(f"The layer in {step.folder} works on tokens, which is not known here.")
            module = _Dense(config, step.folder)
        module.load_state_dict(_weights(step.folder))
    return module


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file  # noqa: PLC0415

    if (folder / "model.safetensors").exists():
        return load_file(folder / "model.safetensors")
    found: dict[str, Tensor] = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    return found


def _activation(dotted: str, folder: Path) -> nn.Module:
    """An activation of torch's own by the last part of its name; nothing else is ever imported."""
    made = getattr(torch.nn.modules.activation, dotted.rpartition(".")[2], None)
    if dotted.endswith(".Identity") or dotted == "Identity":
        return nn.Identity()
    if not dotted.startswith("torch.") or not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise EncoderError(f"The layer in {folder} has the activation {dotted!r}, which is none of torch's own.")
    return made()


@dataclass(frozen=True, eq=False)
class HubText(HubEncoder):
    """Text -> the vectors of a text embedding model. Files are looked up at once, weights read at first use.

    Attributes:
        pooling: One of `POOLINGS`, or several joined by ``+``; the model's own where None.
        document_prompt: What is put before the texts of items; the model's own where None.
        query_prompt: What is put before the texts of queries; the model's own where None.
        max_tokens: Where texts are cut; the model's own limit where None.
        dim: How many numbers of a vector are kept, for models trained to be cut; the model's own where None.

    """

    _reads = (Modality.TEXT,)

    pooling: str | None = None
    document_prompt: str | None = None
    query_prompt: str | None = None
    max_tokens: int | None = None
    dim: int | None = None

    def __post_init__(self) -> None:
        if self.pooling is not None and (bad := [name for name in self.pooling.split("+") if name not in POOLINGS]):
            raise UsageError(f"There is no pooling {bad[0]!r}. Allowed: {', '.join(POOLINGS)}, or several joined by +.")
        for setting, value in (("max_tokens", self.max_tokens), ("dim", self.dim)):
            if value is not None and value < 1:
                raise UsageError(f"{setting} = {value} was given; it must be at least 1, or be left out.")

    @once
    def module(self) -> TextNetwork:
        """The network with its pooling, loaded at first use. Raises EncoderError if that fails."""
        import transformers  # noqa: PLC0415 (takes seconds)

        own = read_sentence_config(self._files.with_weights())
        config = load_config(own.transformer)
        kind = getattr(config, "model_type", "")
        if getattr(config, "is_encoder_decoder", False) and kind not in _ENCODERS:
            raise EncoderError(
                f"{own.transformer} holds a {kind} model of an encoder and a decoder; of these only "
                f"{', '.join(_ENCODERS)} are read. Name a text embedding model."
            )
        loader = getattr(transformers, _ENCODERS.get(kind, "AutoModel"))
        loaded = load_network(loader, own.transformer, self.device, self.dtype)
        head = nn.Sequential(*map(_step, own.steps)).to(self.device, self.dtype).eval()
        return TextNetwork(loaded, self._pooling, head)

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Tokenise the text of an item. Raises MediaError for a text without a token."""
        return self._prepare(modality, content, self._prompts[0], self._document_tokens)

    def prepare_query(self, modality: Modality, content: Content) -> Sample:
        """Tokenise the text of a query, which may have another prompt than items have. Raises MediaError."""
        return self._prepare(modality, content, self._prompts[1], self._query_tokens)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        packed = [sample.tensor.long() for sample in samples]
        tokens = pad_sequence([one[0] for one in packed], batch_first=True, padding_value=self._document_tokens.pad)
        pooled = pad_sequence([one[1].bool() for one in packed], batch_first=True)
        real = torch.arange(tokens.shape[1]) < torch.tensor([[one.shape[1]] for one in packed])
        vectors = self.module(self.to_device(tokens), self.to_device(real), self.to_device(pooled))
        return {self._space.name: unit_rows(vectors[:, : self._space.dim])}

    def _prepare(self, modality: Modality, content: Content, prompt: str, tokens: Tokens) -> Sample:
        numbers, truncated = tokens(checked_text(self.model, modality, content), prompt)
        packed = torch.ones(2, len(numbers), dtype=torch.int32)  # second row: whether a token counts in the pooling
        packed[0] = torch.tensor(numbers)
        if prompt and not self._own.pools_prompt:
            packed[1, : min(tokens.prompt_length(prompt), len(numbers) - 1)] = 0
        return Sample(packed, cost=len(numbers), truncated=truncated)

    @once
    def _own(self) -> SentenceConfig:
        found = read_sentence_config(self._files.folder)
        if not found.declared and self.pooling is None:
            logging.getLogger(__name__).warning(
                "%s says nothing of its pooling; its texts are pooled by the mean. Set pooling to choose.", self.model
            )
        return found

    @property
    def _pooling(self) -> tuple[str, ...]:
        return tuple(self.pooling.split("+")) if self.pooling is not None else self._own.pooling

    @property
    def _prompts(self) -> tuple[str, str]:
        document, query = self._own.prompts
        return (
            document if self.document_prompt is None else self.document_prompt,
            query if self.query_prompt is None else self.query_prompt,
        )

    def _dim(self) -> int:
        full = self._full_dim
        kept = self.dim or self._own.dim or full
        if kept > full:
            raise UsageError(f"dim = {kept} was given; the vectors of {self.model} have {full} numbers.")
        return kept

    def _settings(self) -> dict[str, object]:
        # Not the query's prompt and length: they change no vector of an item.
        document, limit = self._prompts[0], self._limit(0)
        return {"pooling": self._pooling, "prompt": document, "limit": limit, "dim": self._dim(), "version": 1}

    @property
    def _full_dim(self) -> int:
        for step in reversed(self._own.steps):
            if step.kind == "Dense":
                return int(str(read_json(step.folder / "config.json").get("out_features")))
        width = self._cached_dim("dimension of a text model", lambda: _width(self._own.transformer))
        return width * len(self._pooling)

    def _limit(self, kind: int) -> int | None:
        return self.max_tokens or self._own.limits[kind]

    @once
    def _document_tokens(self) -> Tokens:
        return self._load_tokens(0)

    @once
    def _query_tokens(self) -> Tokens:
        return self._document_tokens if self._limit(0) == self._limit(1) else self._load_tokens(1)

    def _load_tokens(self, kind: int) -> Tokens:
        folder = self._own.transformer
        most = _positions(load_config(folder))
        given = self._own.limits[kind]
        # A model's own limit may lie beyond its positions; one that the user sets must not.
        limit = self.max_tokens or (min(given, most) if given and most else given)
        return load_tokens(folder, limit, most, lower=self._own.lower)


def _width(folder: Path) -> int:
    config = load_config(folder)
    text: Any = config.get_text_config()
    for source in (text, config):
        for key in ("hidden_size", "d_model", "dim", "n_embd"):
            if isinstance(found := getattr(source, key, None), int):
                return found
    raise EncoderError(f"The configuration in {folder} does not say how wide its states are. Name another model.")


def _positions(config: Any) -> int | None:  # noqa: ANN401
    """How many tokens the network has places for; some keep the first places for padding."""
    found = getattr(config, "max_position_embeddings", None)
    if not isinstance(found, int) or found < 1:
        return None
    return found - (config.pad_token_id or 0) - 1 if config.model_type in _OFFSET else found


_OFFSET = {"roberta", "xlm-roberta", "xlm-roberta-xl", "camembert", "mpnet", "longformer", "data2vec-text", "bertweet"}
