"""Fetches one content from the web, guarded.

Only http and https, on a few ports, from public addresses (see `backend`), and never through a proxy that the
environment names. No cookie, password or other header of this machine is sent. Each redirect is checked as if the
catalog had named it. Size and time are bounded whatever the other side does (see `rules`).
"""

import ssl
from collections.abc import Callable, Collection, Mapping
from importlib import metadata
from typing import Final, Self, TypeVar

import httpcore
import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from mmrec.catalog.stamp import Reading, Stamp, stamp_of
from mmrec.catalog.web.backend import Endpoint, PublicBackend, Resolver, resolve
from mmrec.catalog.web.body import header, read_body
from mmrec.catalog.web.deadline import Deadline, held_to, in_seconds
from mmrec.catalog.web.hosts import Hosts, RestingError
from mmrec.catalog.web.rules import FetchRules
from mmrec.catalog.web.status import BusyError, check_status, redirected_to
from mmrec.catalog.web.url import checked_url, redirected_url
from mmrec.catalog.web.words import in_own_words
from mmrec.errors import MediaError, UnreachableError

__all__ = ["Fetcher"]

Taken = TypeVar("Taken")

_DEFAULT: Final = FetchRules()
_HEADERS: Final[dict[bytes | str, bytes | str]] = {
    "User-Agent": f"mmrec/{metadata.version('mmrec')}",
    "Accept": "*/*",
    "Accept-Encoding": "identity",
}


class Fetcher:
    """Fetches from the web. Safe to use from several threads; close it when done."""

    def __init__(
        self,
        rules: FetchRules = _DEFAULT,
        *,
        resolver: Resolver = resolve,
        loopback: Collection[Endpoint] = (),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        """Take the rules. The rest is for tests alone: no option, file or variable sets it.

        Args:
            rules: Bounds.
            resolver: What resolves names.
            loopback: Addresses and ports of this machine that may be fetched from although they are not public.
            tls: Which certificates are believed, in place of the public ones.

        """
        self.rules = rules
        self._ports = rules.ports | {port for _, port in loopback}
        self._timeouts = {
            "timeout": {
                "connect": rules.connect_seconds,
                "read": rules.silent_seconds,
                "write": rules.silent_seconds,
                "pool": rules.connect_seconds,
            }
        }
        self._hosts = Hosts(rules)
        self._backend = PublicBackend(resolver, loopback, rules.connections)
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls or httpcore.default_ssl_context(),
            max_connections=rules.connections,
            max_keepalive_connections=rules.connections,
            keepalive_expiry=10.0,
            network_backend=self._backend,
        )

    def fetch(self, url: str, max_bytes: int) -> Reading:
        """Return the bytes at a web address, with a stamp of their entity tag and time of change.

        Raises UnreachableError where another attempt, later, may have more luck; MediaError where it will not.
        """
        most = min(max_bytes, self.rules.max_bytes)
        start = self._checked(url)
        deadline = in_seconds(self.rules.total_seconds)

        def take(response: httpcore.Response) -> Reading:
            data = read_body(response, most)
            return Reading(data, _stamp(response, len(data)))

        try:
            reading = self._patiently(deadline)(self._once, "GET", start, take, deadline)
        except RestingError:
            raise
        except UnreachableError:
            self._hosts.failed(_host(start))
            raise
        self._hosts.succeeded(_host(start))
        return reading

    def stamp(self, url: str) -> Stamp | None:
        """Return the stamp of what is at a web address without fetching it, or None where it cannot be had."""
        deadline = in_seconds(self.rules.connect_seconds + self.rules.silent_seconds)
        try:
            return self._once("HEAD", self._checked(url), lambda answer: _stamp(answer, _announced(answer)), deadline)
        except MediaError:
            return None

    def close(self) -> None:
        """Close all connections."""
        self._pool.close()
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _checked(self, url: str) -> httpx.URL:
        return checked_url(url, self._ports)

    def _patiently(self, deadline: Deadline) -> Retrying:
        """Try again where the trouble may pass: later each time, not before a server says, and not too late."""
        rules = self.rules
        pause = rules.backoff_seconds
        backoff = wait_exponential(pause, rules.retry_after_seconds) + wait_random(0, pause)

        def wait(state: RetryCallState) -> float:
            return max(backoff(state), _asked_for(state))

        def stop(state: RetryCallState) -> bool:
            too_long = _asked_for(state) > rules.retry_after_seconds or state.upcoming_sleep >= deadline.left
            return state.attempt_number >= rules.attempts or too_long

        return Retrying(retry=retry_if_exception(_may_pass), stop=stop, wait=wait, reraise=True)

    def _once(
        self, method: str, url: httpx.URL, take: Callable[[httpcore.Response], Taken], deadline: Deadline
    ) -> Taken:
        """Ask once, and wherever the answers redirect to."""
        for _ in range(self.rules.redirects + 1):
            with (
                self._hosts.turn(_host(url), deadline),
                held_to(deadline),
                in_own_words(),
                self._pool.stream(method, _plain(url), headers=_headers(url), extensions=self._timeouts) as response,
            ):
                location = redirected_to(response)
                if location is None:
                    self._check_status(response, _host(url))
                    return take(response)
            url = redirected_url(url, location, self._ports)
        raise MediaError(f"The web address redirects more than {self.rules.redirects} times.")

    def _check_status(self, response: httpcore.Response, host: str) -> None:
        try:
            check_status(response)
        except BusyError as error:
            if error.seconds:
                self._hosts.pause(host, min(error.seconds, self.rules.retry_after_seconds))
            raise


def _host(url: httpx.URL) -> str:
    # As it is sent: httpx decodes `host`, and fails where that cannot be.
    return url.raw_host.decode("ascii")


def _headers(url: httpx.URL) -> Mapping[bytes | str, bytes | str]:
    return {"Host": url.netloc, **_HEADERS}


def _plain(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)


def _announced(response: httpcore.Response) -> int | None:
    length = header(response, "content-length")
    return int(length) if length.isascii() and length.isdecimal() and len(length) < 19 else None


def _stamp(response: httpcore.Response, size: int | None) -> Stamp:
    return stamp_of(size, header(response, "etag"), header(response, "last-modified"))


def _may_pass(error: BaseException) -> bool:
    return isinstance(error, UnreachableError) and not isinstance(error, RestingError)


def _asked_for(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.seconds if isinstance(error, BusyError) else 0.0
