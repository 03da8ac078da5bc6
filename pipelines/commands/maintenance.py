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


@commands.command(epilog="Example: mmrec tune my-store --recall 0.95 --memory 2 --apply")
def tune(
    store: options.StoreArgument,
    *,
    recall: Annotated[
        float, typer.Option(metavar="SHARE", help="Least share of the ten nearest that are found.")
    ] = 0.95,
    memory: Annotated[
        float | None, typer.Option(metavar="GB", help="The most that the index may take.", show_default="no limit")
    ] = None,
    latency: Annotated[
        float | None, typer.Option(metavar="MS", help="The most that a query may take.", show_default="no limit")
    ] = None,
    recipe: Annotated[
        list[str] | None, typer.Option(metavar="FACTORY", help="A recipe to try, and no others; repeatable.")
    ] = None,
    apply: Annotated[bool, typer.Option("--apply", help="Publish a generation with the chosen index.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Measure index recipes on a store's own vectors and choose the fastest that meets a requirement.

    Queries are drawn from the store: items, and single contents of each modality. Half of them choose the search
    parameters, the others are what is reported. Nothing changes without --apply.
    """
    from indexers.protocol import IndexersError
    from indexers.tuning import RECIPES, Requirement
    from mmrec.errors import UsageError
    from mmrec.jobs import tune as job
    from mmrec.storage.layout import Layout
    from pipelines import answers, console
    from pipelines.progress import ConsoleReporter

    try:
        wanted = Requirement(recall, None if memory is None else int(memory * 1e9), latency)
    except IndexersError as error:
        raise UsageError(str(error)) from error
    asked = job.TuneOptions(wanted, recipe or RECIPES, apply)
    found = job.tune_index(Layout(store), asked, ConsoleReporter())
    rows = found.rows(wanted)
    if as_json:
        chosen = next((row for row in rows if row["result"] == "chosen"), None)
        values = {"trials": rows, "chosen": chosen, "queries": found.queries, "generation": found.generation}
        console.emit_json(values)
        return
    answers.print_rows("trials", rows, as_json=False, empty="No recipe was tried.")
    if found.tuning.choice is None:
        console.warn(f"{job.infeasible(found.tuning, wanted)}.")
    elif found.generation is None:
        console.note(f"To use it: mmrec tune {store} --apply, with the same options.")
    else:
        console.note(f"Generation {found.generation} has it.")


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
