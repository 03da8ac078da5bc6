"""Reads objects of stores, through fsspec. Only of those named here: fsspec opens much else, and the web unguarded."""

from collections.abc import Mapping
from typing import Any, Final

from mmrec.catalog.stamp import Reading, Stamp, stamp_of
from mmrec.catalog.storage import absolute, filesystem
from mmrec.errors import MediaError, UnreachableError, UsageError

__all__ = ["OBJECT_STORES", "check_scheme", "read_object", "stat_object"]

OBJECT_STORES: Final = ("s3", "s3a", "gs", "gcs", "memory", "hf")
"""The schemes of object stores; ``hf`` is where the pictures of a hub data set lie that are files of their own."""

_MARKS: Final = ("ETag", "etag", "VersionId", "generation", "LastModified", "updated", "mtime", "created")


def read_object(uri: str, max_bytes: int) -> Reading:
    """Return at most `max_bytes + 1` bytes of an object, and its stamp from before they were read.

    Raises MediaError where there is no such object or it may not be read, UnreachableError where the store does not
    answer.
    """
    try:
        store, path = _opened(uri)
        found = store.info(path)
        # An empty object has no range that could be asked for.
        data = store.cat_file(path, start=0, end=max_bytes + 1) if found["size"] else b""
    except (FileNotFoundError, IsADirectoryError) as error:
        raise MediaError("The object store has no such object.") from error
    except PermissionError as error:
        raise MediaError("The object store does not let it be read.") from error
    except MediaError:
        raise
    except Exception as error:
        raise UnreachableError(f"The object store did not give it ({type(error).__name__}).") from error
    return Reading(bytes(data), _stamp(found))


def stat_object(uri: str) -> Stamp | None:
    """Return the stamp of an object, or None where it cannot be had."""
    try:
        store, path = _opened(uri)
        return _stamp(store.info(path))
    except Exception:  # noqa: BLE001 - each store has errors of its own, and reading will tell
        return None


def check_scheme(uri: str) -> str:
    """Return the scheme of an object's address. Raises MediaError where fsspec may not be asked for it."""
    scheme = uri.partition("://")[0].lower()
    # fsspec would take `a::b` for an address inside another, of any kind.
    if scheme not in OBJECT_STORES or "::" in uri:
        known = ", ".join(f"{name}://" for name in ("http", "https", *OBJECT_STORES))
        raise MediaError(f"The address is of no kind that is read; give a path, or an address with one of {known}.")
    return scheme


def _opened(uri: str) -> tuple[Any, str]:
    check_scheme(uri)
    try:
        address = absolute(uri)
        store = filesystem(address)
    except UsageError as error:
        raise MediaError(str(error)) from error
    return store, str(store._strip_protocol(address))  # noqa: SLF001 - how fsspec itself reads an address


def _stamp(found: Mapping[str, Any]) -> Stamp:
    return stamp_of(int(found["size"]), *(str(found[mark]) for mark in _MARKS if found.get(mark)))
