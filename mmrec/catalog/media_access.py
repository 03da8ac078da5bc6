"""The one way in which the job, queries and pages reach the bytes of media, wherever they lie."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote

from mmrec.catalog.limits import Limits
from mmrec.catalog.local_files import check_is_table, confined, is_outside, read_file, stat_file
from mmrec.catalog.locations import is_in_table, read_from_table, stat_in_table
from mmrec.catalog.objects import check_scheme, read_object, stat_object
from mmrec.catalog.stamp import Reading, Stamp
from mmrec.errors import MediaError, UnreachableError
from mmrec.items import Field

if TYPE_CHECKING:
    import mmrec.catalog.web.fetcher

__all__ = ["MediaAccess"]

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
    fetcher: "mmrec.catalog.web.fetcher.Fetcher | None" = None

    def workers(self, decoding: int) -> int:
        """How many threads read, where `decoding` of them keep the processor busy: more where they wait for the web."""
        return decoding if self.fetcher is None else max(decoding, self.fetcher.rules.connections)

    def stat(self, uri: str) -> Stamp | None:
        """Return what tells whether the bytes at a URI are still those that were read, or None where nothing does."""
        if is_in_table(uri):
            return stat_in_table(uri)
        try:
            scheme, path = _taken_apart(uri)
            if scheme in _WEB:
                return self.fetcher.stamp(uri) if self.fetcher else None
            if scheme:
                return stat_object(self._check_inside(uri))
            return stat_file(path, self._folder())
        except MediaError:
            return None

    def read(self, content: Field | str) -> bytes:
        """Return the raw bytes of a field, or of what a URI names; text gives its UTF-8. Raises as `take`."""
        return self.take(content).data

    def take(self, content: Field | str) -> Reading:
        """Return raw bytes, and the stamp they had when they were read where they lie on their own.

        A URI is a path, a ``file://``, ``s3://``, ``gs://`` or web address, or the address of bytes inside a table.
        Raises MediaError where the bytes cannot be had, may not be, or are more than `limits` allows;
        UnreachableError where another time may have more luck.
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
        scheme, path = _taken_apart(uri)
        if scheme in _WEB:
            if self.fetcher is None:
                raise UnreachableError(_NOT_FETCHED)
            return self.fetcher.fetch(uri, self.limits.max_bytes)
        if scheme:
            return read_object(self._check_inside(uri), self.limits.max_bytes)
        return read_file(path, self.limits.max_bytes, self._folder())

    def _in_table(self, uri: str) -> Reading:
        table = uri.rpartition("#")[0]
        scheme, path = _taken_apart(table)
        is_free = self.root is None or self._is_of_source(table)
        if scheme:
            check_scheme(table)
        if scheme or table.startswith("hf:"):
            self._check_inside(table, is_free=is_free)
        else:
            check_is_table(confined(path, None if is_free else self._folder()))
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

    def _folder(self) -> Path | None:
        """The folder that files have to be in. Raises MediaError where they may be in none."""
        if self.root is None:
            return None
        if _SCHEME.match(str(self.root)):
            raise MediaError(_OUTSIDE)
        return Path(self.root)

    def _check_inside(self, uri: str, *, is_free: bool = False) -> str:
        """Return the address of an object. Raises MediaError where there is a root and it is not below it."""
        if self.root is None or is_free:
            return uri
        root = f"{str(self.root).rstrip('/')}/"
        if not _SCHEME.match(root) or not uri.startswith(root) or {"..", "."} & set(unquote(uri).split("/")):
            raise MediaError(_OUTSIDE)
        return uri


def _taken_apart(uri: str) -> tuple[str, str]:
    """The scheme of a URI, empty for a file, and the path of that file."""
    match = _SCHEME.match(uri)
    scheme = match[1].lower() if match else ""
    if match is None or scheme != "file":
        return scheme, uri
    host, slash, path = uri[match.end() :].partition("/")
    if host not in {"", "localhost"} or not slash:
        raise MediaError("The file address names another machine; give file:///path.")
    return "", unquote(f"/{path}", errors="surrogateescape")
