"""Commands that inspect and maintain a store: status, quarantine, delete, generations, rollback, verify, repair, gc."""

from typing import Annotated

import typer

import mmrec
from pipelines import options
from pipelines.outcome import ExitCode

commands = typer.Typer()


@commands.command(epilog="Example: mmrec status my-store --json")
def status(store: options.StoreArgument, *, as_json: options.AsJson = False) -> None:
    """Show what a store holds and how it was built."""
    from pipelines import answers

    answers.print_values(mmrec.open(store).status(), as_json=as_json)


@commands.command(epilog="Example: mmrec quarantine my-store --retry")
def quarantine(
    store: options.StoreArgument,
    *,
    retry: Annotated[bool, typer.Option("--retry", help="Retry the quarantined contents, without the source.")] = False,
    limit: options.LimitOption = None,
    encoders: options.EncodersOption = None,
    trust_code: options.TrustCodeOption = False,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "fp32",
    as_json: options.AsJson = False,
) -> None:
    """List the contents and rows that could not be used, with the reasons; or retry them.

    With --json all are listed, unless there is a --limit.
    """
    from pipelines import answers, upkeep
    from pipelines.progress import ConsoleReporter

    if retry:
        from mmrec.compute import check_device
        from mmrec.jobs import upkeep as job

        run = job.RetryOptions(
            store=store,
            encoders=encoders,
            device=check_device(device),
            dtype=dtype,
            trust_code=trust_code,
            media_root=media_root,
            allow_fetch=allow_fetch,
        )
        answers.print_values(job.retry(run, ConsoleReporter()), as_json=as_json)
    else:
        upkeep.print_quarantine(store, limit, as_json=as_json)


@commands.command(epilog="Example: mmrec delete my-store item-42 item-43")
def delete(
    store: options.StoreArgument,
    items: Annotated[list[str], typer.Argument(metavar="ID...", help="The items' ids.", show_default=False)],
    *,
    as_json: options.AsJson = False,
) -> None:
    """Delete items; searches stop finding them at once."""
    from pipelines import answers, console

    deleted = mmrec.open(store).delete(items)
    answers.print_values({"deleted": deleted}, as_json=as_json)
    unknown = len(set(items)) - deleted
    if unknown:
        console.warn(f"{unknown} of the ids given were not in {store}.")


@commands.command(epilog="Example: mmrec generations my-store")
def generations(store: options.StoreArgument, *, as_json: options.AsJson = False) -> None:
    """List the generations of a store, the current one marked."""
    from pipelines import answers

    opened = mmrec.open(store)
    rows = answers.generation_rows(opened.generations(), current=opened.status()["generation"])
    answers.print_rows("generations", rows, as_json=as_json, empty="No generation yet: run mmrec index.")


@commands.command(epilog="Example: mmrec rollback my-store 3")
def rollback(
    store: options.StoreArgument,
    number: Annotated[int | None, typer.Argument(metavar="[N]", min=1, help="Default: the previous one.")] = None,
    *,
    as_json: options.AsJson = False,
) -> None:
    """Make an earlier generation current again: its fusion, vectors and index.

    Items stay as they are now: later edits and deletions are not undone.
    """
    from pipelines import answers

    answers.print_values({"generation": mmrec.open(store).rollback(number)}, as_json=as_json)


@commands.command(epilog="Example: mmrec verify my-store --full")
def verify(
    store: options.StoreArgument,
    *,
    full: Annotated[bool, typer.Option("--full", help="Compare all items with their contents, not a sample.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check a store: checksums, counts, pairing, fingerprints and recall. Exits with 1 if something is damaged.

    Nothing is changed. Each defect is named, with the commands that repair it.
    """
    from pipelines import upkeep

    report = mmrec.open(store).verify(full=full)
    upkeep.print_report(report, as_json=as_json)
    if not report.sound:
        raise typer.Exit(ExitCode.FAILURE)


@commands.command(epilog="Example: mmrec repair my-store")
def repair(
    store: options.StoreArgument,
    *,
    encoders: options.EncodersOption = None,
    trust_code: options.TrustCodeOption = False,
    as_json: options.AsJson = False,
) -> None:
    """Repair a damaged store, as far as that needs no source.

    Unreadable files are set aside, readable data is kept, and a new generation is built from the stored vectors.
    Contents that lost their vector are encoded by the next mmrec index.
    """
    from dataclasses import asdict

    from mmrec.jobs import upkeep as job
    from pipelines import console
    from pipelines.progress import ConsoleReporter

    done = job.repair(store, encoders, trust_code=trust_code, reporter=ConsoleReporter())
    if as_json:
        console.emit_json(asdict(done))
    console.note(f"Check it with: mmrec verify {store}")


@commands.command(epilog="Example: mmrec gc my-store --keep 2 --dry-run")
def gc(
    store: options.StoreArgument,
    *,
    keep: Annotated[int, typer.Option(metavar="N", min=1, help="Generations kept, the current one included.")] = 2,
    unused_vectors: Annotated[
        bool, typer.Option("--unused-vectors", help="Also drop vectors of contents that no item has.")
    ] = False,
    grace: Annotated[float, typer.Option(metavar="MINUTES", min=0, help="Keep versions used this recently.")] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would be removed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Remove old generations, old versions of tables, and leftovers of crashed jobs.

    Data that a kept generation or a running job needs stays.
    """
    from dataclasses import asdict
    from datetime import timedelta

    from mmrec.storage.collect import Policy
    from pipelines import answers, console

    policy = Policy(keep, unused_vectors, timedelta(minutes=grace), dry_run)
    answers.print_values(asdict(mmrec.open(store).compact(policy)), as_json=as_json)
    if dry_run:
        console.note("Nothing was removed: this was a dry run.")
