"""What the status line of an answer means for a fetch."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

import httpcore

from mmrec.catalog.web.body import header
from mmrec.errors import MediaError, UnreachableError

__all__ = ["BusyError", "check_status", "redirected_to"]

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
