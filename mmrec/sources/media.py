"""One content: the hash of its bytes, and what they decode to. `media_access` reads the bytes."""

import hashlib

from mmrec.decoding.decode import decode
from mmrec.decoding.limits import Limits

__all__ = ["Limits", "content_hash", "decode"]


def content_hash(data: bytes) -> bytes:
    """Return the 16-byte BLAKE2b digest of one field's raw bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()
