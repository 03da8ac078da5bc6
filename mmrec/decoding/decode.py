"""Bytes to a content, in this very process. See `mmrec.decoding.apart` for decoding that may crash.

Knows nothing of catalogs or encoders, and reads nothing but the bytes.
"""

import re
from collections.abc import Callable
from importlib import import_module
from typing import Final, cast

from mmrec.catalog.limits import Limits
from mmrec.errors import MediaError
from mmrec.items import Content
from mmrec.modality import Modality

__all__ = ["decode", "decoder_of"]

_DEFAULT: Final = Limits()

# Imported when first needed: a process that decodes pictures need not load the libraries for sound.
_DECODERS: Final = {
    Modality.TEXT: ("mmrec.catalog.texts", "decode_text"),
    Modality.IMAGE: ("mmrec.catalog.pictures", "decode_picture"),
    Modality.AUDIO: ("mmrec.catalog.sounds", "decode_sound"),
}


def decode(modality: Modality, data: bytes, limits: Limits = _DEFAULT) -> Content:
    """Decode by what the bytes are, whatever their file was called.

    Returns a str, an RGB picture turned upright, or a mono waveform at the file's own rate. Raises MediaError, and
    nothing else but MemoryError, with one sentence that a person can act on.
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
    module, name = _DECODERS[modality]
    return cast("Callable[[bytes, Limits], Content]", getattr(import_module(module), name))


def _plain_words(error: Exception) -> str:
    """Keep the first line of a decoder's message, without object addresses and paths."""
    first_line = (str(error).splitlines() or [""])[0]
    words = re.sub(r"<[^>]*>|\S*/\S+", "", first_line)[:120].strip(" .:'\"")
    return words or type(error).__name__
