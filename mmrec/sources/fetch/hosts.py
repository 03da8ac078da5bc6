"""Per-host rate limits and circuit breaker, and the limits of one fetch."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Condition
from typing import Final

from mmrec.errors import UnreachableError
from mmrec.sources.fetch.guard import Deadline


@dataclass(frozen=True, slots=True)
class FetchRules:
    """Bounds on what is fetched from the web.

    Attributes:
        max_bytes: Largest content, counted both as sent and as unpacked; tighter than for files, as many are in hand.
        connect_seconds: Longest wait for a connection.
        silent_seconds: Longest silence of a connected host.
        total_seconds: Longest time for one content, with all its redirects, retries and waits.
        attempts: How often a content is tried where the trouble may pass.
        backoff_seconds: First pause between attempts; it doubles each time, and chance adds up to as much again.
        retry_after_seconds: Longest pause that a server may ask for; a longer one is left to the next run.
        redirects: How many are followed.
        connections: How many are open at a time, over all hosts.
        connections_per_host: How many are open at a time to one host.
        ports: The ports that a web address may name.
        failures: How many contents may fail in a row before their host is left alone for a while.
        rest_seconds: Seconds for which a failing host is not contacted.

    """

    max_bytes: int = 64 * 1024 * 1024
    connect_seconds: float = 10.0
    silent_seconds: float = 15.0
    total_seconds: float = 120.0
    attempts: int = 4
    backoff_seconds: float = 0.5
    retry_after_seconds: float = 30.0
    redirects: int = 5
    connections: int = 16
    connections_per_host: int = 8
    ports: frozenset[int] = frozenset({80, 443, 8080, 8443})
    failures: int = 16
    rest_seconds: float = 60.0


_REMEMBERED: Final = 10_000


class CircuitOpenError(UnreachableError):
    """A host is left alone for a while, as nothing could be had from it."""


class Hosts:
    """Open requests, pauses and failures in a row of each host."""

    def __init__(self, rules: FetchRules) -> None:
        self._rules = rules
        self._changed = Condition()
        self._busy: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._resting: dict[str, float] = {}
        self._paused: dict[str, float] = {}

    @contextmanager
    def slot(self, host: str, deadline: Deadline) -> Iterator[None]:
        """Wait until one more request to a host may be made.

        Raises CircuitOpenError if it is left alone, UnreachableError if too many wait.
        """
        with self._changed:
            if self._resting.get(host, 0.0) > time.monotonic():
                raise CircuitOpenError(
                    f"The web server failed {self._rules.failures} times in a row, so that it is left alone for now."
                )
            while not self._has_room(host):
                if not deadline.left:
                    raise UnreachableError("Too many requests to the web server wait at the same time.")
                self._changed.wait(min(deadline.left, self._pause(host) or deadline.left))
            self._busy[host] += 1
        try:
            yield
        finally:
            with self._changed:
                self._busy[host] -= 1
                self._busy += Counter()
                self._changed.notify_all()

    def succeeded(self, host: str) -> None:
        """Note that a host has answered."""
        with self._changed:
            self._failures.pop(host, None)
            self._resting.pop(host, None)

    def failed(self, host: str) -> None:
        """Note that a content could not be had from a host for a reason that may pass."""
        with self._changed:
            self._forget()
            self._failures[host] += 1
            if self._failures[host] >= self._rules.failures:
                self._resting[host] = time.monotonic() + self._rules.rest_seconds

    def pause(self, host: str, seconds: float) -> None:
        """Make no request to a host for some seconds, as it wished; others wait."""
        with self._changed:
            self._forget()
            self._paused[host] = max(self._paused.get(host, 0.0), time.monotonic() + seconds)

    def _forget(self) -> None:
        """Empty a table that has reached 10,000 hosts: a catalog may name millions."""
        for memory in (self._failures, self._resting, self._paused):
            if len(memory) >= _REMEMBERED:
                memory.clear()

    def _pause(self, host: str) -> float:
        return max(0.0, self._paused.get(host, 0.0) - time.monotonic())

    def _has_room(self, host: str) -> bool:
        total = sum(self._busy.values())
        is_free = total < self._rules.connections and self._busy[host] < self._rules.connections_per_host
        return is_free and not self._pause(host)
