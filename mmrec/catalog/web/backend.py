"""Connections to public addresses alone.

A name is resolved once for a connection. Each of its addresses is checked, and the connection goes to one of those
checked addresses in digits: a name server that answers otherwise the next time is not asked a next time. The name of
the server in TLS, and the check of its certificate, are for the name all the same.
"""

import socket
from collections.abc import Callable, Collection, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from ssl import SSLContext
from typing import Any, Final, TypeAlias

import httpcore

from mmrec.catalog.web.addresses import is_public
from mmrec.catalog.web.deadline import seconds_left
from mmrec.errors import MediaError, UnreachableError

__all__ = ["Endpoint", "PublicBackend", "Resolver", "resolve"]

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

        Raises MediaError where it has another or none, UnreachableError where it cannot be resolved now.
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
        """Resolve a name, once. One address that is not public damns them all."""
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
            raise MediaError("The web address leads to a machine off the public internet; those are never asked.")
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
        self, ssl_context: SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        wait = _wait(timeout, httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, wait))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's own signature
        return self._stream.get_extra_info(info)


def _wait(timeout: float | None, too_late: type[httpcore.TimeoutException]) -> float:
    wait = seconds_left(timeout)
    if wait <= 0:
        raise too_late("the deadline has passed")
    return wait
