"""One content: the hash of its bytes, and what they decode to. `media_access` reads the bytes.

Knows nothing of catalogs or encoders. Whatever the bytes are, decoding gives content or a MediaError, and reads nothing
but those bytes.
"""

import hashlib
import re
from collections.abc import Callable
from typing import Final

from mmrec.catalog.limits import Limits
from mmrec.catalog.pictures import decode_picture
from mmrec.catalog.sounds import decode_sound
from mmrec.catalog.texts import decode_text
from mmrec.errors import MediaError
from mmrec.items import Content
from mmrec.modality import Modality

__all__ = ["Limits", "content_hash", "decode"]

_DEFAULT: Final = Limits()

_DECODERS: Final[dict[Modality, Callable[[bytes, Limits], Content]]] = {
    Modality.TEXT: decode_text,
    Modality.IMAGE: decode_picture,
    Modality.AUDIO: decode_sound,
}


def content_hash(data: bytes) -> bytes:
    """Return the 16-byte BLAKE2b digest of one field's raw bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


def decode(modality: Modality, data: bytes, limits: Limits = _DEFAULT) -> Content:
    """Decode by what the bytes are, whatever their file was called.

    Returns a str, an RGB picture turned upright, or a mono waveform at the file's own rate. Raises MediaError, and
    nothing else but MemoryError, with one sentence that a person can act on.
    """
    if not data:
        raise MediaError("The content is empty.")
    if len(data) > limits.max_bytes:
        raise _too_large(limits)
    try:
        return _DECODERS[modality](data, limits)
    except (MediaError, MemoryError):
        raise
    except Exception as error:
        raise MediaError(f"The {modality} is damaged: {_plain_words(error)}.") from error


def _too_large(limits: Limits) -> MediaError:
    return MediaError(f"The content is larger than the limit of {limits.max_bytes:,} bytes.")


def _plain_words(error: Exception) -> str:
    """Keep the first line of a decoder's message, without object addresses and paths."""
    first_line = (str(error).splitlines() or [""])[0]
    words = re.sub(r"<[^>]*>|\S*/\S+", "", first_line)[:120].strip(" .:'\"")
    return words or type(error).__name__
