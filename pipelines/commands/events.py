"""Commands of ``mmrec events``: import, export, stats, refused, forget."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines import options
from pipelines.outcome import ExitCode

commands = typer.Typer(no_args_is_help=True, help="Record and manage events: views, likes, purchases, hides.")


@commands.command("import", epilog="Example: mmrec events import my-store log.parquet --user who --time at")
def import_(
    store: options.StoreArgument,
    source: Annotated[
        str,
        typer.Argument(help="Parquet, CSV, JSON Lines, hf:OWNER/NAME; MovieLens's or RecBole's files."),
    ],
    *,
    user: Annotated[str | None, typer.Option(metavar="COL", help="Column of the users' ids.")] = None,
    item: Annotated[str | None, typer.Option(metavar="COL", help="Column of the items' ids.")] = None,
    time: Annotated[str | None, typer.Option(metavar="COL", help="Column of the times.")] = None,
    kind: Annotated[str | None, typer.Option(metavar="COL", help="Column of the kinds.")] = None,
    as_kind: Annotated[str | None, typer.Option(metavar="KIND", help="The kind of all events.")] = None,
    value: Annotated[str | None, typer.Option(metavar="COL", help="Column of numbers, such as stars.")] = None,
    context: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns stored as context.")] = None,
    id_column: Annotated[str | None, typer.Option("--id", metavar="COL", help="Column of the events' ids.")] = None,
    time_unit: Annotated[
        Literal["auto", "s", "ms", "us", "ns"], typer.Option(help="Unit of numeric times, since 1970.")
    ] = "auto",
    zone: Annotated[str, typer.Option(metavar="ZONE", help="Time zone of times without one: Europe/Paris.")] = "UTC",
    kinds: options.KindsOption = None,
    encoding: options.EncodingOption = None,
    events: options.EventsOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit with 3 if a row was refused or names no item.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Add a file of events to the log; known events are not added again.

    Columns that are not given are guessed from the column names.
    """
    from mmrec.jobs.events import ImportOptions, run_import
    from pipelines import answers, console, grammar
    from pipelines.progress import ConsoleReporter

    settings = ImportOptions(
        store=store,
        source=source,
        columns={"user": user, "item": item, "time": time, "kind": kind, "value": value, "id": id_column},
        context=grammar.parse_columns(context or ()),
        as_kind=as_kind,
        time_unit=time_unit,
        zone=zone,
        kinds=kinds,
        events=events,
        encoding=encoding,
    )
    summary = run_import(settings, ConsoleReporter())
    answers.print_values(summary, as_json=as_json)
    if summary["refused"]:
        console.warn(f"{summary['refused']:,} rows were refused; their reasons: mmrec events refused {store}")
    if strict and (summary["refused"] or summary["without_item"]):
        raise typer.Exit(ExitCode.PARTLY)


@commands.command(epilog="Example: mmrec events export my-store log.parquet")
def export(
    store: options.StoreArgument,
    out: Annotated[Path, typer.Argument(metavar="FILE", help="Output: .parquet, .csv or .jsonl.")],
    *,
    spreadsheet: Annotated[
        bool, typer.Option("--spreadsheet", help="In CSV, put an apostrophe before ids that begin like a formula.")
    ] = False,
    events: options.EventsOption = None,
    as_json: options.AsJson = False,
) -> None:
    """Write all events to a file, in order of arrival; importing it gives the same log."""
    from mmrec.jobs.events import run_export
    from pipelines import answers
    from pipelines.progress import ConsoleReporter

    count = run_export(store, out, events, spreadsheet=spreadsheet, reporter=ConsoleReporter())
    answers.print_values({"events": count, "file": str(out)}, as_json=as_json)


@commands.command(epilog="Example: mmrec events stats my-store --json")
def stats(
    store: options.StoreArgument, *, events: options.EventsOption = None, as_json: options.AsJson = False
) -> None:
    """Show what the log holds, and what cleaning removes."""
    from mmrec.jobs.events import run_stats
    from pipelines import answers

    answers.print_values(run_stats(store, events), as_json=as_json)


@commands.command(epilog="Example: mmrec events refused my-store")
def refused(
    store: options.StoreArgument, *, events: options.EventsOption = None, as_json: options.AsJson = False
) -> None:
    """List the rows that imports refused, and why."""
    from mmrec.jobs.events import refused_rows
    from pipelines import answers

    answers.print_rows("refused", refused_rows(store, events), as_json=as_json, empty="No row was refused.")


@commands.command(epilog="Example: mmrec events forget my-store user-7")
def forget(
    store: options.StoreArgument,
    user: Annotated[str, typer.Argument(metavar="USER", help="The user's id.", show_default=False)],
    *,
    events: options.EventsOption = None,
    as_json: options.AsJson = False,
) -> None:
    """Delete all events of a user, at once.

    A trained tower keeps traces until the next training.
    """
    from mmrec.jobs.events import run_forget
    from pipelines import answers, console

    gone = run_forget(store, user, events)
    answers.print_values({"deleted": gone}, as_json=as_json)
    console.note("A trained tower keeps traces of this user until the next training; exported files keep all events.")
