"""Limits on one content: bytes, pixels, seconds, memory."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds on one content; beyond them an image is refused, audio or a text is cut.

    Attributes:
        max_bytes: Largest encoded size that is read.
        max_pixels: Largest image, in pixels of the file, checked before any pixel is decoded.
        max_seconds: Audio beyond this is not decoded.
        max_text_chars: Text beyond this is cut; far above what encoders keep, which count their own cuts.
        max_memory: Bytes of memory in which an image or audio clip must be decoded; more and it is refused.
        max_decoding_seconds: Processor time in which it must be.
        image_side: Longer side, in pixels, at which a drawing is made; see `mmrec.encoders.protocol`.

    """

    max_bytes: int = 256 * 1024 * 1024
    max_pixels: int = 90_000_000
    max_seconds: float = 120.0
    max_text_chars: int = 100_000
    max_memory: int = 4 * 1024 * 1024 * 1024
    max_decoding_seconds: float = 60.0
    image_side: int = 384
