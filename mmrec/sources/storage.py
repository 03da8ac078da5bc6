"""Open local files and objects of stores (fsspec); stamps by which unchanged files are known without reading them."""

import hashlib
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

import fsspec

from mmrec.errors import UsageError

SCHEMES: Final = ("s3", "gs", "memory", "file")
"""Schemes of the addresses that sources may have, beside plain paths."""

_ALIASES: Final = {"s3a": "s3", "gcs": "gs"}
_EXTRAS: Final = {"s3": ("s3fs", "s3"), "gs": ("gcsfs", "gcs")}
_SCHEME: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://", re.ASCII)
_BLOCK: Final = 4 * 1024 * 1024


def is_remote(address: str) -> bool:
    """Whether an address lies in an object store rather than on this machine."""
    return _SCHEME.match(address) is not None


def absolute(address: str | Path) -> str:
    """Return a path made absolute, or a URL in its plain form. Raises UsageError if its scheme is not allowed."""
    match = _SCHEME.match(str(address))
    if match is None:
        return str(Path(address).absolute())
    scheme = _ALIASES.get(match[1].lower(), match[1].lower())
    rest = str(address)[match.end() :]
    if scheme == "file":
        return str(Path(unquote(rest.removeprefix("localhost"))).absolute())
    _check(scheme, str(address))
    return f"{scheme}://{rest.strip('/')}"


def configure(options: Mapping[str, Mapping[str, object]]) -> None:
    """Set options of object stores for this process, by scheme, as in ``{"s3": {"endpoint_url": "http://..."}}``.

    Raises UsageError for another scheme than s3 and gs.
    """
    for scheme, values in options.items():
        if scheme not in _EXTRAS:
            raise UsageError(f"There are no storage options for {scheme!r}; allowed are {', '.join(_EXTRAS)}.")
        # Each package knows its scheme by two names and looks under both.
        fsspec.config.conf.setdefault({"gs": "gcs"}.get(scheme, scheme), {}).update(values)


def filesystem(address: str) -> Any:  # noqa: ANN401 - fsspec has no types
    """Return the fsspec filesystem that an absolute address lies in.

    Raises UsageError if its package is missing, or its scheme is not allowed: fsspec would read the web unguarded.
    """
    match = _SCHEME.match(address)
    if match is None:
        return fsspec.filesystem("file")
    scheme = match[1]
    _check(scheme, address)
    package, extra = _EXTRAS.get(scheme, ("", ""))
    # A listing that is kept would hide what was added since, and grows with the catalog.
    options = {"use_listings_cache": False} if package else {}
    try:
        return fsspec.filesystem(scheme, **options)
    except ImportError as error:
        raise UsageError(
            f"{scheme}:// needs the package {package}: install it with pip install 'mmrec[{extra}]'."
        ) from error


def open_file(address: str, *, ahead: bool = True) -> BufferedIOBase:
    """Open an absolute address to read bytes, buffered; `ahead` for sequential reading, else for random access."""
    if not is_remote(address):
        return open(address, "rb")  # noqa: PTH123 - the caller's to close
    system = filesystem(address)
    if address.startswith("memory://"):
        return io.BytesIO(system.cat_file(address))  # its files share one position among all who open them
    cache = "readahead" if ahead else "none"
    file = system.open(address, "rb", block_size=_BLOCK, cache_type=cache)
    return io.BufferedReader(file, _BLOCK if ahead else 64 * 1024)


@contextmanager
def as_usage_error(address: str) -> Iterator[None]:
    """Raise UsageError, with the address, for whatever error an object store makes its library raise."""
    try:
        yield
    except UsageError:
        raise
    except Exception as error:
        if not is_remote(address):
            raise
        raise UsageError(
            f"{address} cannot be read: {first_line(error)}. Check the address, the credentials and the endpoint."
        ) from error


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, short and without a full stop."""
    return (str(error).splitlines() or [""])[0][:160].rstrip(". ") or type(error).__name__


def _check(scheme: str, address: str) -> None:
    if scheme.lower() in {"http", "https"}:
        raise UsageError(
            f"{address} is a web address; a source is read from {_allowed()}. Download it, or name a hub data set as "
            "hf:OWNER/NAME."
        )
    if scheme not in {*SCHEMES, "hf"}:
        raise UsageError(f"{address} has the scheme {scheme}://; a source is read from {_allowed()}.")


def _allowed() -> str:
    return f"a path, or {', '.join(f'{scheme}://' for scheme in SCHEMES)}"


@dataclass(frozen=True, slots=True)
class Stamp:
    """Size in bytes and change marker of bytes that lie somewhere, as far as they are known.

    The marker is nanoseconds since 1970 for a file; elsewhere a number made of entity tag and time of change.
    """

    size: int | None
    changed: int | None

    def is_of(self, size: int | None, changed: int | None) -> bool:
        """Whether bytes of this stamp are those that were once read with such a size and such a change."""
        return self.changed is not None and self.changed == changed and self.size in {None, size}


@dataclass(frozen=True, slots=True)
class Reading:
    """Bytes, and the stamp they had when they were read; None if they have none of their own."""

    data: bytes
    stamp: Stamp | None


def stamp_of(size: int | None, *marks: str) -> Stamp:
    """Make a stamp from texts that change when the bytes do; without any, it equals no other."""
    if not any(marks):
        return Stamp(size, None)
    digest = hashlib.blake2b("\0".join(marks).encode("utf-8", "surrogateescape"), digest_size=8).digest()
    return Stamp(size, int.from_bytes(digest, "big") >> 1)
