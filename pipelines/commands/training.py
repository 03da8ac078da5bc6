"""The grammar of ``mmrec train``."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines import options
from pipelines.commands.events import EventsOption

__all__ = ["commands"]

commands = typer.Typer()


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
    from pipelines import answers
    from pipelines.train import run, run_dry

    found = run_dry(store, config, events, kinds) if dry_run else run(store, config, out, events, kinds)
    if found is not None:
        answers.print_values(found, as_json=as_json)
