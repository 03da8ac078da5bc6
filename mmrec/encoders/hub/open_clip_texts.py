"""open_clip's tokenizers, shared by threads: texts -> token numbers of a fixed length, and whether they were cut."""

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

import torch
from jaxtyping import Int32
from torch import Tensor

from mmrec.errors import MediaError

__all__ = ["ClipTexts"]

CHARACTERS = 65_536


@dataclass(frozen=True, eq=False)
class ClipTexts:
    """Tokenises one text after the other; `tokenizer` is one of open_clip's."""

    tokenizer: Any
    _alone: Lock = field(default_factory=Lock)

    def __call__(self, text: str) -> tuple[Int32[Tensor, " tokens"], bool]:
        """Return a text's tokens and whether it was cut. Raises MediaError for a blank text, or one of no Unicode."""
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise MediaError(f"The text is not valid Unicode: a lone surrogate at character {error.start}.") from error
        if not text.strip():
            raise MediaError(f"The text is empty or blank ({len(text)} characters).")
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
