"""Bytes to text."""

import codecs

from mmrec.catalog.limits import Limits
from mmrec.errors import MediaError

__all__ = ["decode_text"]


def decode_text(data: bytes, limits: Limits) -> str:
    """Decode UTF-8, or UTF-16 with a byte-order mark, and cut to `limits`. Raises MediaError where it is neither."""
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = data.decode("utf-16" if marked else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise MediaError(f"The text is not UTF-8 (byte {error.start}); save it as UTF-8.") from error
    text = text[: limits.max_text_chars]
    if not text.strip():
        raise MediaError("The text is blank.")
    return text
