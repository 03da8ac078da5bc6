"""Fetch one content over HTTP: redirects, retries, status and body within limits."""

import io
import ssl
import zlib
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from importlib import metadata
from typing import Final, Self, TypeVar

import httpcore
import httpx
from tenacity import RetryCallState, Retrying, retry_if_exception, wait_exponential, wait_random

from mmrec.errors import MediaError, UnreachableError
from mmrec.sources.fetch.guard import (
    Deadline,
    Endpoint,
    PublicBackend,
    Resolver,
    checked_url,
    held_to,
    in_own_words,
    in_seconds,
    redirected_url,
    resolve,
)
from mmrec.sources.fetch.hosts import CircuitOpenError, FetchRules, Hosts
from mmrec.sources.storage import Reading, Stamp, stamp_of

_GZIP: Final = 16 + zlib.MAX_WBITS


def header(response: httpcore.Response, name: str) -> str:
    """The value of a header, or an empty text. Several of one name are joined as HTTP says."""
    values = [value for key, value in response.headers if key.lower() == name.encode()]
    joined = b", ".join(values).strip()
    try:
        return joined.decode()
    except UnicodeDecodeError:
        return joined.decode("latin-1")


def read_body(response: httpcore.Response, max_bytes: int) -> bytes:
    """Read an answer's body. Raises MediaError where it is larger than allowed, packed oddly or damaged.

    httpcore raises RemoteProtocolError where the body ends before the length that was announced.
    """
    announced = header(response, "content-length")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    coding = header(response, "content-encoding").lower()
    if coding not in {"", "identity", "gzip", "x-gzip"}:
        raise MediaError("The web server packed the content in a way that it was not asked for.")
    unpack = zlib.decompressobj(_GZIP) if coding.endswith("gzip") else None
    out = io.BytesIO()
    sent = 0
    for piece in response.iter_stream():
        sent += len(piece)
        room = max_bytes - out.tell()
        out.write(piece if unpack is None else _unpacked(unpack, piece, room + 1))
        if max(sent, out.tell()) > max_bytes:
            raise _too_large(max_bytes)
    if unpack is not None and sent and (not unpack.eof or unpack.unused_data):
        raise MediaError("The content from the web is damaged.")
    return out.getvalue()


def _unpacked(unpack: "zlib._Decompress", piece: bytes, most: int) -> bytes:
    try:
        return unpack.decompress(piece, most)
    except zlib.error as error:
        raise MediaError("The content from the web is damaged.") from error


def _too_large(max_bytes: int) -> MediaError:
    return MediaError(f"The content from the web is larger than the limit of {max_bytes:,} bytes.")


_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_MAY_PASS: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
_WORDS: Final = {401: "wants a password", 403: "forbids it", 404: "has no such content", 410: "has it no more"}


class BusyError(UnreachableError):
    """A server asks for patience: for `seconds`, where it says for how long."""

    def __init__(self, message: str, seconds: float) -> None:
        super().__init__(message)
        self.seconds = seconds


def redirected_to(response: httpcore.Response) -> str | None:
    """Where an answer sends the asker, if it does."""
    return header(response, "location") or None if response.status in _REDIRECTS else None


def check_status(response: httpcore.Response) -> None:
    """Raise MediaError where an answer holds no content, BusyError where it may hold one later."""
    status = response.status
    if status == 200:
        return
    if status in _MAY_PASS:
        raise BusyError(f"The web server cannot answer now (status {status}).", _patience(response))
    raise MediaError(f"The web server {_WORDS.get(status, 'does not give it')} (status {status}).")


def _patience(response: httpcore.Response) -> float:
    """Seconds that a server asks to be left alone: given as they are, or as a date."""
    asked = header(response, "retry-after")
    if asked.isdecimal():
        return float(asked[:9])
    try:
        moment = parsedate_to_datetime(asked)
    except (ValueError, OverflowError):
        return 0.0
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())


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
        except CircuitOpenError:
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
    return isinstance(error, UnreachableError) and not isinstance(error, CircuitOpenError)


def _asked_for(state: RetryCallState) -> float:
    error = state.outcome.exception() if state.outcome else None
    return error.seconds if isinstance(error, BusyError) else 0.0
