"""How a command reads media: from where, and whether from the web."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmrec.errors import UsageError
from mmrec.sources.media_access import MediaAccess

__all__ = ["opened_media"]


@contextmanager
def opened_media(
    root: str | None, source: str | Path | None = None, *, allow_fetch: bool = False
) -> Iterator[MediaAccess]:
    """Read media below `root`, in the tables of `source`, and from the web where that is allowed.

    Connections are closed at the end. Raises UsageError where `root` is neither a folder nor a URL.
    """
    if root is not None and "://" not in root and not Path(root).is_dir():
        raise UsageError(f"--media-root: there is no folder {root!r}. Give one, or a URL such as s3://bucket/media.")
    with ExitStack() as open_connections:
        fetcher = None
        if allow_fetch:
            from mmrec.sources.fetch.fetcher import Fetcher  # noqa: PLC0415 - few commands reach for the web

            fetcher = open_connections.enter_context(Fetcher())
        yield MediaAccess(root=root, source=source, fetcher=fetcher)
