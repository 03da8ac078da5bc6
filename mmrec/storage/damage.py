"""Damaged files of a store: checksums, and errors of libraries converted to StoreError."""

import errno
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Lock
from typing import Final, TypeAlias

from mmrec.errors import DamagedError, MmrecError, StoreError, UnreadableError
from mmrec.files import file_sha256

_WORDS = 300
_DENIED = {errno.EACCES, errno.EPERM}
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_PANIC_PLACE = re.compile(r",? *location: Location \{.*")
_PANIC = re.compile(r'task \d+ panicked with message "(.*)"')
_SOURCE_PLACE = re.compile(r"[,;]?\s*(?:at )?\S*\.rs:\d+(?::\d+)?")
"""Where in its own source a library failed, as Lance appends it to every message."""


@contextmanager
def convert_read_errors(where: Path) -> Iterator[None]:
    """Raise StoreError for errors that unreadable files cause in libraries, their panics included.

    It is an UnreadableError where only permission, memory or file handles are missing, else a DamagedError.
    """
    try:
        yield
    except (MmrecError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise store_error_for(where, error) from error


def store_error_for(where: Path, error: BaseException) -> StoreError:
    """Return the StoreError for a failed read of a file or table."""
    number = errno_of(error)
    if number in _DENIED:
        return UnreadableError(
            f"{where} may not be read by this user: {os.strerror(number)}. Nothing is known to be damaged; ask the "
            "owner of the store for permission"
        )
    if number in _SCARCE:
        return UnreadableError(f"{where} cannot be read now: {os.strerror(number)}. Nothing is known to be damaged")
    return damaged_error(where, reason_of(error))


def damaged_error(where: Path, reason: str) -> DamagedError:
    """Return the error that says what is damaged and what to run."""
    store = next((folder for folder in where.parents if (folder / "store.json").is_file()), where.parent)
    advice = f"see what else is with `mmrec verify {store}`, and repair it with `mmrec repair {store}`"
    return DamagedError(f"{where} is damaged: {reason}", advice)


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message, without places in the source code of a library."""
    first = (str(error).splitlines() or [""])[0]
    first = _PANIC.sub(r"\1", first)
    return _SOURCE_PLACE.sub("", _PANIC_PLACE.sub("", first))[:_WORDS].rstrip(" ,.;") or type(error).__name__


def errno_of(error: BaseException) -> int | None:
    """Return the operating system's number of an error; Lance has it only in its message."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def is_from_lance(error: BaseException) -> bool:
    """Whether an error was raised within Lance."""
    return _SOURCE_PLACE.search(str(error)) is not None


_Stamp: TypeAlias = tuple[int, int, int, int, int]

_THREADS: Final = 4
_MOST_KNOWN: Final = 4096
_LARGE_BYTES: Final = 4 << 20
"""Below this, a thread costs more than it saves."""

_known: dict[Path, tuple[_Stamp, str]] = {}
_lock: Final = Lock()


def sha256_of(path: Path, *, again: bool = False) -> str:
    """SHA-256 of a file in hex, cached by its inode, size and times unless `again` is set.

    Raises StoreError where it cannot be read.
    """
    with convert_read_errors(path):
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
                raise damaged_error(path, "it is not the file that was published: its SHA-256 is another")


def _stamp(path: Path) -> _Stamp:
    status = path.stat()
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
