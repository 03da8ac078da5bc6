"""Which file names are which modality. For guessing and for folders only: decoding looks at the bytes."""

from pathlib import PurePath
from typing import Final

from mmrec.types import Modality

__all__ = ["modality_of_bytes", "modality_of_name"]

_SUFFIXES: Final = {
    Modality.TEXT: ("txt",),
    Modality.IMAGE: ("png", "jpg", "jpeg", "webp", "gif", "avif", "bmp", "tif", "tiff", "ppm", "pgm", "jp2", "svg"),
    Modality.AUDIO: (
        *(
            "wav",
            "flac",
            "ogg",
            "oga",
            "opus",
            "mp3",
            "m4a",
            "aac",
            "wma",
            "aif",
            "aiff",
            "amr",
            "mka",
            "ac3",
            "wv",
            "au",
        ),
    ),
}
_BY_SUFFIX: Final = {suffix: modality for modality, suffixes in _SUFFIXES.items() for suffix in suffixes}
_SOUND_MARKS: Final = (
    b"fLaC",
    b"OggS",
    b"ID3",
    b"\xff\xfb",
    b"\xff\xf3",
    b"\xff\xf2",
    b"\xff\xf1",
    b"\xff\xf9",
    b"FORM",
    b".snd",
)


def modality_of_name(name: str) -> Modality | None:
    """Tell a modality from a file name's suffix."""
    return _BY_SUFFIX.get(PurePath(name).suffix[1:].lower())


def modality_of_bytes(data: bytes) -> Modality:
    """Tell a sound from a picture by the first bytes."""
    wave = data[:4] in {b"RIFF", b"RF64"} and data[8:12] == b"WAVE"
    m4a = data[4:11] in {b"ftypM4A", b"ftypmp4", b"ftypiso"}
    return Modality.AUDIO if wave or m4a or data.startswith(_SOUND_MARKS) else Modality.IMAGE
