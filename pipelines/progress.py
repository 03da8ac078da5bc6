"""How far a job is: a bar on a terminal, a plain line every few seconds elsewhere."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from datetime import timedelta

from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text

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
        say: Callable[[str], None] = console.note,
    ) -> None:
        self._label, self._total, self._every, self._clock, self._say = label, total, every, clock, say
        self._start = self._last = clock()
        self._done = 0

    def advance(self, count: int) -> None:
        """Count units done, and say so if it is time to."""
        self._done += count
        now = self._clock()
        if now - self._last >= self._every:
            self._last = now
            self._say(self._line(now))

    def close(self) -> None:
        """Say the outcome."""
        seconds = self._clock() - self._start
        self._say(f"{self._label}: {self._done:,} in {seconds:.1f} s")

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
        label: What is being done, such as ``encoding pictures``.
        total: Units in all, where known; without it there is a rate but no time left.

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
    """Prints what a job has to say on stderr, and asks at the terminal."""

    @property
    def asks(self) -> bool:
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

    def agree(self, question: str, *, yes: bool, instead: str, at_terminal_only: bool = False) -> None:
        """Ask at the terminal unless the user agreed beforehand. Raises UsageError for another answer."""
        console.agree(question, yes=yes or (at_terminal_only and not self.asks), instead=instead)

    def confirm(self, question: str) -> bool:
        """Ask at the terminal; without one the answer is no."""
        return console.confirmed(question)

    def progress(self, label: str, total: int | None = None) -> AbstractContextManager[Advance]:
        """Show a bar on a terminal, lines elsewhere."""
        return progress(label, total)
