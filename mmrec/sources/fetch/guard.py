"""Guarded HTTP connections: public addresses alone, checked after name resolution, under a deadline."""

import socket
import ssl
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, Self, TypeAlias

import httpcore
import httpx

from mmrec.errors import MediaError, UnreachableError

# The registries of special addresses (RFC 6890 and its updates), so that no version of Python decides; and
# 168.63.129.16, which is public in name but answers each machine of a cloud with that machine's own secrets.
_SPECIAL_V4: Final = tuple(
    IPv4Network(network)
    for network in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
    )
)

# All of IPv6 that is given out is in 2000::/3. Teredo (2001::/32) and 6to4 (2002::/16) carry an IPv4 address inside,
# and no server of today lives there.
_GIVEN_OUT_V6: Final = IPv6Network("2000::/3")
_SPECIAL_V6: Final = tuple(IPv6Network(network) for network in ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"))
_NAT64: Final = IPv6Network("64:ff9b::/96")
_ISATAP: Final = (0x00005EFE, 0x02005EFE)


def is_public(address: str) -> bool:
    """Whether an address in digits belongs to the public internet. IPv6 forms of IPv4 are judged as that."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return _is_public_v4(parsed) if isinstance(parsed, IPv4Address) else _is_public_v6(parsed)


def _is_public_v4(address: IPv4Address) -> bool:
    return address.is_global and not address.is_multicast and not any(address in network for network in _SPECIAL_V4)


def _is_public_v6(address: IPv6Address) -> bool:
    if address.scope_id is not None:
        return False
    if address.ipv4_mapped is not None:
        return _is_public_v4(address.ipv4_mapped)
    if address in _NAT64:
        return _is_public_v4(IPv4Address(int(address) & 0xFFFFFFFF))
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return False
    given_out = address in _GIVEN_OUT_V6 and address.is_global and not address.is_multicast
    return given_out and not any(address in network for network in _SPECIAL_V6)


_LONGEST: Final = 8192
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


def checked_url(text: str, ports: Collection[int]) -> httpx.URL:
    """Parse a web address once: the parsed URL is the one requested. Raises MediaError if it is not allowed."""
    return _allowed(_url(text, httpx.URL, "is"), ports)


def redirected_url(url: httpx.URL, location: str, ports: Collection[int]) -> httpx.URL:
    """Where a redirect leads, checked as if the catalog had named it. Raises MediaError if that is not allowed."""
    target = _url(location, url.join, "redirects to one that is")
    if url.scheme == "https" and target.scheme == "http":
        raise MediaError("The web address redirects from https to http, which can be changed in transit.")
    return _allowed(target, ports)


def _url(text: str, parse: Callable[[str], httpx.URL], verb: str) -> httpx.URL:
    if len(text) > _LONGEST:
        raise MediaError(f"The web address {verb} longer than {_LONGEST:,} characters.")
    try:
        return parse(text)
    except (httpx.InvalidURL, ValueError) as error:
        raise MediaError(f"The web address {verb} not well formed.") from error


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


@dataclass(frozen=True, slots=True)
class Deadline:
    """A moment of the monotonic clock."""

    moment: float

    @classmethod
    def after(cls, seconds: float) -> Self:
        """The moment so many seconds from now."""
        return cls(time.monotonic() + seconds)

    @property
    def left(self) -> float:
        """Seconds until then, 0 once it has passed."""
        return max(0.0, self.moment - time.monotonic())


_current: ContextVar[Deadline | None] = ContextVar("mmrec_deadline", default=None)


@contextmanager
def with_deadline(deadline: Deadline) -> Iterator[None]:
    """Hold all that this thread does on connections to a deadline, whichever connection it is given."""
    token = _current.set(deadline)
    try:
        yield
    finally:
        _current.reset(token)


Resolver: TypeAlias = Callable[[str, int], Sequence[str]]
"""From a name and a port to addresses in digits. Raises OSError."""

Endpoint: TypeAlias = tuple[str, int]

_MOST_ADDRESSES: Final = 4


def resolve(host: str, port: int) -> Sequence[str]:
    """Ask the system for the addresses of a name, best first. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class PublicBackend(httpcore.NetworkBackend):
    """Opens connections for httpcore."""

    def __init__(self, resolver: Resolver, exempt: Collection[Endpoint], lookups: int) -> None:
        """Take what resolves names, endpoints that need not be public, and how many names are resolved at a time."""
        self._resolver = resolver
        self._exempt = frozenset(exempt)
        self._sockets = httpcore.SyncBackend()
        # The system's own lookup knows no timeout.
        self._lookups = ThreadPoolExecutor(lookups, thread_name_prefix="mmrec-resolve")

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to a name that has only public addresses.

        Raises MediaError if it has another or none, UnreachableError if it cannot be resolved now.
        """
        trouble: Exception = httpcore.ConnectError("no address")
        for address in self._checked(host, port, timeout)[:_MOST_ADDRESSES]:
            try:
                stream = self._sockets.connect_tcp(
                    address, port, _wait(timeout, httpcore.ConnectTimeout), local_address, socket_options
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                trouble = error
            else:
                return _TimedStream(stream)
        raise trouble

    def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.NetworkStream:
        """Refuse: no web address leads to a socket of this machine."""
        raise MediaError("A web address cannot lead to a socket of this machine.")

    def close(self) -> None:
        """Begin no more lookups."""
        self._lookups.shutdown(wait=False, cancel_futures=True)

    def _checked(self, host: str, port: int, timeout: float | None) -> Sequence[str]:
        """Resolve a host once; refuse it if any of its addresses is not public."""
        try:
            addresses = self._lookups.submit(self._resolver, host, port).result(_wait(timeout, httpcore.ConnectTimeout))
        except (TimeoutError, FutureTimeoutError) as error:
            raise UnreachableError("The host's name could not be resolved in time.") from error
        except socket.gaierror as error:
            if error.errno == socket.EAI_AGAIN:
                raise UnreachableError("The host's name cannot be resolved now.") from error
            raise MediaError("The web address names a host that is not known.") from error
        except (OSError, ValueError) as error:
            raise MediaError("The web address names a host that cannot be.") from error
        if not addresses:
            raise MediaError("The web address names a host that is not known.")
        if not all(is_public(address) or (address, port) in self._exempt for address in addresses):
            raise MediaError("The web address leads to a machine off the public internet; those are never contacted.")
        return addresses


class _TimedStream(httpcore.NetworkStream):
    """A connection of which each single wait ends by the deadline of the thread that waits."""

    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _wait(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _wait(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait = _wait(timeout, httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, wait))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's own signature
        return self._stream.get_extra_info(info)


def _wait(timeout: float | None, too_late: type[httpcore.TimeoutException]) -> float:
    """How long this thread may wait now: `timeout`, or what is left until its deadline if that is less."""
    deadline = _current.get()
    wait = min(
        float("inf") if deadline is None else deadline.left,
        float("inf") if timeout is None else timeout,
    )
    if wait <= 0:
        raise too_late("the deadline has passed")
    return wait


class GuardedTransport(httpx.HTTPTransport):
    """httpx's own transport over guarded connections; no proxy, file or variable of the environment reaches it."""

    def __init__(self, backend: PublicBackend, tls: ssl.SSLContext, connections: int) -> None:
        """Take what connects, which certificates are believed, and how many connections there may be."""
        super().__init__(tls, trust_env=False)
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=connections,
            max_keepalive_connections=connections,
            keepalive_expiry=10.0,
            network_backend=backend,
        )


