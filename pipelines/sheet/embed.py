"""Media inside the page: pictures as thumbnails, sounds as they are, and a polite word where neither is possible."""

import base64
import io
from dataclasses import dataclass, replace
from typing import cast

from PIL import Image

from mmrec.decoding.isolated import decode_isolated
from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError
from mmrec.sources.media_access import MediaAccess
from mmrec.types import Modality

__all__ = ["Medium", "embed_picture", "embed_sound"]

_SIDE = 320
_SOUND_BYTES = 1_500_000
_READABLE = Limits(max_bytes=64 * 1024 * 1024)

# How a file of each kind begins: offset, bytes, media type.
_SOUND_TYPES = (
    (0, b"OggS", "audio/ogg"),
    (0, b"RIFF", "audio/wav"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"\xff\xf1", "audio/aac"),
    (0, b"\x1a\x45\xdf\xa3", "audio/webm"),
    (4, b"ftyp", "audio/mp4"),
)


@dataclass(frozen=True, slots=True)
class Medium:
    """A picture or sound as the page shows it.

    Attributes:
        source: A data URI; empty where the medium cannot be shown.
        trouble: Why it cannot be shown; empty where it can.

    """

    source: str = ""
    trouble: str = ""


def embed_picture(uri: str, media: MediaAccess) -> Medium:
    """Embed a picture of at most 320 pixels a side, transparent parts white, animations by their first frame."""
    try:
        picture = cast(Image.Image, decode_isolated(Modality.IMAGE, _read(uri, media), _READABLE))
    except MediaError as error:
        return Medium(trouble=f"This picture cannot be shown. {error}")
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=82)
    return Medium(source=_data_uri("image/webp", buffer.getvalue()))


def embed_sound(uri: str, media: MediaAccess) -> Medium:
    """Embed a sound's own bytes, if they are few enough and of a kind that browsers play."""
    try:
        sound = _read(uri, media)
    except MediaError as error:
        return Medium(trouble=f"This sound cannot be played. {error}")
    if len(sound) > _SOUND_BYTES:
        return Medium(trouble=f"This sound has {len(sound) / 1e6:.1f} MB; the page carries up to 1.5 MB each.")
    for offset, beginning, kind in _SOUND_TYPES:
        if sound.startswith(beginning, offset):
            return Medium(source=_data_uri(kind, sound))
    return Medium(trouble="This sound is of a kind that browsers do not play.")


def _read(uri: str, media: MediaAccess) -> bytes:
    return replace(media, limits=_READABLE).read(uri)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
