"""Read media bytes from local files, object stores, tables, archives and web addresses; hashes of contents."""

import errno
import hashlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError, UnreachableError, UsageError
from mmrec.sources.locations import is_in_table, read_from_table, stat_in_table
from mmrec.sources.storage import Reading, Stamp, absolute, filesystem, stamp_of
from mmrec.types import Field

# A pipe would block and a device never end: without O_NONBLOCK the open itself would wait for a pipe's writer.
_READ: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY
# A network disk that is away, and a machine that is out of something.
_RETRYABLE: Final = frozenset(
    {
        *(errno.EIO, errno.ESTALE, errno.ETIMEDOUT, errno.EHOSTDOWN, errno.EHOSTUNREACH, errno.ENOTCONN),
        *(errno.EMFILE, errno.ENFILE, errno.ENOMEM),
    }
)
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def read_file(path: str, max_bytes: int, root: Path | None = None) -> Reading:
    """Return at most `max_bytes + 1` bytes of a file, and its stamp from before they were read.

    Raises MediaError if it is not a regular file that can be read, or lies outside `root`; UnreachableError for
    temporary errors (a network file system, out of memory or file handles).
    """
    try:
        with open(path, "rb", opener=lambda name, _: _opened_file(name, root)) as file:
            status = os.fstat(file.fileno())
            return Reading(file.read(max_bytes + 1), Stamp(status.st_size, status.st_mtime_ns))
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "not a valid path"
        kind = UnreachableError if getattr(error, "errno", None) in _RETRYABLE else MediaError
        raise kind(f"The file cannot be read: {reason}.") from error


def stat_file(path: str, root: Path | None = None) -> Stamp | None:
    """Return the stamp of a regular file, or None if there is none inside `root`."""
    try:
        status = Path(confined(path, root)).stat()
    except (MediaError, OSError, ValueError):
        return None
    return Stamp(status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def confined(path: str, root: Path | None) -> str:
    """Resolve a path's symbolic links. Raises MediaError if that leads outside `root`, whether it exists or not.

    Without a root a path is returned as it is.
    """
    if root is None:
        return path
    if is_outside(path, root):
        raise MediaError("The file lies outside --media-root, and is not read.")
    return _resolved(path)


def is_outside(path: str, root: Path) -> bool:
    """Whether a path leads outside a folder, once symbolic links are resolved. Raises MediaError if it is none."""
    return not Path(_resolved(path)).is_relative_to(_resolved(root))


def _resolved(path: str | Path) -> str:
    try:
        return os.path.realpath(path)
    except ValueError as error:
        raise MediaError("The file cannot be read: not a valid path.") from error


def check_is_table(path: str) -> None:
    """Raise MediaError if a path is neither a file nor a folder, in which alone a table can be."""
    try:
        kind = Path(path).stat().st_mode
    except (OSError, ValueError) as error:
        raise MediaError("The table cannot be read: there is none of that name.") from error
    if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):
        raise MediaError("The table cannot be read: not a regular file.")


def _opened_file(path: str, root: Path | None) -> int:
    descriptor = os.open(path, _READ) if root is None else _open_inside(path, root)
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(0, "not a regular file")
    return descriptor


