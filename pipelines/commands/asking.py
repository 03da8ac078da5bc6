"""Commands that query a store: search, similar, show, list, recommend, compare."""

from pathlib import Path
from typing import Annotated

import typer

import mmrec
from pipelines import options
from pipelines.commands.events import EventsOption

commands = typer.Typer()


@commands.command(epilog='Example: mmrec search my-store --text "red boat^0.7" --image boat.png --against image -k 5')
def search(
    store: options.StoreArgument,
    *,
    text: Annotated[list[str] | None, typer.Option(metavar="TEXT[^W]", help="A text.")] = None,
    image: Annotated[list[str] | None, typer.Option(metavar="FILE[^W]", help="A picture.")] = None,
    audio: Annotated[list[str] | None, typer.Option(metavar="FILE[^W]", help="A sound.")] = None,
    item: Annotated[list[str] | None, typer.Option(metavar="ID[^W]", help="An item of the store.")] = None,
    encoders: options.EncodersOption = None,
    trust_code: options.TrustCodeOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "fp32",
    against: options.AgainstOption = None,
    where: options.WhereOption = None,
    k: options.HowMany = 10,
    explain: options.ExplainOption = False,
    sheet: options.SheetOption = None,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    as_json: options.AsJson = False,
) -> None:
    """Find items for a text, a picture, a sound, an item, or a weighted mix of them.

    Parts may be repeated. A number after the last ^ is a part's weight (1 without it); a negative one pushes away.
    """
    from pipelines import grammar

    counting = grammar.parse_against(against)
    from mmrec.sources.media_access import opened_media
    from pipelines import answers, console
    from pipelines.grammar import parse_parts

    parts = parse_parts({"text": text, "image": image, "audio": audio, "item": item})
    display = options.Display(as_json, explain, sheet, bool(counting or where))
    with opened_media(media_root, allow_fetch=allow_fetch) as media:
        engine = mmrec.open(
            store,
            encoders=encoders,
            device=device,
            dtype=dtype,
            media=media,
            confirm=console.confirmed,
            trust_code=trust_code,
        )
        results = engine.search(parts, against=counting, where=where, k=k)
        answers.deliver(parts, results, display, engine.show, media)


@commands.command(epilog="Example: mmrec similar my-store item-42 --where \"category = 'animals'\" --sheet near.html")
def similar(
    store: options.StoreArgument,
    item: Annotated[str, typer.Argument(metavar="ID", help="The item's id.", show_default=False)],
    *,
    against: options.AgainstOption = None,
    where: options.WhereOption = None,
    k: options.HowMany = 10,
    explain: options.ExplainOption = False,
    sheet: options.SheetOption = None,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    as_json: options.AsJson = False,
) -> None:
    """Find items like one of the store."""
    from pipelines import grammar

    counting = grammar.parse_against(against)
    from mmrec.query import Part
    from mmrec.sources.media_access import opened_media
    from pipelines import answers

    engine = mmrec.open(store)
    results = engine.similar(item, against=counting, where=where, k=k)
    display = options.Display(as_json, explain, sheet, bool(counting or where))
    with opened_media(media_root, allow_fetch=allow_fetch) as media:
        answers.deliver((Part("item", item),), results, display, engine.show, media)


@commands.command(epilog="Example: mmrec show my-store item-42")
def show(
    store: options.StoreArgument,
    item: Annotated[str, typer.Argument(metavar="ID", help="The item's id.", show_default=False)],
    *,
    as_json: options.AsJson = False,
) -> None:
    """Show what one item is made of."""
    from pipelines import answers

    answers.print_hit(mmrec.open(store).show(item), as_json=as_json)


@commands.command("list", epilog="Example: mmrec list my-store --where \"category = 'animals'\" --limit 20")
def list_items(
    store: options.StoreArgument,
    *,
    where: options.WhereOption = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Most that are listed; 0 for all.", show_default="50")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """List items: ids, texts, media and metadata. With --json all of them, unless there is a --limit."""
    from pipelines import answers

    most = 50 if limit is None and not as_json else limit
    answers.print_items(mmrec.open(store).items(where=where, limit=most or None), most, as_json=as_json)


@commands.command(epilog="Example: mmrec compare my-store --generations 3 4 --queries queries.jsonl")
def compare(
    store: options.StoreArgument,
    *,
    generations: Annotated[
        tuple[int, int], typer.Option(metavar="A B", help="The two; B is judged against A.", show_default=False)
    ],
    queries: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="JSONL, CSV or Parquet: text or id a row, and in relevant the ids that are right, if known.",
            show_default=False,
        ),
    ],
    k: options.HowMany = 10,
    against: options.AgainstOption = None,
    encoders: Annotated[
        list[str] | None,
        typer.Option(metavar="DIR|FILE", help="Encoders of either generation, if it needs your own; repeatable."),
    ] = None,
    trust_code: options.TrustCodeOption = False,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "fp32",
    as_json: options.AsJson = False,
) -> None:
    """Ask two generations the same, and show what they share and which answers better.

    Their spaces may differ: each is asked with its own encoders. Quality needs queries that say what is right; the
    verdict is that of NDCG@k, with a paired 95% interval.
    """
    from pipelines import grammar

    counting = grammar.parse_against(against)
    from mmrec.compute import check_device
    from mmrec.jobs import compare as job
    from mmrec.sources.media_access import opened_media
    from pipelines.comparison import print_comparison
    from pipelines.progress import ConsoleReporter

    chosen = check_device(device)

    named = tuple(encoders or ())
    asked = job.CompareOptions(store, generations, queries, k, counting, named, chosen, dtype, trust_code)
    with opened_media(media_root, allow_fetch=allow_fetch) as media:
        print_comparison(job.compare(asked, media, ConsoleReporter()), as_json=as_json)


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
    from pipelines import grammar

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
        device,
        dtype,
        trust_code,
    )
    print_recommendations(run_recommend(asked), asked, as_json=as_json)
