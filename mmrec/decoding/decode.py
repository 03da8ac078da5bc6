"""Decode bytes of any modality in this process; see `mmrec.decoding.isolated` for decoding that may crash."""

import codecs
import re
from collections.abc import Callable
from typing import Final

from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError
from mmrec.types import Content, Modality

_DEFAULT: Final = Limits()


def decode(modality: Modality, data: bytes, limits: Limits = _DEFAULT) -> Content:
    """Decode by what the bytes are, whatever their file was called.

    Returns a str, an RGB image turned upright, or a mono waveform at the file's own rate. Raises MediaError, and
    nothing else but MemoryError, with one sentence that says what to do.
    """
    if not data:
        raise MediaError("The content is empty.")
    if len(data) > limits.max_bytes:
        raise MediaError(f"The content is larger than the limit of {limits.max_bytes:,} bytes.")
    try:
        return decoder_of(modality)(data, limits)
    except (MediaError, MemoryError):
        raise
    except Exception as error:
        raise MediaError(f"The {modality} is damaged: {_plain_words(error)}.") from error


def decoder_of(modality: Modality) -> Callable[[bytes, Limits], Content]:
    """Return what decodes a modality, its libraries loaded."""
    # Imported when first needed: a process that decodes images need not load the libraries for audio.
    if modality is Modality.IMAGE:
        from mmrec.decoding.image import decode_image  # noqa: PLC0415

        return decode_image
    if modality is Modality.AUDIO:
        from mmrec.decoding.audio import decode_audio  # noqa: PLC0415

        return decode_audio
    return decode_text


def _plain_words(error: Exception) -> str:
    """Keep the first line of a decoder's message, without object addresses and paths."""
    first_line = (str(error).splitlines() or [""])[0]
    words = re.sub(r"<[^>]*>|\S*/\S+", "", first_line)[:120].strip(" .:'\"")
    return words or type(error).__name__


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
