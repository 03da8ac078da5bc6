"""A model's own tokenizer, shared by threads: texts -> token numbers, cut to a limit, and whether they were cut."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from jaxtyping import Bool, Int
from tokenizers import Tokenizer, normalizers
from torch import Tensor

from mmrec.encoders.hub.loading import load_part
from mmrec.encoders.protocol import Sample
from mmrec.errors import EncoderError, MediaError, UsageError

CHARACTERS_PER_TOKEN = 32
# Far more than a limit needs: a text of megabytes must not be tokenised to its end only to be cut.
FEWEST_CHARACTERS = 65_536


@dataclass(frozen=True, eq=False)
class Tokens:
    """Tokenises one text after the other, from any number of threads, to at most `limit` tokens, special ones included.

    `pad` fills up a row; `whole` is the library's own tokenizer, which is never changed.
    """

    limit: int
    pad: int
    whole: Any
    _shared: Tokenizer | None
    _alone: Lock = field(default_factory=Lock)

    def __call__(self, text: str, prompt: str = "") -> tuple[list[int], bool]:
        """Return a text's tokens, `prompt` before it, and whether it was cut. Raises MediaError if it has none."""
        most = max(FEWEST_CHARACTERS, CHARACTERS_PER_TOKEN * self.limit)
        tokens, cut = self._tokenise(prompt + text[:most])
        if not tokens:
            raise MediaError(f"The text has no token that the model knows ({len(text)} characters).")
        return tokens, cut or len(text) > most

    def prompt_length(self, prompt: str) -> int:
        """Return how many tokens at the start of a text come from the prompt and special tokens before it."""
        tokens, _ = self._tokenise(prompt)
        return len(tokens) - (bool(tokens) and tokens[-1] in self.whole.all_special_ids)

    def _tokenise(self, text: str) -> tuple[list[int], bool]:
        if self._shared is not None:
            encoded = self._shared.encode(text)
            return encoded.ids, bool(encoded.overflowing)
        with self._alone:
            tokens = self.whole(text, truncation=True, max_length=self.limit)["input_ids"]
            cut = len(tokens) == self.limit and len(self.whole(text)["input_ids"]) > self.limit
        return list(tokens), cut


def load_tokens(folder: Path, limit: int | None, most: int | None, *, lower: bool = False) -> Tokens:
    """Load the tokenizer of a folder, for texts of `limit` tokens, by default the tokenizer's own limit.

    `most` is what the network can take, if it has a bound; `lower` has texts lower-cased first. Raises EncoderError if
    there is no tokenizer, UsageError for a limit beyond the network's.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 (takes seconds)

    whole = load_part(AutoTokenizer, folder)
    if limit is not None and most is not None and limit > most:
        raise UsageError(f"Texts of {limit} tokens were requested; the model in {folder} takes at most {most}.")
    bounds = [bound for bound in (limit or whole.model_max_length, most) if bound and bound < 1_000_000]
    chosen = min(bounds, default=512)
    special = whole.num_special_tokens_to_add()
    if chosen <= special:
        raise UsageError(f"Texts of {chosen} tokens were requested; {special} of them are special. Request more.")
    backend = getattr(whole, "backend_tokenizer", None)
    return Tokens(chosen, _pad(whole, folder), whole, _shared(whole, backend, chosen, lower=lower))


def token_batch(
    samples: Sequence[Sample], tokens: Tokens, *, whole_length: bool = False
) -> tuple[Int[Tensor, "batch tokens"], Bool[Tensor, "batch tokens"]]:
    """Return the tokens of several texts as one batch, and which of them are real.

    Filled up on the right, where no network minds it; to `whole_length`, on the side that the tokenizer fills.
    """
    width = tokens.limit if whole_length else max(len(sample.tensor) for sample in samples)
    numbers = torch.full((len(samples), width), tokens.pad, dtype=torch.long)
    real = torch.zeros(len(samples), width, dtype=torch.bool)
    left = whole_length and tokens.whole.padding_side == "left"
    for row, sample in enumerate(samples):
        length = len(sample.tensor)
        own = slice(width - length, width) if left else slice(length)
        numbers[row, own], real[row, own] = sample.tensor.long(), True
    return numbers, real


def _shared(whole: Any, backend: Any, limit: int, *, lower: bool) -> Tokenizer | None:  # noqa: ANN401
    """A copy whose settings are never touched again: the library's own sets them at each call, which threads break."""
    if not isinstance(backend, Tokenizer):
        return None
    copy = Tokenizer.from_str(backend.to_str())
    if lower:
        copy.normalizer = normalizers.Sequence(
            [normalizers.Lowercase(), *([copy.normalizer] if copy.normalizer is not None else [])]
        )
    copy.no_padding()
    copy.enable_truncation(limit, direction=whole.truncation_side)
    return copy


def _pad(whole: Any, folder: Path) -> int:  # noqa: ANN401
    for number in (whole.pad_token_id, whole.eos_token_id, whole.unk_token_id):
        if number is not None:
            return int(number)
    raise EncoderError(f"The tokenizer in {folder} has no padding token, nor another that could stand for it.")
