"""Print a verification report, and the quarantine."""

from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Final

from mmrec.storage.layout import Layout
from mmrec.storage.quarantine import count_quarantined, list_quarantined, read_quarantine
from mmrec.verification.findings import VerificationReport
from pipelines import answers, console

FEW: Final = 50
"""Entries that a terminal shows unless asked for more."""


def print_report(report: VerificationReport, *, as_json: bool) -> None:
    """Print a verification: what was checked, the findings, and the commands that repair them."""
    store = report.root
    if as_json:
        console.emit_json(_document(report))
    else:
        answers.print_values({**report.checked, "seconds": round(report.seconds, 2)}, as_json=False)
        rows = [{"check": one.check, "where": one.where, "what": one.what} for one in report.findings]
        if rows:
            answers.print_rows("findings", rows, as_json=False, empty="")
    for remark in report.notes:
        console.note(remark)
    if report.sound and report.unpublished:
        console.note(report.unpublished)
    elif report.sound:
        console.note(f"{store} is sound.")
    else:
        console.warn(f"{store} is damaged. Run: {' ; '.join(report.commands)}")


def _document(report: VerificationReport) -> dict[str, object]:
    return {
        "sound": report.sound,
        "unborn": report.unpublished,
        "findings": [asdict(one) for one in report.findings],
        "run": report.commands,
        "checked": report.checked,
        "notes": report.notes,
        "seconds": report.seconds,
    }


def print_quarantine(store: Path, limit: int | None, *, as_json: bool) -> None:
    """Print the quarantine: in JSON all entries, else the first `FEW`; a `limit` holds for both, 0 for all."""
    layout = Layout(store)
    layout.check()
    path = layout.quarantine
    if as_json:
        entries = read_quarantine(path)
        some = islice(entries, limit) if limit else entries
        console.emit_json_rows("quarantined", answers.quarantine_rows(some))
        return
    few = FEW if limit is None else limit
    rows = list(answers.quarantine_rows(list_quarantined(path, few or None)))
    answers.print_rows("quarantined", rows, as_json=False, empty="Nothing was left out.")
    more = count_quarantined(path) - len(rows)
    if more > 0:
        console.note(f"{more:,} more: --limit 0 shows all, --json gives all to a program.")
