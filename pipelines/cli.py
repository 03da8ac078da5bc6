"""The command line's grammar. Each command reads its options, then imports what it needs and calls it."""

import sys
from pathlib import Path
from typing import Annotated

import typer

import mmrec
from mmrec.compute import let_waiting_threads_sleep
from pipelines import grammar, options
from pipelines.events_cli import events_app
from pipelines.index_types import Columns, IndexOptions
from pipelines.outcome import ExitCode, run_app

__all__ = ["app", "main"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Index a catalog of text, pictures and sounds in one vector space, and search it.",
    epilog='Example: mmrec search my-store --text "a red boat" -k 5',
)


app.add_typer(events_app, name="events")


def main() -> None:
    """Run the command `mmrec`."""
    let_waiting_threads_sleep()
    sys.exit(run_app(app, sys.argv[1:]))


def _show_version(asked: bool) -> bool:
    if asked:
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
    """Declare what stands before any command; `run_app` reads it from the command line itself."""
    del debug, version


@app.command(
    epilog="Example: mmrec index songs.parquet my-store --id track --text title,artist --image cover --audio clip"
)
def index(
    source: Annotated[str, typer.Argument(metavar="SOURCE", help="File, folder, URL, pattern, hf:NAME, or a .toml.")],
    store: options.StoreArgument,
    *,
    id_column: Annotated[str | None, typer.Option("--id", metavar="COL", help="Column of the items' ids.")] = None,
    text: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Text columns, joined in order.")] = None,
    image: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns of pictures.")] = None,
    audio: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns of sounds.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns to filter and show.")] = None,
    deleted: Annotated[str | None, typer.Option(metavar="COL", help="Column that marks items to remove.")] = None,
    encoders: Annotated[
        str | None,
        typer.Option(metavar="packaged|hub|KIND=MODEL|FILE", help="Encoders.", show_default="packaged"),
    ] = None,
    weights: Annotated[str | None, typer.Option(metavar="text=1,image=1,audio=1", help="What each counts.")] = None,
    keep_missing: Annotated[bool, typer.Option("--keep-missing", help="Keep items the source has no more.")] = False,
    add: Annotated[bool, typer.Option("--add", help="The source holds changes alone; remove nothing else.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Let more than half of the items be removed.")] = False,
    refit: Annotated[bool, typer.Option("--refit", help="Fit centring and projection anew.")] = False,
    index_recipe: Annotated[
        str | None, typer.Option("--index", metavar="auto|RECIPE", help="Index recipe, as IVF,SQ8; kept by later runs.")
    ] = None,
    index_memory: Annotated[
        float | None, typer.Option(metavar="GB", min=0, help="The most that a chosen index may take in memory.")
    ] = None,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    device: Annotated[str | None, options.DEVICE] = None,
    dtype: Annotated[str | None, options.DTYPE] = None,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if anything was quarantined.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree to the columns that are guessed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Index a catalog, or bring its store up to date; only what is missing is computed.

    Without columns they are guessed, shown, and used once you agree. A SOURCE that ends in .toml says all this itself.
    """
    texts, images, sounds, kept = (grammar.parse_columns(given or ()) for given in (text, image, audio, metadata))
    columns = Columns(id_column, texts, images, sounds, kept, deleted)
    asked = IndexOptions(
        source=source,
        store=store,
        columns=columns,
        encoders=encoders,
        weights=None if weights is None else grammar.parse_weights(weights),
        keep_missing=keep_missing,
        add=add,
        prune=prune,
        refit=refit,
        index=index_recipe,
        index_memory=index_memory,
        device=grammar.parse_device(device or "auto"),
        dtype=dtype or "fp32",
        media_root=media_root,
        allow_fetch=allow_fetch,
        yes=yes,
    )
    from dataclasses import asdict

    from pipelines import answers, console
    from pipelines.index import run
    from pipelines.spec import with_spec

    flags = {"encoders": encoders, "weights": weights, "keep_missing": keep_missing, "add": add}
    flags |= {"device": device, "dtype": dtype, "media_root": media_root, "allow_fetch": allow_fetch}
    summary = run(with_spec(asked, [name for name, value in flags.items() if value]))
    answers.print_values(asdict(summary), as_json=as_json)
    if summary.quarantined:
        console.warn(f"{summary.quarantined:,} left out; their reasons: mmrec quarantine {store}")
        if strict:
            raise typer.Exit(ExitCode.PARTLY)


@app.command(epilog='Example: mmrec search my-store --text "red boat^0.7" --image boat.png --against image -k 5')
def search(
    store: options.StoreArgument,
    *,
    text: Annotated[list[str] | None, typer.Option(metavar="TEXT[^W]", help="A text.")] = None,
    image: Annotated[list[str] | None, typer.Option(metavar="FILE[^W]", help="A picture.")] = None,
    audio: Annotated[list[str] | None, typer.Option(metavar="FILE[^W]", help="A sound.")] = None,
    item: Annotated[list[str] | None, typer.Option(metavar="ID[^W]", help="An item of the store.")] = None,
    encoders: options.EncodersOption = None,
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
    from pipelines import answers
    from pipelines.media import opened_media
    from pipelines.parts import parse_parts

    parts = parse_parts({"text": text, "image": image, "audio": audio, "item": item})
    display = options.Display(as_json, explain, sheet, bool(counting or where))
    with opened_media(media_root, allow_fetch=allow_fetch) as media:
        engine = mmrec.open(store, encoders=encoders, device=grammar.parse_device(device), dtype=dtype, media=media)
        results = engine.search(parts, against=counting, where=where, k=k)
        answers.deliver(parts, results, display, engine.show, media)


@app.command(epilog="Example: mmrec similar my-store item-42 --where \"category = 'animals'\" --sheet near.html")
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


@app.command(epilog="Example: mmrec show my-store item-42")
def show(
    store: options.StoreArgument,
    item: Annotated[str, typer.Argument(metavar="ID", help="The item's id.", show_default=False)],
    *,
    as_json: options.AsJson = False,
) -> None:
    """Show what one item is made of."""
    from pipelines import answers

    answers.print_hit(mmrec.open(store).show(item), as_json=as_json)


@app.command("list", epilog="Example: mmrec list my-store --where \"category = 'animals'\" --limit 20")
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


@app.command(epilog="Example: mmrec status my-store --json")
def status(store: options.StoreArgument, *, as_json: options.AsJson = False) -> None:
    """Show what a store holds and how it was made."""
    from pipelines import answers

    answers.print_values(mmrec.open(store).status(), as_json=as_json)


@app.command(epilog="Example: mmrec quarantine my-store --retry")
def quarantine(
    store: options.StoreArgument,
    *,
    retry: Annotated[bool, typer.Option("--retry", help="Read and encode it again, without the source.")] = False,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=0, help="Most that are listed; 0 for all.", show_default="50")
    ] = None,
    encoders: options.EncodersOption = None,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "fp32",
    as_json: options.AsJson = False,
) -> None:
    """List what was left out of the store, and why; or try it again.

    With --json all of it is listed, unless there is a --limit.
    """
    from pipelines import answers
    from pipelines import quarantine as job

    if retry:
        chosen = grammar.parse_device(device)
        told = job.retry(store, encoders, chosen, dtype, media_root=media_root, allow_fetch=allow_fetch)
        answers.print_values(told, as_json=as_json)
    else:
        job.show(store, limit, as_json=as_json)


@app.command(epilog="Example: mmrec delete my-store item-42 item-43")
def delete(
    store: options.StoreArgument,
    items: Annotated[list[str], typer.Argument(metavar="ID...", help="The items' ids.", show_default=False)],
    *,
    as_json: options.AsJson = False,
) -> None:
    """Delete items; they are gone from searches at once."""
    from pipelines import answers, console

    deleted = mmrec.open(store).delete(items)
    answers.print_values({"deleted": deleted}, as_json=as_json)
    unknown = len(set(items)) - deleted
    if unknown:
        console.warn(f"{unknown} of the ids given were not in {store}.")


@app.command(epilog="Example: mmrec generations my-store")
def generations(store: options.StoreArgument, *, as_json: options.AsJson = False) -> None:
    """List the generations of a store, the current one marked."""
    from pipelines import answers

    engine = mmrec.open(store)
    rows = answers.generation_rows(engine.generations(), current=engine.status()["generation"])
    answers.print_rows("generations", rows, as_json=as_json, empty="No generation yet: run mmrec index.")


@app.command(epilog="Example: mmrec rollback my-store 3")
def rollback(
    store: options.StoreArgument,
    number: Annotated[int | None, typer.Argument(metavar="[N]", min=1, help="Which one; without it the last.")] = None,
    *,
    as_json: options.AsJson = False,
) -> None:
    """Make an earlier generation current again: its fusion, vectors and index.

    The items stay as they are now: what was edited or deleted since is not brought back.
    """
    from pipelines import answers

    answers.print_values({"generation": mmrec.open(store).rollback(number)}, as_json=as_json)


@app.command(epilog="Example: mmrec export my-store vectors.parquet --where \"category = 'animals'\"")
def export(
    store: options.StoreArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .parquet file, or a directory.", show_default=False)],
    *,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Contents in this space, not items.")] = None,
    generation: Annotated[int | None, typer.Option(metavar="N", min=1, help="Whose; the current by default.")] = None,
    where: options.WhereOption = None,
    layout: Annotated[
        str | None, typer.Option("--format", metavar="parquet|datasets", help="By the name of OUT if not given.")
    ] = None,
    dtype: Annotated[str, typer.Option(metavar="FORMAT", help="float16 or float32.")] = "float16",
    vector_column: Annotated[str, typer.Option(metavar="COL", help="Name of the column of vectors.")] = "vector",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an export that is there.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write ids, metadata and vectors to Parquet or a Hugging Face datasets directory.

    The file says which space the vectors are of; they compare only with vectors of the same fingerprint.
    """
    from mmrec.exchange.export import Export
    from pipelines import answers
    from pipelines import export as job

    how = Export(
        space,
        generation,
        where,
        grammar.parse_vector_format(dtype),
        job.chosen_format(layout, out),
        vector_column,
        overwrite,
    )
    answers.print_values(job.run(store, out, how), as_json=as_json)


@app.command(epilog="Example: mmrec verify my-store --full")
def verify(
    store: options.StoreArgument,
    *,
    full: Annotated[bool, typer.Option("--full", help="Compare all items with their contents, not a sample.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Check a store: checksums, counts, pairing, fingerprints and recall. Ends with 1 where something is broken.

    Nothing is changed. What is broken is named, with the commands that mend it.
    """
    from pipelines import upkeep

    if not upkeep.verify(store, full=full, as_json=as_json):
        raise typer.Exit(ExitCode.FAILURE)


@app.command(epilog="Example: mmrec mend my-store")
def mend(
    store: options.StoreArgument,
    *,
    encoders: Annotated[
        str | None, typer.Option(metavar="packaged|FILE.toml", help="Encoders, if the store needs your own.")
    ] = None,
    as_json: options.AsJson = False,
) -> None:
    """Put right what is damaged in a store, as far as that needs no source.

    What cannot be read is set aside, what can be read is kept, and a new generation is built from the stored vectors.
    Contents that lost their vector are encoded by the next mmrec index.
    """
    from pipelines import upkeep

    upkeep.mend(store, encoders=encoders, as_json=as_json)


@app.command(epilog="Example: mmrec gc my-store --keep 2 --dry-run")
def gc(
    store: options.StoreArgument,
    *,
    keep: Annotated[int, typer.Option(metavar="N", min=1, help="Generations kept, the current one included.")] = 2,
    unused_vectors: Annotated[
        bool, typer.Option("--unused-vectors", help="Also drop vectors of contents that no item has any more.")
    ] = False,
    grace: Annotated[float, typer.Option(metavar="MINUTES", min=0, help="Keep what was in use so recently.")] = 10,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would be removed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Remove old generations, old versions of tables, and what dead jobs left behind.

    What the generations kept were built from stays, and so does what a running job reads.
    """
    from datetime import timedelta

    from mmrec.store.collect import Policy
    from pipelines import upkeep

    policy = Policy(keep, unused_vectors, timedelta(minutes=grace), dry_run)
    upkeep.gc(store, policy, as_json=as_json)


@app.command(
    "import-vectors", epilog="Example: mmrec import-vectors my-store clip.parquet --space clip --modality image"
)
def import_vectors(
    store: options.StoreArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet or dataset of vectors.", show_default=False)],
    *,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="What their space is called.")] = None,
    modality: Annotated[str | None, typer.Option(metavar="text|image|audio", help="What they are vectors of.")] = None,
    model: Annotated[str | None, typer.Option(metavar="TEXT", help="What made them: model, revision.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(metavar="HEX", help="That of the encoder that is to encode queries.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COL", help="Column of ids.", show_default="id")
    ] = None,
    hash_column: Annotated[
        str | None, typer.Option("--hash", metavar="COL", help="Or of the contents' BLAKE2b-128 hashes.")
    ] = None,
    vector: Annotated[str, typer.Option(metavar="COL", help="Column of vectors.")] = "vector",
    metadata: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns to filter and show.")] = None,
    add_items: Annotated[bool, typer.Option("--add-items", help="Make items of ids that are new.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if any row was left out.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Bring in vectors made elsewhere, as a space of their own; a new store may be made of them alone.

    A row's vector is that of its item's content of the modality, or of the item itself where it has none.
    """
    columns = grammar.parse_columns(metadata or ())
    from mmrec.exchange.importing import Import
    from mmrec.exchange.spaces_of import Declaration
    from mmrec.exchange.vector_files import VectorColumns
    from pipelines import answers, console
    from pipelines import import_vectors as job

    ids = id_column if id_column is not None or hash_column is not None else "id"
    how = Import(
        VectorColumns(ids, hash_column, vector, columns),
        Declaration(space, grammar.parse_modality(modality), model, fingerprint),
        add_items,
    )
    told = job.run(store, file, how)
    answers.print_values(told, as_json=as_json)
    if told["quarantined"]:
        console.warn(f"{told['quarantined']:,} rows left out; their reasons: mmrec quarantine {store}")
        if strict:
            raise typer.Exit(ExitCode.PARTLY)
