"""Notes, warnings, progress and questions of jobs. The library logs; the command line prints and asks."""

import logging
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import Final, TypeAlias

from mmrec.storage.generations import Manifest

Advance: TypeAlias = Callable[[int], None]
"""Called with the number of units done since the last call."""

_LOGGER: Final = logging.getLogger("mmrec")


class Reporter:
    """Receives notes, warnings, progress and questions of a job. This one logs, and never asks."""

    @property
    def is_interactive(self) -> bool:
        """Whether there is someone to ask."""
        return False

    def note(self, message: str) -> None:
        """Report something besides the result."""
        _LOGGER.info(message)

    def warn(self, message: str) -> None:
        """Report something that needs attention."""
        _LOGGER.warning(message)

    def values(self, values: Mapping[str, object]) -> None:
        """Show named values."""
        for name, value in values.items():
            _LOGGER.info("%s: %s", name, value)

    def require_consent(self, question: str, *, yes: bool, otherwise: str, at_terminal_only: bool = False) -> None:
        """Return where the user consents, as a call from Python always does; else raise UsageError.

        Args:
            question: The question, without its question mark.
            yes: Whether the user agreed beforehand.
            otherwise: A sentence: what to do for another outcome.
            at_terminal_only: Whether nobody to ask means yes.

        """
        del question, yes, otherwise, at_terminal_only

    def ask_yes_no(self, question: str) -> bool:
        """Ask the user; False where nobody can be asked."""
        del question
        return False

    def progress(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show progress while a block runs: what it yields is called with the units done since the last call."""
        del label, total
        return nullcontext(lambda _: None)


SILENT: Final = Reporter()
"""Logs, and shows nothing."""


def warn_of(made: Manifest, reporter: Reporter) -> None:
    """Report the warnings of the current generation."""
    for warning in made.warnings:
        reporter.warn(f"generation {made.number}: {warning}.")


def running_total(advance: Advance) -> Callable[[int], None]:
    """Turn running totals into steps of progress."""
    seen = 0

    def report(total: int) -> None:
        nonlocal seen
        if total > seen:
            advance(total - seen)
            seen = total

    return report
