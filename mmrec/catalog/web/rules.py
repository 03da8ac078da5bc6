"""How much one fetch may cost, and which ports are asked."""

from dataclasses import dataclass

__all__ = ["FetchRules"]


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
        rest_seconds: For how long.

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
