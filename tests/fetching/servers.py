"""Two real servers: one that stands for the public internet and is hostile, and one inside that must never be asked."""

import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from mmrec.sources.fetch.hosts import FetchRules

OUTSIDE = "127.0.0.1"
INSIDE = "127.0.0.2"

PATIENT = FetchRules(
    connect_seconds=2.0,
    silent_seconds=2.0,
    total_seconds=5.0,
    attempts=3,
    backoff_seconds=0.01,
    retry_after_seconds=1.0,
)
"""Short waits: the servers are on this machine."""


def answer(body: bytes = b"", status: str = "200 OK", **headers: object) -> bytes:
    """Write an answer; its length and end are announced unless told otherwise."""
    named = {"content_length": len(body), "connection": "close"} | headers
    lines = [f"{name.replace('_', '-')}: {value}" for name, value in named.items() if value is not None]
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin-1") + body


def drip(piece: bytes, *, start: bytes = b"", end: bytes = b"", pause: float = 0.05, times: int = 400) -> Callable:
    """Answer slowly: so many pieces with a pause before each. It does come to an end, twenty seconds later."""

    def send(connection: socket.socket) -> None:
        connection.sendall(start)
        for _ in range(times):
            time.sleep(pause)
            connection.sendall(piece)
        connection.sendall(end)

    return send


def endless(piece: bytes, start: bytes) -> Callable:
    """Answer without end."""

    def send(connection: socket.socket) -> None:
        connection.sendall(start)
        while True:
            connection.sendall(piece)

    return send


@dataclass
class Server:
    """Answers as its script says, by path; notes all that it is asked."""

    address: str
    port: int = 0
    script: dict[str, bytes | Callable[[socket.socket], None] | Sequence[bytes]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, str]]] = field(default_factory=list)
    connections: int = 0
    tls: ssl.SSLContext | None = None
    greeting: bytes = b""

    def start(self) -> None:
        self._lock = threading.Lock()
        self._listener = socket.create_server((self.address, self.port))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def paths(self) -> list[str]:
        return [path for _, path, _ in self.asked]

    def url(self, path: str = "/", host: str | None = None, scheme: str = "http") -> str:
        return f"{scheme}://{host or self.address}:{self.port}{path}"

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with self._lock:
            self.connections += 1
        try:
            connection.sendall(self.greeting)
            with self.tls.wrap_socket(connection, server_side=True) if self.tls else connection as talking:
                while self._answer_one(talking):
                    pass
        except OSError:
            pass
        finally:
            connection.close()

    def _answer_one(self, connection: socket.socket) -> bool:
        head = b""
        while b"\r\n\r\n" not in head:
            more = connection.recv(65536)
            if not more:
                return False
            head += more
        first, *lines = head.decode("latin-1").split("\r\n\r\n")[0].split("\r\n")
        method, path, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        with self._lock:
            self.asked.append((method, path, headers))
            scripted = self.script.get(path, answer(status="404 Not Found"))
            if isinstance(scripted, list):
                scripted = scripted.pop(0) if len(scripted) > 1 else scripted[0]
        if callable(scripted):
            scripted(connection)
        else:
            connection.sendall(scripted.split(b"\r\n\r\n")[0] + b"\r\n\r\n" if method == "HEAD" else scripted)
        return not callable(scripted) and b"connection: keep-alive" in scripted


class Names:
    """Resolves names from a table; a name with several answers gives them one after the other, the last for ever."""

    def __init__(self) -> None:
        self.table: dict[str, list[list[str]]] = {}
        self.asked: list[str] = []

    def __call__(self, host: str, port: int) -> list[str]:
        self.asked.append(host)
        answers = self.table.get(host)
        if answers is None:
            raise socket.gaierror(socket.EAI_NONAME, "unknown")
        return answers.pop(0) if len(answers) > 1 else answers[0]
