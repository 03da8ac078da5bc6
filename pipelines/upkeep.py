"""The jobs behind ``mmrec verify``, ``mmrec mend`` and ``mmrec gc``."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from mmrec.encoders.presets import load_encoders
from mmrec.indexing import spaces_of
from mmrec.modality import Modality
from mmrec.spaces import Space
from mmrec.store.collect import Policy, collect
from mmrec.store.generations import manifest
from mmrec.store.layout import Layout
from mmrec.trust import check_encoders, remember
from mmrec.verification.findings import Report
from mmrec.verification.mend import mend_store
from mmrec.verification.verify import verify_store
from pipelines import answers, console

__all__ = ["gc", "mend", "verify"]


def verify(store: Path, *, full: bool, as_json: bool) -> bool:
    """Check a store and print what was found. Returns whether it is sound. Raises StoreError where there is none."""
    report = verify_store(Layout(store), full=full)
    if as_json:
        console.emit_json(_document(report))
    else:
        answers.print_values({**report.checked, "seconds": round(report.seconds, 2)}, as_json=False)
        rows = [{"check": one.check, "where": one.where, "what": one.what} for one in report.findings]
        if rows:
            answers.print_rows("findings", rows, as_json=False, empty="")
    for remark in report.notes:
        console.note(remark)
    if report.sound and report.unborn:
        console.note(report.unborn)
    elif report.sound:
        console.note(f"{store} is sound.")
    else:
        console.warn(f"{store} is damaged. Run: {' ; '.join(report.commands)}")
    return report.sound


def mend(store: Path, *, encoders: str | None, trust_code: bool, as_json: bool) -> None:
    """Put right what needs no source, and print what was done. Raises StoreError."""
    mended = mend_store(Layout(store), lambda made_with: _spaces(store, encoders, made_with, trust_code=trust_code))
    if as_json:
        console.emit_json(asdict(mended))
    for action in mended.actions or ["found nothing that can be mended without the source"]:
        console.note(f"{action[:1].upper()}{action[1:]}.")
    if mended.generation is not None:
        answers.warn_of(manifest(Layout(store), mended.generation))
    console.note(f"Check it with: mmrec verify {store}")


def gc(store: Path, policy: Policy, *, as_json: bool) -> None:
    """Give back the room of what no generation needs, and print it. Raises StoreError."""
    done = collect(Layout(store), policy)
    answers.print_values(asdict(done), as_json=as_json)
    if policy.dry_run:
        console.note("Nothing was removed: this was a dry run.")


def _document(report: Report) -> dict[str, object]:
    return {
        "sound": report.sound,
        "unborn": report.unborn,
        "findings": [asdict(one) for one in report.findings],
        "run": report.commands,
        "checked": report.checked,
        "notes": report.notes,
        "seconds": report.seconds,
    }


def _spaces(
    store: Path, given: str | None, made_with: str, *, trust_code: bool
) -> Mapping[Modality, tuple[Space, ...]]:
    """The spaces of the encoders a person gave, or of those that the store was made with."""
    if given is None:
        check_encoders(Layout(store), made_with, console.confirmed)
    else:
        remember(Layout(store), given)
    return spaces_of(load_encoders(made_with if given is None else given, trust_code=trust_code), Layout(store))
