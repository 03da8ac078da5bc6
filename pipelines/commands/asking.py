"""Commands that ask a store: by text, picture, sound or item."""

from typing import Annotated

import typer

import mmrec
from pipelines import grammar, options

__all__ = ["commands"]

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
    counting = grammar.parse_against(against)
    from pipelines import answers, console
    from pipelines.media import opened_media
    from pipelines.parts import parse_parts

    parts = parse_parts({"text": text, "image": image, "audio": audio, "item": item})
    display = options.Display(as_json, explain, sheet, bool(counting or where))
    with opened_media(media_root, allow_fetch=allow_fetch) as media:
        engine = mmrec.open(
            store,
            encoders=encoders,
            device=grammar.parse_device(device),
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
    counting = grammar.parse_against(against)
    from mmrec.query import Part
    from pipelines import answers
    from pipelines.media import opened_media

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
