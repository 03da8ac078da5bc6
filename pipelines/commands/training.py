"""Commands that train and measure: evaluate, finetune, train."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from pipelines import options

commands = typer.Typer()


@commands.command(epilog="Example: mmrec evaluate my-store --report report.html")
def evaluate(
    store: options.StoreArgument,
    *,
    split: Annotated[
        Literal["time", "last", "leave-one-out"],
        typer.Option(help="Targets: all events after a moment, each user's last of them, or each user's last event."),
    ] = "time",
    quantile: Annotated[float, typer.Option(metavar="SHARE", help="Share of the events before that moment.")] = 0.9,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Also write a page with charts.", dir_okay=False)
    ] = None,
    category: Annotated[
        str | None, typer.Option(metavar="COL", help="Metadata column for calibration, as genres; split at commas.")
    ] = None,
    cold_items: Annotated[
        bool, typer.Option("--cold-items", help="Hold a tenth of the items out of training.")
    ] = False,
    cold_users: Annotated[
        bool, typer.Option("--cold-users", help="Hold a tenth of the users out of training; evaluate only them.")
    ] = False,
    allow_seen: Annotated[
        bool, typer.Option("--allow-seen", help="Also rank items the user has seen; by default they are excluded.")
    ] = False,
    users: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Most users to evaluate, sampled.", show_default="all")
    ] = None,
    train: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Also train towers with this configuration.", dir_okay=False),
    ] = None,
    seeds: Annotated[int, typer.Option(metavar="N", min=1, help="How often each tower is trained.")] = 1,
    kinds: options.KindsOption = None,
    events: options.EventsOption = None,
    seed: Annotated[int, typer.Option(metavar="N", min=0, help="Random seed.")] = 0,
    as_json: options.AsJson = False,
) -> None:
    """Measure how well models recommend, on events that none of them was fitted to.

    All items are ranked, never a sample. Intervals are over users.
    """
    from mmrec.jobs.evaluate import EvaluateOptions, run
    from pipelines.evaluation import print_evaluation
    from pipelines.progress import ConsoleReporter

    settings = EvaluateOptions(
        store=store,
        split=split,
        quantile=quantile,
        report=report,
        category=category,
        cold_items=cold_items,
        cold_users=cold_users,
        allow_seen=allow_seen,
        kinds=kinds,
        events=events,
        users=users,
        seed=seed,
        train=train,
        seeds=seeds,
    )
    found, facts = run(settings, ConsoleReporter())
    print_evaluation(found, facts, as_json=as_json)


class ObjectiveName(StrEnum):
    """Objective of a fine-tuning."""

    ALIGN = "align"
    COENGAGE = "coengage"
    LABEL = "label"


@commands.command(epilog="Example: mmrec finetune align my-store --out my-encoders")
def finetune(
    objective: Annotated[
        ObjectiveName,
        typer.Argument(
            metavar="align|coengage|label",
            help="Bring together: modalities of an item; items that users take in sequence; items of one label.",
            show_default=False,
        ),
    ],
    store: options.StoreArgument,
    *,
    config: Annotated[
        Path | None,
        typer.Option(metavar="FILE.toml", help="Settings of the training.", dir_okay=False, show_default="heads"),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Folder of the encoders.", file_okay=False, show_default="beside the store"),
    ] = None,
    encoders: Annotated[
        str | None,
        typer.Option(metavar="packaged|hub|KIND=MODEL|FILE|DIR", help="Base encoders.", show_default="the store's own"),
    ] = None,
    trust_code: options.TrustCodeOption = False,
    column: Annotated[str | None, typer.Option(metavar="COL", help="Metadata column of the labels.")] = None,
    events: options.EventsOption = None,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate counts, sizes, memory and time.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Fine-tune a store's encoders on its items, and measure whether that helped; the store itself is not changed.

    An interrupted fine-tuning resumes when the same command is run again.
    """
    from mmrec.jobs.finetune import FinetuneOptions, run, run_dry
    from pipelines import answers
    from pipelines.progress import ConsoleReporter

    settings = FinetuneOptions(
        objective=objective.value,
        store=store,
        config=config,
        out=out,
        encoders=encoders,
        events=events,
        column=column,
        media_root=media_root,
        allow_fetch=allow_fetch,
        trust_code=trust_code,
    )
    found = (run_dry if dry_run else run)(settings, ConsoleReporter())
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
        typer.Option(metavar="DIR", help="Curves and checkpoints.", file_okay=False, show_default="in the store"),
    ] = None,
    kinds: options.KindsOption = None,
    events: options.EventsOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only estimate sizes, memory and time.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Train a user tower on the events; recommendations use it from then on, search stays as it is.

    An interrupted training resumes when the same command is run again.
    """
    from mmrec.jobs.train import TrainOptions, run, run_dry
    from pipelines import answers
    from pipelines.progress import ConsoleReporter

    settings = TrainOptions(store=store, config=config, out=out, events=events, kinds=kinds)
    found = run_dry(settings) if dry_run else run(settings, ConsoleReporter())
    if found is not None:
        answers.print_values(found, as_json=as_json)
