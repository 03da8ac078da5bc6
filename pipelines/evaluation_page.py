"""The page of ``mmrec evaluate``, and what a reader of it asks next: what variety would cost."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from mmrec.errors import UsageError
from mmrec.evaluation.dial import Turned
from mmrec.evaluation.report import Report, render
from mmrec.output import check_output
from mmrec.store.files import write_atomically
from pipelines import console

__all__ = ["afforded", "dial", "write_file", "write_page"]

_AFFORDED = 0.02


def afforded(turned: Sequence[Turned]) -> str:
    """Say how much diversity no more than 2% of accuracy buys."""
    plain = turned[0]
    best = max((one for one in turned if one.ndcg >= (1 - _AFFORDED) * plain.ndcg), key=lambda one: one.diversity)
    return f"{best.diversity / plain.diversity - 1:+.0%}, dial at {best.setting:g}"


def dial(name: str, turned: Sequence[Turned]) -> Mapping[str, Sequence[tuple[float, float]]]:
    """Return the curve of a model's dial, by its name on the page."""
    return {f"{name}, its dial turned": [(one.diversity, one.ndcg) for one in turned]}


def write_page(out: Path, told: Report) -> None:
    """Write the page. Raises UsageError where the file cannot be written."""
    write_file(out, render(told))


def write_file(out: Path, page: str) -> None:
    """Write a page as a file, whole or not at all. Raises UsageError where it cannot be written."""
    check_output(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"the page {out} cannot be written: {error.strerror}; name another file") from error
    console.note(f"The page is {out}")