_HUNG_UP: Final = "Server disconnected without sending a response."
_CUT_SHORT: Final = "peer closed connection"


@contextmanager
def wrap_http_errors() -> Iterator[None]:
    """Raise UnreachableError for troubles of a connection that may pass, MediaError for those that will not."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise UnreachableError("The web server did not give the content in time.") from error
    except httpx.NetworkError as error:
        # httpcore drops the chain of causes, but keeps the first of them.
        cause = error.__cause__.args[0] if error.__cause__ is not None and error.__cause__.args else None
        if isinstance(cause, ssl.SSLCertVerificationError):
            raise MediaError("The web server cannot prove that it is the one that the address names.") from error
        is_tls_error = isinstance(cause, ssl.SSLError) and not isinstance(cause, ssl.SSLEOFError)
        if isinstance(error, httpx.ConnectError) and is_tls_error:
            raise MediaError("What answers at the web address does not speak TLS well.") from error
        raise UnreachableError("The web server cannot be reached, or hung up.") from error
    except httpx.RemoteProtocolError as error:
        if str(error) == _HUNG_UP:
            raise UnreachableError("The web server hung up without an answer.") from error
        if str(error).startswith(_CUT_SHORT):
            raise UnreachableError("The content from the web broke off before its end.") from error
        raise MediaError("What answers at the web address does not speak HTTP well.") from error
    except (httpx.ProtocolError, httpx.UnsupportedProtocol) as error:
        raise MediaError("The web address cannot be requested.") from error
