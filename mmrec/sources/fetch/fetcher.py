"""Fetch one content over HTTP: redirects, retries, status and body within limits."""

import io
import ssl
import zlib
from collections.abc import Callable, Collection
from contextlib import closing
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import Final, Self, TypeVar

import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from mmrec.errors import MediaError, UnreachableError
from mmrec.sources.fetch.guard import (
    Deadline,
    Endpoint,
    GuardedTransport,
    PublicBackend,
    Resolver,
    checked_url,
    redirected_url,
    resolve,
    with_deadline,
    wrap_http_errors,
)
from mmrec.sources.fetch.hosts import CircuitOpenError, FetchRules, Hosts
from mmrec.sources.storage import Reading, Stamp, stamp_of

_GZIP: Final = 16 + zlib.MAX_WBITS


def read_body(response: httpx.Response, max_bytes: int) -> bytes:
    """Read an answer's body. Raises MediaError if it is larger than allowed, packed oddly or damaged.

    httpx raises RemoteProtocolError if the body ends before the length that was announced.
    """
    too_large = MediaError(f"The content from the web is larger than the limit of {max_bytes:,} bytes.")
    damaged = MediaError("The content from the web is damaged.")
    if (_announced(response) or 0) > max_bytes:
        raise too_large
    coding = response.headers.get("content-encoding", "").strip().lower()
    if coding not in {"", "identity", "gzip", "x-gzip"}:
        raise MediaError("The web server packed the content in a way that was not requested.")
    unpack = zlib.decompressobj(_GZIP) if coding.endswith("gzip") else None
    out = io.BytesIO()
    sent = 0
    for piece in response.iter_raw():
        sent += len(piece)
        try:
            out.write(piece if unpack is None else unpack.decompress(piece, max_bytes - out.tell() + 1))
        except zlib.error as error:
            raise damaged from error
        if max(sent, out.tell()) > max_bytes:
            raise too_large
    if unpack is not None and sent and (not unpack.eof or unpack.unused_data):
        raise damaged
    return out.getvalue()


_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_RETRYABLE_STATUS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_WORDS: Final = {401: "wants a password", 403: "forbids it", 404: "has no such content", 410: "has it no more"}


class BusyError(UnreachableError):
    """A server cannot answer for now; `seconds` is its Retry-After, 0 if it gives none."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def check_status(response: httpx.Response) -> None:
    """Raise MediaError if an answer holds no content, BusyError if it may hold one later."""
    status = response.status_code
    if status == 200:
        return
    if status in _RETRYABLE_STATUS:
        raise BusyError(f"The web server cannot answer now (status {status}).", _retry_after(response))
    raise MediaError(f"The web server {_WORDS.get(status, 'does not give it')} (status {status}).")


def _retry_after(response: httpx.Response) -> float:
    """Seconds that a server asks to be left alone: given as they are, or as a date."""
    value = response.headers.get("retry-after", "").strip()
    if value.isdecimal():
        return float(value[:9])
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


Taken = TypeVar("Taken")

_DEFAULT: Final = FetchRules()
_HEADERS: Final = {
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

        `resolver` resolves names, `loopback` are endpoints of this machine that may be fetched from, and `tls` says
        which certificates are believed.
        """
        self.rules = rules
        self._ports = rules.ports | {port for _, port in loopback}
        patience = httpx.Timeout(rules.silent_seconds, connect=rules.connect_seconds, pool=rules.connect_seconds)
        self._timeouts = {"timeout": patience.as_dict()}
        self._hosts = Hosts(rules)
        self._backend = PublicBackend(resolver, loopback, rules.connections)
        self._transport = GuardedTransport(
            self._backend, tls or httpx.create_ssl_context(trust_env=False), rules.connections
        )

    def fetch(self, url: str, max_bytes: int) -> Reading:
        """Return the bytes at a web address, with a stamp of their entity tag and time of change.

        Raises UnreachableError if another attempt, later, may have more luck; MediaError if it will not.
        """
        most = min(max_bytes, self.rules.max_bytes)
        start = checked_url(url, self._ports)
        deadline = Deadline.after(self.rules.total_seconds)

        def take(response: httpx.Response) -> Reading:
            data = read_body(response, most)
            return Reading(data, _stamp(response, len(data)))

        try:
            reading = self._retrying(deadline)(self._once, "GET", start, take, deadline)
        except CircuitOpenError:
            raise
        except UnreachableError:
            self._hosts.failed(_host(start))
            raise
        self._hosts.succeeded(_host(start))
        return reading

    def stamp(self, url: str) -> Stamp | None:
        """Return the stamp of what is at a web address without fetching it, or None if it cannot be had."""
        deadline = Deadline.after(self.rules.connect_seconds + self.rules.silent_seconds)
        try:
            return self._once(
                "HEAD", checked_url(url, self._ports), lambda answer: _stamp(answer, _announced(answer)), deadline
            )
        except MediaError:
            return None

    def close(self) -> None:
        """Close all connections."""
        self._transport.close()
        self._backend.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _retrying(self, deadline: Deadline) -> Retrying:
        """Retry temporary failures with exponential backoff and Retry-After, until attempts or time run out."""
        rules = self.rules
        pause = rules.backoff_seconds
        backoff = wait_exponential(pause, rules.retry_after_seconds) + wait_random(0, pause)

        def wait(state: RetryCallState) -> float:
            return max(backoff(state), _retry_after_of(state))

        def stop(state: RetryCallState) -> bool:
            too_long = _retry_after_of(state) > rules.retry_after_seconds or state.upcoming_sleep >= deadline.left
            return state.attempt_number >= rules.attempts or too_long

        def is_temporary(error: BaseException) -> bool:
            return isinstance(error, UnreachableError) and not isinstance(error, CircuitOpenError)

        return Retrying(retry=retry_if_exception(is_temporary), stop=stop, wait=wait, reraise=True)

    def _once(self, method: str, url: httpx.URL, take: Callable[[httpx.Response], Taken], deadline: Deadline) -> Taken:
        """Request once, and wherever the answers redirect to."""
        for _ in range(self.rules.redirects + 1):
            with (
                self._hosts.slot(_host(url), deadline),
                with_deadline(deadline),
                wrap_http_errors(),
                closing(self._request(method, url)) as response,
            ):
                location = response.headers.get("location") if response.status_code in _REDIRECTS else None
                if not location:
                    try:
                        check_status(response)
                    except BusyError as error:
                        self._hosts.pause(_host(url), min(error.seconds, self.rules.retry_after_seconds))
                        raise
                    return take(response)
            url = redirected_url(url, location, self._ports)
        raise MediaError(f"The web address redirects more than {self.rules.redirects} times.")

    def _request(self, method: str, url: httpx.URL) -> httpx.Response:
        # The transport itself: a client would keep cookies, and look where redirects lead. The host is given as it is
        # sent: httpx would decode it, and fail where that cannot be.
        headers = {"Host": url.netloc.decode("ascii"), **_HEADERS}
        return self._transport.handle_request(httpx.Request(method, url, headers=headers, extensions=self._timeouts))


def _host(url: httpx.URL) -> str:
    # As it is sent: httpx decodes `host`, and fails where that cannot be.
    return url.raw_host.decode("ascii")


def _announced(response: httpx.Response) -> int | None:
    length = response.headers.get("content-length", "").strip()
    return int(length[:19]) if length.isascii() and length.isdecimal() else None


def _stamp(response: httpx.Response, size: int | None) -> Stamp:
    return stamp_of(size, *(response.headers.get(name, "").strip() for name in ("etag", "last-modified")))


def _retry_after_of(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.seconds if isinstance(error, BusyError) else 0.0
