"""Commands that query a store: search, similar, show, list, recommend, compare."""

from pathlib import Path
from typing import Annotated

import typer

import mmrec
from pipelines import options

commands = typer.Typer()


@commands.command(epilog='Example: mmrec search my-store --text "red boat^0.7" --image boat.png --against image -k 5')
def search(
    store: options.StoreArgument,
    *,
    text: Annotated[list[str] | None, typer.Option(metavar="TEXT[^W]", help="A text.")] = None,
    image: Annotated[list[str] | None, typer.Option(metavar="FILE[^W]", help="An image.")] = None,
    audio: Annotated[list[str] | None, typer.Option(metavar="FILE[^W]", help="An audio file.")] = None,
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
    """Find items for a text, an image, audio, an item, or a weighted mix of them.

    Parts may be repeated. A number after the last ^ is a part's weight (1 without it); a negative one pushes away.
    """
    from pipelines import grammar

    modalities = grammar.parse_against(against)
    parts = grammar.parse_parts({"text": text, "image": image, "audio": audio, "item": item})
    from mmrec.sources.media_access import opened_media
    from pipelines import answers
    from pipelines.progress import ConsoleReporter

    display = options.Display(as_json, explain, sheet, bool(modalities or where))
    loading = {"encoders": encoders, "device": device, "dtype": dtype, "trust_code": trust_code}
    with opened_media(media_root, allow_fetch=allow_fetch) as media:
        opened = mmrec.open(store, media=media, reporter=ConsoleReporter(), **loading)
        results = opened.search(parts, against=modalities, where=where, k=k)
        answers.deliver(parts, results, display, opened.show, media)


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
    """Find the items most similar to an item of the store."""
    from pipelines import grammar

    modalities = grammar.parse_against(against)
    from mmrec.query import Part
    from mmrec.sources.media_access import opened_media
    from pipelines import answers

    opened = mmrec.open(store)
    results = opened.similar(item, against=modalities, where=where, k=k)
    display = options.Display(as_json, explain, sheet, bool(modalities or where))
    with opened_media(media_root, allow_fetch=allow_fetch) as media:
        answers.deliver((Part("item", item),), results, display, opened.show, media)


@commands.command(epilog="Example: mmrec show my-store item-42")
def show(
    store: options.StoreArgument,
    item: Annotated[str, typer.Argument(metavar="ID", help="The item's id.", show_default=False)],
    *,
    as_json: options.AsJson = False,
) -> None:
    """Show an item's text, media and metadata."""
    from pipelines import answers

    answers.print_hit(mmrec.open(store).show(item), as_json=as_json)


@commands.command("list", epilog="Example: mmrec list my-store --where \"category = 'animals'\" --limit 20")
def list_items(
    store: options.StoreArgument,
    *,
    where: options.WhereOption = None,
    limit: options.LimitOption = None,
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
        tuple[int, int], typer.Option(metavar="A B", help="Two generations; B is compared with A.", show_default=False)
    ],
    queries: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="JSONL, CSV or Parquet: a text or id per row; in the column relevant the right ids, if known.",
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
    """Query two generations alike, and show how far the results agree and which are better.

    Their spaces may differ: each is queried with its own encoders. Quality needs queries with relevant ids; the verdict
    is by NDCG@k, with a paired 95% interval.
    """
    from pipelines import grammar

    modalities = grammar.parse_against(against)
    from mmrec.compute import check_device
    from mmrec.jobs import compare as job
    from mmrec.sources.media_access import opened_media
    from pipelines.comparison import print_comparison
    from pipelines.progress import ConsoleReporter

    run = job.CompareOptions(
        store=store,
        generations=generations,
        queries=queries,
        k=k,
        against=modalities,
        encoders=tuple(encoders or ()),
        device=check_device(device),
        dtype=dtype,
        trust_code=trust_code,
    )
    with opened_media(media_root, allow_fetch=allow_fetch) as media:
        print_comparison(job.compare(run, media, ConsoleReporter()), as_json=as_json)


@commands.command(epilog="Example: mmrec recommend my-store --user ada --diversity 0.3 --explain")
def recommend(
    store: options.StoreArgument,
    *,
    user: Annotated[str | None, typer.Option(metavar="USER", help="The user whose recorded events count.")] = None,
    history: Annotated[
        list[str] | None, typer.Option(metavar="ID,ID", help="Items the user likes, oldest first; not stored.")
    ] = None,
    hide: Annotated[list[str] | None, typer.Option(metavar="ID,ID", help="Items the user dislikes.")] = None,
    text: Annotated[str | None, typer.Option(metavar="TEXT", help="A text that describes preferences.")] = None,
    k: options.HowMany = 10,
    where: options.WhereOption = None,
    exclude_seen: Annotated[
        bool, typer.Option("--exclude-seen/--allow-seen", help="Exclude items the user has seen, or not.")
    ] = True,
    diversity: Annotated[
        float, typer.Option(metavar="0..1", help="0: the best matches; 1: as different from each other as possible.")
    ] = 0.0,
    explain: Annotated[bool, typer.Option("--explain", help="Show the history items behind each.")] = False,
    events: options.EventsOption = None,
    kinds: options.KindsOption = None,
    encoders: options.EncodersOption = None,
    trust_code: options.TrustCodeOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "fp32",
    as_json: options.AsJson = False,
) -> None:
    """Recommend items to a user: by recorded events, by a history given here, by a text, or by all of these.

    Without any of them, popular items. Disliked items are never shown.
    """
    from pipelines import grammar

    liked, disliked = grammar.parse_ids(history or ()), grammar.parse_ids(hide or ())
    from pipelines import console
    from pipelines.progress import ConsoleReporter
    from pipelines.recommend import print_recommendations

    loading = {"encoders": encoders, "device": device, "dtype": dtype, "trust_code": trust_code}
    with mmrec.open(store, events=events, kinds=kinds, reporter=ConsoleReporter(), **loading) as opened:
        found = opened.recommend(
            user,
            history=[*((item, "like") for item in liked), *((item, "hide") for item in disliked)],
            text=text,
            k=k,
            where=where,
            exclude_seen=exclude_seen,
            diversity=diversity,
            explain=explain,
        )
    if found.unknown_user:
        rest = "the other options" if liked or disliked or text else "popular items"
        console.warn(f"There is no event of user {user!r}; the list is made from {rest}.")
    print_recommendations(found, options.Display(as_json, explain, None, where is not None))
