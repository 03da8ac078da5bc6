"""Checking files against their recorded SHA-256 before they are used.

SHA-256 reads about 1.3 GB a second and core (measured with SHA extensions), several files at a time. A file whose
inode, size, and times of change are those of its last check in this process is not read again, so that a server pays
once for a generation; a new process checks anew.
"""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias

from mmrec.store.damage import damaged, reading
from mmrec.store.files import file_sha256

__all__ = ["check_files", "sha256_of"]

_Stamp: TypeAlias = tuple[int, int, int, int, int]

_THREADS: Final = 4
_MOST_KNOWN: Final = 4096
_LARGE_BYTES: Final = 4 << 20
"""Below this, a thread costs more than it saves."""

_known: dict[Path, tuple[_Stamp, str]] = {}
_lock: Final = Lock()


def sha256_of(path: Path, *, again: bool = False) -> str:
    """SHA-256 of a file in hex, as remembered where the file has not been touched since, unless it is read again.

    Raises StoreError where it cannot be read.
    """
    with reading(path):
        stamp = _stamp(path)
        found = None if again else _known.get(path)
        if found is not None and found[0] == stamp:
            return found[1]
        digest = file_sha256(path)
        if _stamp(path) == stamp:
            with _lock:
                if len(_known) >= _MOST_KNOWN:
                    _known.clear()
                _known[path] = (stamp, digest)
        return digest


def check_files(sums: Mapping[Path, str]) -> None:
    """Raise StoreError where a file is missing, cannot be read, or does not have its recorded SHA-256."""
    large = sum(path.stat().st_size for path in sums if path.is_file()) > _LARGE_BYTES
    with ThreadPoolExecutor(_THREADS if large else 1) as pool:
        for path, digest in zip(sums, pool.map(sha256_of, sums), strict=True):
            if digest != sums[path]:
                raise damaged(path, "it is not the file that was published: its SHA-256 is another")


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
