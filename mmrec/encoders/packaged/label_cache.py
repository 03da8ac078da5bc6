"""Text vectors of label names on disk: seconds of work that every process would repeat. Losing them costs only that."""

import contextlib
import hashlib
import io
import os
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from indexers.atomic import write_atomically

__all__ = ["load_vectors", "save_vectors"]

_DIGEST = hashlib.sha256().digest_size


def load_vectors(key: str) -> Float32[np.ndarray, "n dim"] | None:
    """Return the vectors kept under a key, or None where there are none or the file is damaged."""
    try:
        content = _location(key).read_bytes()
    except OSError:
        return None
    digest, payload = content[:_DIGEST], content[_DIGEST:]
    if hashlib.sha256(payload).digest() != digest:
        return None
    vectors: np.ndarray = np.load(io.BytesIO(payload), allow_pickle=False)
    return vectors


def save_vectors(key: str, vectors: Float32[np.ndarray, "n dim"]) -> None:
    """Keep vectors under a key, whole or not at all; a folder that cannot be written to is no error."""
    buffer = io.BytesIO()
    np.save(buffer, vectors, allow_pickle=False)
    payload = buffer.getvalue()
    location = _location(key)
    with contextlib.suppress(OSError):
        location.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(location, hashlib.sha256(payload).digest() + payload)


def _location(key: str) -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mmrec" / "labels" / f"{key}.bin"