def _open_inside(path: str, root: Path) -> int:
    """Open what a path leads to, folder by folder from the root on.

    No link is followed on that way: whoever swaps a folder or the file for a link, after the links were resolved,
    gains an error.
    """
    resolved_root = _resolved(root)
    names = Path(confined(path, root)).relative_to(resolved_root).parts
    folder = os.open(resolved_root, _DIRECTORY)
    try:
        for name in names[:-1]:
            below = os.open(name, _DIRECTORY, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(names[-1] if names else ".", _READ | os.O_NOFOLLOW, dir_fd=folder)
    finally:
        os.close(folder)


OBJECT_STORES: Final = ("s3", "s3a", "gs", "gcs", "memory", "hf")
"""The schemes of object stores; ``hf`` is where the images of a hub data set lie that are files of their own."""

_MARKS: Final = ("ETag", "etag", "VersionId", "generation", "LastModified", "updated", "mtime", "created")


def read_object(uri: str, max_bytes: int) -> Reading:
    """Return at most `max_bytes + 1` bytes of an object, and its stamp from before they were read.

    Raises MediaError if there is no such object or it may not be read, UnreachableError if the store does not
    answer.
    """
    try:
        store, path = _opened_object(uri)
        found = store.info(path)
        # An empty object has no range to request.
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
    """Return the stamp of an object, or None if it cannot be had."""
    try:
        store, path = _opened_object(uri)
        return _stamp(store.info(path))
    except Exception:  # noqa: BLE001 - each store has errors of its own, and reading will tell
        return None


def check_scheme(uri: str) -> str:
    """Return the scheme of an object's address. Raises MediaError for a scheme that fsspec may not open."""
    scheme = uri.partition("://")[0].lower()
    # fsspec would take `a::b` for an address inside another, of any kind.
    if scheme not in OBJECT_STORES or "::" in uri:
        known = ", ".join(f"{name}://" for name in ("http", "https", *OBJECT_STORES))
        raise MediaError(f"The address is of no kind that is read; give a path, or an address with one of {known}.")
    return scheme


def _opened_object(uri: str) -> tuple[Any, str]:
    check_scheme(uri)
    try:
        address = absolute(uri)
        store = filesystem(address)
    except UsageError as error:
        raise MediaError(str(error)) from error
    return store, str(store._strip_protocol(address))  # noqa: SLF001 - how fsspec itself reads an address


def _stamp(found: Mapping[str, Any]) -> Stamp:
    return stamp_of(int(found["size"]), *(str(found[mark]) for mark in _MARKS if found.get(mark)))


if TYPE_CHECKING:
    import mmrec.sources.fetch.fetcher


_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*)://", re.ASCII | re.IGNORECASE)
_WEB: Final = frozenset({"http", "https"})
_OUTSIDE: Final = "It lies outside --media-root, and is not read."
_NOT_FETCHED: Final = "It is a web address; those are fetched only with --allow-fetch."


