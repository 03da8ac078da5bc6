"""OS locks across all processes that share a store, which the kernel releases when their holder dies."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from mmrec.errors import StoreBusyError, StoreError

JOB_WAIT_SECONDS = 900.0
"""How long a long-running job waits for the commit lock: another may be committing a whole catalog."""


@contextmanager
def file_lock(path: Path, wait_seconds: float = 60.0) -> Iterator[None]:
    """Hold the OS lock of a file: `Layout.lock` for commits. Raises StoreBusyError after the wait."""
    busy = f"another process has held {path} for {wait_seconds:g} s; wait for it, or stop it, and run again"
    with _held(path, wait_seconds, busy):
        yield


@contextmanager
def job_lock(path: Path) -> Iterator[None]:
    """Hold the lock that lets one job at a time index a catalog; live changes do not need it.

    Raises StoreBusyError at once where another job holds it: two would read and encode the same items twice.
    """
    busy = (
        f"another job is indexing a catalog, vectors or the quarantine into {path.parent}; wait until it is done and "
        "run this again, or stop it: what it has encoded is kept. Live changes and searches go on meanwhile"
    )
    with _held(path, 0, busy):
        yield


@contextmanager
def _held(path: Path, wait_seconds: float, busy: str) -> Iterator[None]:
    lock = FileLock(path, timeout=wait_seconds)
    try:
        lock.acquire()
    except Timeout as error:
        raise StoreBusyError(busy) from error
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror}. Nothing was changed; put that right and run it again. "
            "Searches need no permission to write"
        ) from error
    try:
        yield
    finally:
        lock.release()
