"""The command that measures how well people are served."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines import options
from pipelines.commands.events import EventsOption

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(epilog="Example: mmrec evaluate my-store --report report.html")
def evaluate(
    store: options.StoreArgument,
    *,
    split: Annotated[
        Literal["time", "last", "leave-one-out"],
        typer.Option(help="What is predicted: all events after a moment, each person's last of them, or of all."),
    ] = "time",
    quantile: Annotated[float, typer.Option(metavar="SHARE", help="Share of the events before that moment.")] = 0.9,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page with charts.", dir_okay=False)
    ] = None,
    category: Annotated[
        str | None, typer.Option(metavar="COL", help="Metadata column for calibration, as genres; commas part it.")
    ] = None,
    cold_items: Annotated[
        bool, typer.Option("--cold-items", help="Hold a tenth of the items out of training.")
    ] = False,
    cold_people: Annotated[
        bool, typer.Option("--cold-people", help="Hold a tenth of the people out of training; ask them alone.")
    ] = False,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Rank what a person had met too; else it is left out.")
    ] = False,
    people: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Ask so many people at most, drawn.", show_default="all")
    ] = None,
    kinds: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Weights and other names of kinds.", dir_okay=False)
    ] = None,
    events: EventsOption = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Of what is held out and drawn.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure how well models serve people, on events that none of them was fitted to.

    All items are ranked, never a sample. Intervals are over people.
    """
    from pipelines.evaluate import EvaluateOptions, run
    from pipelines.evaluated import print_evaluation

    asked = EvaluateOptions(
        store=store,
        split=split,
        quantile=quantile,
        report=report,
        category=category,
        cold_items=cold_items,
        cold_people=cold_people,
        allow_seen=allow_seen,
        kinds=kinds,
        events=events,
        people=people,
        seed=seed,
    )
    found, facts = run(asked)
    print_evaluation(found, facts, as_json=as_json)
