"""What it means when reading a store fails: damage, or only a lack of permission, memory or file handles."""

import errno
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrec.errors import DamagedError, MmrecError, StoreError, UnreadableError

__all__ = ["by_lance", "damaged", "errno_of", "judged", "reading", "reason_of"]

_WORDS = 300
_DENIED = {errno.EACCES, errno.EPERM}
_SCARCE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
_PANIC_PLACE = re.compile(r",? *location: Location \{.*")
_PANIC = re.compile(r'task \d+ panicked with message "(.*)"')
_SOURCE_PLACE = re.compile(r"[,;]?\s*(?:at )?\S*\.rs:\d+(?::\d+)?")
"""Where in its own source a library failed, as Lance appends it to every message."""


@contextmanager
def reading(where: Path) -> Iterator[None]:
    """Raise StoreError for whatever unreadable files make the libraries beneath raise, their panics included.

    It is an UnreadableError where only permission, memory or file handles are missing, else a DamagedError.
    """
    try:
        yield
    except (MmrecError, KeyboardInterrupt, SystemExit, GeneratorExit, MemoryError):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        raise judged(where, error) from error


def judged(where: Path, error: BaseException) -> StoreError:
    """Return the StoreError that a failed read of a file or table amounts to."""
    number = errno_of(error)
    if number in _DENIED:
        return UnreadableError(
            f"{where} may not be read by this user: {os.strerror(number)}. Nothing is known to be damaged; ask the "
            "owner of the store for permission"
        )
    if number in _SCARCE:
        return UnreadableError(f"{where} cannot be read now: {os.strerror(number)}. Nothing is known to be damaged")
    return damaged(where, reason_of(error))


def damaged(where: Path, reason: str) -> DamagedError:
    """Return the error that says what is damaged and what to run."""
    store = _store_of(where)
    advice = f"see what else is with `mmrec verify {store}`, and repair it with `mmrec mend {store}`"
    return DamagedError(f"{where} is damaged: {reason}", advice)


def reason_of(error: BaseException) -> str:
    """Return the first line of an error's message, without places in the source code of a library."""
    first = (str(error).splitlines() or [""])[0]
    first = _PANIC.sub(r"\1", first)
    return _SOURCE_PLACE.sub("", _PANIC_PLACE.sub("", first))[:_WORDS].rstrip(" ,.;") or type(error).__name__


def errno_of(error: BaseException) -> int | None:
    """Return the operating system's number of an error; Lance has it in its message alone."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno
    found = _OS_ERROR.search(str(error))
    return int(found[1]) if found else None


def by_lance(error: BaseException) -> bool:
    """Whether an error was raised within Lance."""
    return _SOURCE_PLACE.search(str(error)) is not None


def _store_of(path: Path) -> Path:
    """The store that a path is in."""
    return next((folder for folder in path.parents if (folder / "store.json").is_file()), path.parent)
