"""Manners towards hosts: not too many questions at a time, and none for a while to one that does not answer."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Condition
from typing import Final

from mmrec.catalog.web.deadline import Deadline
from mmrec.catalog.web.rules import FetchRules
from mmrec.errors import UnreachableError

__all__ = ["Hosts", "RestingError"]

_REMEMBERED: Final = 10_000


class RestingError(UnreachableError):
    """A host is left alone for a while, as nothing could be had from it."""


class Hosts:
    """What is asked of each host at the moment, and how often each has failed in a row."""

    def __init__(self, rules: FetchRules) -> None:
        self._rules = rules
        self._changed = Condition()
        self._busy: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._resting: dict[str, float] = {}
        self._paused: dict[str, float] = {}

    @contextmanager
    def turn(self, host: str, deadline: Deadline) -> Iterator[None]:
        """Wait for a turn to ask a host.

        Raises RestingError where it is left alone, UnreachableError where too many wait.
        """
        with self._changed:
            if self._resting.get(host, 0.0) > time.monotonic():
                raise RestingError(
                    f"The web server failed {self._rules.failures} times in a row, so that it is left alone for now."
                )
            while not self._has_room(host):
                if not deadline.left:
                    raise UnreachableError("Too much is asked of the web server at the same time.")
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
        """Ask nothing of a host for some seconds, as it wished; whoever wants its turn waits."""
        with self._changed:
            self._forget()
            self._paused[host] = max(self._paused.get(host, 0.0), time.monotonic() + seconds)

    def _forget(self) -> None:
        """Keep the memory of hosts in bounds, as a catalog may name millions."""
        for memory in (self._failures, self._resting, self._paused):
            if len(memory) >= _REMEMBERED:
                memory.clear()

    def _pause(self, host: str) -> float:
        return max(0.0, self._paused.get(host, 0.0) - time.monotonic())

    def _has_room(self, host: str) -> bool:
        total = sum(self._busy.values())
        is_free = total < self._rules.connections and self._busy[host] < self._rules.connections_per_host
        return is_free and not self._pause(host)
