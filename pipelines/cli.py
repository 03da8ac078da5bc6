"""The command line ``mmrec``: all commands, and its options."""

import os
import sys
from typing import Annotated

import typer

from mmrec.compute import keep_freed_memory, let_waiting_threads_sleep
from pipelines.commands import events, index, maintenance, search, training
from pipelines.outcome import run_app

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Index a catalog of text, images and audio in one vector space, and search it.",
    epilog='Example: mmrec search my-store --text "a red boat" -k 5',
)
for group in (index, training, search, maintenance):
    app.add_typer(group.commands)
app.add_typer(events.commands, name="events")


def main() -> None:
    """Run the command `mmrec`."""
    # The errors of damaged files say what Lance logs about them, without the paths of its source.
    os.environ.setdefault("LANCE_LOG", "error")
    let_waiting_threads_sleep()
    keep_freed_memory()
    sys.exit(run_app(app, sys.argv[1:]))


def _show_version(value: bool) -> bool:
    if value:
        from importlib.metadata import version

        typer.echo(f"mmrec {version('mmrec')}")
        raise typer.Exit
    return False


@app.callback()
def common(
    *,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an internal fault.")] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", is_eager=True, callback=_show_version)
    ] = False,
) -> None:
    """Declare the options before a command; `run_app` reads ``--debug`` itself, also where the parser fails."""
    del debug, version
