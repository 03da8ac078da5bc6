"""One content: its bytes, their hash, and what they decode to. Knows nothing of catalogs or encoders."""

import hashlib
import os
import stat
from pathlib import Path
from typing import Final

from mmrec.catalog.limits import Limits
from mmrec.catalog.locations import is_in_table, read_from_table
from mmrec.decoding.decode import decode
from mmrec.errors import MediaError
from mmrec.items import Field

__all__ = ["Limits", "content_hash", "decode", "read_bytes", "read_media", "stat_media"]

_DEFAULT: Final = Limits()


def read_bytes(content: Field | str, limits: Limits = _DEFAULT) -> bytes:
    """Return the raw bytes of a field, or of a URI: a path, or ``file.parquet#row=12&column=image``.

    Text gives its UTF-8. Raises MediaError where the bytes cannot be had or are more than `limits` allows.
    """
    if isinstance(content, str):
        data = read_media(content, limits)
    elif content.text is not None:
        data = content.text.encode("utf-8", "replace")
    elif content.data is not None:
        data = content.data
    else:
        data = read_media(content.uri or "", limits)
    if len(data) > limits.max_bytes:
        raise _too_large(limits)
    return data


def read_media(uri: str, limits: Limits = _DEFAULT) -> bytes:
    """Return the bytes at a URI. Raises MediaError where there are none, or more than `limits` allows."""
    if is_in_table(uri):
        return read_from_table(uri)
    try:
        with open(uri, "rb", opener=_open_regular_file) as file:
            data = file.read(limits.max_bytes + 1)
    except (OSError, ValueError) as error:
        raise MediaError(
            f"The file cannot be read: {getattr(error, 'strerror', None) or 'not a valid path'}."
        ) from error
    if len(data) > limits.max_bytes:
        raise _too_large(limits)
    return data


def stat_media(uri: str) -> tuple[int, int] | None:
    """Return size in bytes and time of change in nanoseconds, or None where a URI is not a file of its own."""
    try:
        status = Path(uri).stat()
    except (OSError, ValueError):
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def content_hash(data: bytes) -> bytes:
    """Return the 16-byte BLAKE2b digest of one field's raw bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


def _open_regular_file(path: str, flags: int) -> int:
    # A pipe would block and a device never end: without O_NONBLOCK the open itself would wait for a pipe's writer.
    descriptor = os.open(path, flags | os.O_NONBLOCK)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return descriptor


def _too_large(limits: Limits) -> MediaError:
    return MediaError(f"The content is larger than the limit of {limits.max_bytes:,} bytes.")
