"""The command that asks a store for a person."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines import grammar, options
from pipelines.commands.events import EventsOption

__all__ = ["commands"]

commands = typer.Typer()


@commands.command(epilog="Example: mmrec recommend my-store --user ada --diversity 0.3 --explain")
def recommend(
    store: options.StoreArgument,
    *,
    user: Annotated[str | None, typer.Option(metavar="USER", help="Whose recorded events count.")] = None,
    history: Annotated[
        list[str] | None, typer.Option(metavar="ID,ID", help="Items they like, oldest first; nothing is stored.")
    ] = None,
    hide: Annotated[list[str] | None, typer.Option(metavar="ID,ID", help="Items they turn down.")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="What they say they like.")] = None,
    k: options.HowMany = 10,
    where: options.WhereOption = None,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen/--allow-seen", help="Leave out what they met already, or not.")
    ] = True,
    diversity: Annotated[
        float, typer.Option(metavar="0..1", help="0: the best matches; 1: as unlike each other as can be.")
    ] = 0.0,
    explain: Annotated[bool, typer.Option("--explain", help="Show which items of the past speak for each.")] = False,
    events: EventsOption = None,
    kinds: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Weights of kinds of events.", dir_okay=False)
    ] = None,
    encoders: options.EncodersOption = None,
    trust_code: options.TrustCodeOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "fp32",
    as_json: options.AsJson = False,
) -> None:
    """Recommend items to a person: by recorded events, by a history given here, by a text, or by all of these.

    Without any of them, what is popular. What was turned down is never shown.
    """
    liked, hidden = grammar.parse_ids(history or ()), grammar.parse_ids(hide or ())
    from pipelines.recommend import RecommendOptions, print_recommendations, run_recommend

    asked = RecommendOptions(
        store,
        user,
        liked,
        hidden,
        text,
        k,
        where,
        exclude_seen,
        diversity,
        explain,
        events,
        kinds,
        encoders,
        grammar.parse_device(device),
        dtype,
        trust_code,
    )
    print_recommendations(run_recommend(asked), asked, as_json=as_json)