@dataclass(frozen=True, slots=True)
class MediaAccess:
    """Reads media: files, bytes in tables, objects of a store and, with a fetcher, what is on the web.

    Attributes:
        limits: Bounds on one content.
        root: A folder, or a URL such as ``s3://bucket/media``; files and objects outside it are not read. None: no
            bounds. Symbolic links are resolved first.
        source: The catalog itself; bytes inside its tables are read wherever it lies.
        fetcher: What fetches from the web; None: nothing is fetched.

    """

    limits: Limits = field(default_factory=Limits)
    root: str | Path | None = None
    source: str | Path | None = None
    fetcher: "mmrec.sources.fetch.fetcher.Fetcher | None" = None

    def workers(self, decoding: int) -> int:
        """How many threads read, where `decoding` of them keep the processor busy: more where they wait for the web."""
        return decoding if self.fetcher is None else max(decoding, self.fetcher.rules.connections)

    def stat(self, uri: str) -> Stamp | None:
        """Return the stamp (size and change marker) of the bytes at a URI; None if there is none."""
        if is_in_table(uri):
            return stat_in_table(uri)
        try:
            scheme, path = _scheme_and_path(uri)
            if scheme in _WEB:
                return self.fetcher.stamp(uri) if self.fetcher else None
            if scheme:
                return stat_object(self._check_inside(uri))
            return stat_file(path, self._local_root())
        except MediaError:
            return None

    def read(self, content: Field | str) -> bytes:
        """Return the raw bytes of a field, or of what a URI names; text gives its UTF-8. Raises as `take`."""
        return self.take(content).data

    def take(self, content: Field | str) -> Reading:
        """Return raw bytes and their stamp, which is None for bytes without a file or object of their own.

        A URI is a path, a ``file://``, ``s3://``, ``gs://`` or web address, or the address of bytes inside a table.
        Raises MediaError if the bytes cannot be had, may not be, or are more than `limits` allows;
        UnreachableError if another time may have more luck.
        """
        if isinstance(content, str):
            reading = self._at(content)
        elif content.text is not None:
            reading = Reading(content.text.encode("utf-8", "replace"), None)
        elif content.data is not None:
            reading = Reading(content.data, None)
        else:
            reading = self._at(content.uri or "")
        if len(reading.data) > self.limits.max_bytes:
            raise MediaError(f"The content is larger than the limit of {self.limits.max_bytes:,} bytes.")
        return reading

    def _at(self, uri: str) -> Reading:
        if is_in_table(uri):
            return self._in_table(uri)
        scheme, path = _scheme_and_path(uri)
        if scheme in _WEB:
            if self.fetcher is None:
                raise UnreachableError(_NOT_FETCHED)
            return self.fetcher.fetch(uri, self.limits.max_bytes)
        if scheme:
            return read_object(self._check_inside(uri), self.limits.max_bytes)
        return read_file(path, self.limits.max_bytes, self._local_root())

    def _in_table(self, uri: str) -> Reading:
        table = uri.rpartition("#")[0]
        scheme, path = _scheme_and_path(table)
        is_exempt = self.root is None or self._is_of_source(table)
        if scheme:
            check_scheme(table)
        if scheme or table.startswith("hf:"):
            self._check_inside(table, is_exempt=is_exempt)
        else:
            check_is_table(confined(path, None if is_exempt else self._local_root()))
        stamp = stat_in_table(uri)
        return Reading(read_from_table(uri, self.limits.max_bytes), stamp)

    def _is_of_source(self, table: str) -> bool:
        """Whether a table is the catalog, or one of its parts."""
        if self.source is None:
            return False
        source = str(self.source)
        if _SCHEME.match(source) or _SCHEME.match(table) or source.startswith("hf:"):
            is_part = table.startswith(f"{source.rstrip('/')}/") and ".." not in table.split("/")
            return table == source or is_part
        return not is_outside(table, Path(source))

    def _local_root(self) -> Path | None:
        """The folder that local files must be in; None for no bounds. Raises MediaError if the root is a URL."""
        if self.root is None:
            return None
        if _SCHEME.match(str(self.root)):
            raise MediaError(_OUTSIDE)
        return Path(self.root)

    def _check_inside(self, uri: str, *, is_exempt: bool = False) -> str:
        """Return the address of an object. Raises MediaError if there is a root and it is not below it."""
        if self.root is None or is_exempt:
            return uri
        root = f"{str(self.root).rstrip('/')}/"
        if not _SCHEME.match(root) or not uri.startswith(root) or {"..", "."} & set(unquote(uri).split("/")):
            raise MediaError(_OUTSIDE)
        return uri


def _scheme_and_path(uri: str) -> tuple[str, str]:
    """The scheme of a URI, empty for a file, and the path of that file."""
    match = _SCHEME.match(uri)
    scheme = match[1].lower() if match else ""
    if match is None or scheme != "file":
        return scheme, uri
    host, slash, path = uri[match.end() :].partition("/")
    if host not in {"", "localhost"} or not slash:
        raise MediaError("The file address names another machine; give file:///path.")
    return "", unquote(f"/{path}", errors="surrogateescape")


def content_hash(data: bytes) -> bytes:
    """Return the 16-byte BLAKE2b digest of one field's raw bytes."""
    return hashlib.blake2b(data, digest_size=16).digest()


@contextmanager
def opened_media(
    root: str | None, source: str | Path | None = None, *, allow_fetch: bool = False
) -> Iterator[MediaAccess]:
    """Read media below `root`, in the tables of `source`, and from the web where that is allowed.

    Connections are closed at the end. Raises UsageError if `root` is neither a folder nor a URL.
    """
    if root is not None and "://" not in root and not Path(root).is_dir():
        raise UsageError(f"--media-root: there is no folder {root!r}. Give one, or a URL such as s3://bucket/media.")
    with ExitStack() as open_connections:
        fetcher = None
        if allow_fetch:
            from mmrec.sources.fetch.fetcher import Fetcher  # noqa: PLC0415 - few jobs reach for the web

            fetcher = open_connections.enter_context(Fetcher())
        yield MediaAccess(root=root, source=source, fetcher=fetcher)
