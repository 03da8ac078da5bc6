"""The grammar of ``mmrec finetune``."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pipelines import options
from pipelines.commands.events import EventsOption

__all__ = ["commands"]

commands = typer.Typer()


class Objective(StrEnum):
    """What attracts what."""

    ALIGN = "align"
    COENGAGE = "coengage"
    LABEL = "label"


@commands.command(epilog="Example: mmrec finetune align my-store --out my-encoders")
def finetune(
    objective: Annotated[
        Objective,
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
    from pipelines import answers
    from pipelines.finetune import FinetuneOptions, run, run_dry

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
    found = run_dry(asked) if dry_run else run(asked)
    if found is not None:
        answers.print_values(found, as_json=as_json)
