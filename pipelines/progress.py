"""Progress, notes and questions of jobs on the terminal; progress is a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

from mmrec.errors import UsageError
from mmrec.reporting import Advance, Reporter
from pipelines import console


class _RateColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="dim")


class PlainProgress:
    """Progress as plain lines, at most one every `every` seconds, and one at the end."""

    def __init__(
        self,
        label: str,
        total: int | None,
        *,
        every: float = 5.0,
        clock: Callable[[], float] = time.monotonic,
        print_line: Callable[[str], None] = console.note,
    ) -> None:
        self._label, self._total, self._every, self._clock, self._print = label, total, every, clock, print_line
        self._start = self._last = clock()
        self._done = 0

    def advance(self, count: int) -> None:
        """Count units done, and print a line if it is due."""
        self._done += count
        now = self._clock()
        if now - self._last >= self._every:
            self._last = now
            self._print(self._line(now))

    def close(self) -> None:
        """Print the final line."""
        seconds = self._clock() - self._start
        self._print(f"{self._label}: {self._done:,} in {seconds:.1f} s")

    def _line(self, now: float) -> str:
        rate = self._done / (now - self._start)
        if self._total is None:
            return f"{self._label}: {self._done:,}, {rate:,.1f}/s"
        left = timedelta(seconds=round((self._total - self._done) / rate)) if rate else "unknown time"
        return f"{self._label}: {self._done:,} of {self._total:,}, {rate:,.1f}/s, {left} left"


@contextmanager
def progress(label: str, total: int | None = None) -> Iterator[Advance]:
    """Show progress on stderr while the block runs; call what it yields with the units done since the last call.

    Args:
        label: Name of the work, such as ``encoding images``.
        total: Number of units, where known; without it there is a rate but no time left.

    """
    if console.notes.is_terminal:
        columns = (TextColumn("{task.description}"), BarColumn(bar_width=24), MofNCompleteColumn(), _RateColumn())
        with Progress(*columns, TimeRemainingColumn(compact=True), console=console.notes) as shown:
            task = shown.add_task(label, total=total)
            yield lambda count: shown.advance(task, count)
        return
    plain = PlainProgress(label, total)
    yield plain.advance
    plain.close()


class ConsoleReporter(Reporter):
    """Prints on stderr, and asks at the terminal."""

    @property
    def is_interactive(self) -> bool:
        """Whether there is a terminal to ask at."""
        return sys.stdin.isatty()

    def note(self, message: str) -> None:
        """Print a line."""
        console.note(message)

    def warn(self, message: str) -> None:
        """Print a line marked as a warning."""
        console.warn(message)

    def values(self, values: Mapping[str, object]) -> None:
        """Print names and values below each other."""
        console.notes.print(console.pairs(values))

    def require_consent(self, question: str, *, yes: bool, otherwise: str, at_terminal_only: bool = False) -> None:
        """Return if the user agrees: beforehand with ``--yes``, or at the terminal. Raises UsageError otherwise."""
        if yes or (at_terminal_only and not self.is_interactive):
            return
        if not self.is_interactive:
            raise UsageError(f"{question}? There is no terminal to ask: add --yes to agree. {otherwise}")
        if not typer.confirm(console.to_safe_line(question), default=True, err=True):
            raise UsageError(f"Nothing was done. {otherwise}")

    def ask_yes_no(self, question: str) -> bool:
        """Ask at the terminal; without one the answer is no."""
        return self.is_interactive and typer.confirm(console.to_safe_line(question), default=False, err=True)

    def progress(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a bar on a terminal, lines elsewhere."""
        return progress(label, total)
