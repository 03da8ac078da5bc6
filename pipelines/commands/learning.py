"""Commands that learn from behaviour and measure: train, finetune, evaluate."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines import options
from pipelines.commands.events import EventsOption

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
    train: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Also train towers by this configuration.", dir_okay=False),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="How often each tower is trained.")] = 1,
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
    from mmrec.jobs.evaluate import EvaluateOptions, run
    from pipelines.evaluated import print_evaluation
    from pipelines.progress import ConsoleReporter

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
        train=train,
        seeds=seeds,
    )
    found, facts = run(asked, ConsoleReporter())
    print_evaluation(found, facts, as_json=as_json)


class ObjectiveName(StrEnum):
    """What attracts what."""

    ALIGN = "align"
    COENGAGE = "coengage"
    LABEL = "label"


@commands.command(epilog="Example: mmrec finetune align my-store --out my-encoders")
def finetune(
    objective: Annotated[
        ObjectiveName,
        typer.Argument(
            metavar="align|coengage|label",
            help="Modalities of an item; items that people take one after the other; items of one label.",
            show_default=False,
        ),
    ],
    store: options.StoreArgument,
    *,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="What is trained and how.", dir_okay=False, show_default="heads"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For the encoders.", file_okay=False, show_default="beside the store"),
    ] = None,
    encoders: Annotated[
        str | None,
        typer.Option(metavar="packaged|hub|KIND=MODEL|FILE|DIR", help="What is tuned.", show_default="the store's own"),
    ] = None,
    trust_code: options.TrustCodeOption = False,
    column: Annotated[str | None, typer.Option(metavar="COL", help="Metadata column of the labels.")] = None,
    events: EventsOption = None,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say counts, sizes, memory and time, and write nothing.")
    ] = False,
    as_json: options.AsJson = False,
) -> None:
    """Adapt a store's encoders to its items, and say whether that helped; the store itself is not changed.

    A fine-tuning that was interrupted goes on where it was when the same command is given again.
    """
    from mmrec.jobs.finetune import FinetuneOptions, run, run_dry
    from pipelines import answers
    from pipelines.progress import ConsoleReporter

    asked = FinetuneOptions(
        objective.value,
        store,
        config,
        out,
        encoders,
        events,
        column,
        media_root=media_root,
        allow_fetch=allow_fetch,
        trust_code=trust_code,
    )
    found = (run_dry if dry_run else run)(asked, ConsoleReporter())
    if found is not None:
        answers.print_values(found, as_json=as_json)


@commands.command(epilog="Example: mmrec train my-store --config pipelines/configs/train-cpu.toml")
def train(
    store: options.StoreArgument,
    *,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Sizes and settings.", dir_okay=False, show_default="small")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="For curves and checkpoints.", file_okay=False, show_default="in the store"),
    ] = None,
    kinds: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Weights and other names of kinds.", dir_okay=False)
    ] = None,
    events: EventsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say sizes, memory and time, and change nothing.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Learn from what people did, and recommend by it from then on; search stays as it is.

    A training that was interrupted goes on where it was when the same command is given again.
    """
    from mmrec.jobs.train import TrainOptions, run, run_dry
    from pipelines import answers
    from pipelines.progress import ConsoleReporter

    asked = TrainOptions(store, config, out, events, kinds)
    found = run_dry(asked) if dry_run else run(asked, ConsoleReporter())
    if found is not None:
        answers.print_values(found, as_json=as_json)
