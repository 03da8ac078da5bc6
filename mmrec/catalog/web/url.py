"""Which web addresses are asked at all."""

from collections.abc import Collection
from typing import Final

import httpx

from mmrec.errors import MediaError

__all__ = ["checked_url", "redirected_url"]

_LONGEST: Final = 8192
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def checked_url(text: str, ports: Collection[int]) -> httpx.URL:
    """Take a web address apart, once: what is checked is what is asked. Raises MediaError where it is not allowed."""
    try:
        url = httpx.URL(text) if len(text) <= _LONGEST else None
    except (httpx.InvalidURL, ValueError) as error:
        raise MediaError("The web address is not well formed.") from error
    if url is None:
        raise MediaError(f"The web address is longer than {_LONGEST:,} characters.")
    return _allowed(url, ports)


def redirected_url(url: httpx.URL, location: str, ports: Collection[int]) -> httpx.URL:
    """Where a redirect leads, checked as if the catalog had named it. Raises MediaError where that is not allowed."""
    try:
        target = url.join(location) if len(location) <= _LONGEST else None
    except (httpx.InvalidURL, ValueError) as error:
        raise MediaError("The web address redirects to one that is not well formed.") from error
    if target is None:
        raise MediaError(f"The web address redirects to one longer than {_LONGEST:,} characters.")
    if url.scheme == "https" and target.scheme == "http":
        raise MediaError("The web address redirects from https to http, which anyone on the way can change.")
    return _allowed(target, ports)


def _allowed(url: httpx.URL, ports: Collection[int]) -> httpx.URL:
    if url.scheme not in _DEFAULT_PORTS:
        raise MediaError("The web address leads to something other than http and https.")
    if url.userinfo:
        raise MediaError("The web address holds a user name or a password; those are never sent.")
    if not url.raw_host or b"%" in url.raw_host:
        raise MediaError("The web address names a host that cannot be.")
    if (url.port or _DEFAULT_PORTS[url.scheme]) not in ports or url.port == 0:
        named = ", ".join(str(port) for port in sorted(ports))
        raise MediaError(f"The web address names port {url.port}; allowed are {named}.")
    return url
