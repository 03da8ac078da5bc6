"""Commands that index and move vectors: index, reindex, import-vectors, export."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from pipelines import options
from pipelines.outcome import ExitCode

commands = typer.Typer()


@commands.command(
    epilog="Example: mmrec index songs.parquet my-store --id track --text title,artist --image cover --audio clip"
)
def index(
    source: Annotated[
        str,
        typer.Argument(metavar="SOURCE", help="File, folder, URL, pattern, hf:NAME, or a .toml.", show_default=False),
    ],
    store: options.StoreArgument,
    *,
    id_column: Annotated[str | None, typer.Option("--id", metavar="COL", help="Column of the items' ids.")] = None,
    text: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Text columns, joined in order.")] = None,
    image: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns of images.")] = None,
    audio: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns of audio.")] = None,
    metadata: options.MetadataOption = None,
    types: Annotated[
        list[str] | None, typer.Option(metavar="COL=TYPE", help="Types of metadata columns, as year=integer.")
    ] = None,
    deleted: Annotated[str | None, typer.Option(metavar="COL", help="Column that marks items to remove.")] = None,
    encoding: options.EncodingOption = None,
    encoders: Annotated[
        str | None,
        typer.Option(metavar="packaged|hub|KIND=MODEL|FILE|DIR", help="Encoders.", show_default="packaged"),
    ] = None,
    weights: options.WeightsOption = None,
    keep_missing: Annotated[
        bool, typer.Option("--keep-missing", help="Keep items that are no longer in the source.")
    ] = False,
    add: Annotated[bool, typer.Option("--add", help="The source holds only changes; remove nothing else.")] = False,
    prune: Annotated[bool, typer.Option("--prune", help="Let more than half of the items be removed.")] = False,
    refit: options.RefitOption = False,
    index_recipe: options.IndexRecipeOption = None,
    index_memory: options.IndexMemoryOption = None,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    device: Annotated[str | None, options.DEVICE] = None,
    dtype: Annotated[str | None, options.DTYPE] = None,
    strict: options.StrictOption = False,
    force: options.ForceOption = False,
    trust_code: options.TrustCodeOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree to the columns that are guessed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Index a catalog, or bring its store up to date; only what is missing is computed.

    Without columns they are guessed, shown, and used once you agree. A SOURCE that ends in .toml says all this itself.
    """
    from mmrec.sources.columns import ColumnSpec
    from pipelines import grammar

    texts, images, audios, kept = (grammar.parse_columns(given or ()) for given in (text, image, audio, metadata))
    settings = {
        "columns": ColumnSpec(id_column or "", texts, images, audios, kept, deleted),
        "types": grammar.parse_types(types) if types else None,
        "encoding": encoding,
        "encoders": encoders,
        "weights": None if weights is None else grammar.parse_weights(weights),
        "keep_missing": keep_missing,
        "add": add,
        "prune": prune,
        "refit": refit,
        "index": index_recipe,
        "index_memory": index_memory,
        "media_root": media_root,
        "allow_fetch": allow_fetch,
        "device": device,
        "dtype": dtype,
        "force": force,
        "trust_code": trust_code,
        "yes": yes,
    }
    _run(source, store, settings, strict=strict, as_json=as_json)


@commands.command(epilog="Example: mmrec reindex my-store --encoders my-encoders/encoders")
def reindex(
    store: options.StoreArgument,
    *,
    encoders: Annotated[
        str | None,
        typer.Option(metavar="packaged|hub|KIND=MODEL|FILE|DIR", help="New encoders.", show_default="the store's own"),
    ] = None,
    weights: options.WeightsOption = None,
    refit: options.RefitOption = False,
    index_recipe: options.IndexRecipeOption = None,
    index_memory: options.IndexMemoryOption = None,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "fp32",
    strict: options.StrictOption = False,
    force: options.ForceOption = False,
    trust_code: options.TrustCodeOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go on though the store has a trained tower.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Encode a store's own items with other encoders, as after `mmrec finetune`.

    No source is needed; media are read again from their addresses. The current generation answers until all is done.
    """
    from pipelines import grammar

    settings = {
        "encoders": encoders,
        "weights": None if weights is None else grammar.parse_weights(weights),
        "refit": refit,
        "index": index_recipe,
        "index_memory": index_memory,
        "media_root": media_root,
        "allow_fetch": allow_fetch,
        "device": device,
        "dtype": dtype,
        "force": force,
        "trust_code": trust_code,
        "yes": yes,
    }
    _run(None, store, settings, strict=strict, as_json=as_json)


def _run(source: str | None, store: Path, settings: Mapping[str, Any], *, strict: bool, as_json: bool) -> None:
    """Index with the settings that were given on the command line; None and False are left to a catalog file."""
    from dataclasses import asdict

    from mmrec.compute import check_device
    from mmrec.jobs.index import run
    from mmrec.jobs.index_options import IndexOptions, with_spec
    from pipelines import answers, console
    from pipelines.progress import ConsoleReporter

    check_device(settings["device"] or "auto")
    given = {name: value for name, value in settings.items() if value is not None and value is not False}
    summary = run(with_spec(IndexOptions(source, store, **given), given), ConsoleReporter())
    answers.print_values(asdict(summary), as_json=as_json)
    if summary.quarantined:
        console.warn(f"{summary.quarantined:,} left out; their reasons: mmrec quarantine {store}")
        if strict:
            raise typer.Exit(ExitCode.PARTLY)


@commands.command(
    "import-vectors", epilog="Example: mmrec import-vectors my-store clip.parquet --space clip --modality image"
)
def import_vectors(
    store: options.StoreArgument,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="Parquet or dataset of vectors.", show_default=False)],
    *,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Name of their space.")] = None,
    modality: Annotated[str | None, typer.Option(metavar="text|image|audio", help="Their modality.")] = None,
    model: Annotated[str | None, typer.Option(metavar="TEXT", help="Model and revision that made them.")] = None,
    fingerprint: Annotated[
        str | None, typer.Option(metavar="HEX", help="Fingerprint of the encoder of queries.")
    ] = None,
    id_column: Annotated[
        str | None, typer.Option("--id", metavar="COL", help="Column of ids.", show_default="id")
    ] = None,
    hash_column: Annotated[
        str | None, typer.Option("--hash", metavar="COL", help="Or of the contents' BLAKE2b-128 hashes.")
    ] = None,
    vector: Annotated[str, typer.Option(metavar="COL", help="Column of vectors.")] = "vector",
    metadata: options.MetadataOption = None,
    add_items: Annotated[bool, typer.Option("--add-items", help="Add an item for each new id.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if a row was rejected.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Import vectors made by other programs, as a space of their own; a new store can consist of them alone.

    A row's vector belongs to its item's content of that modality, or to the item itself if it has none.
    """
    from mmrec.exchange.importing import Import
    from mmrec.exchange.vector_files import VectorColumns
    from mmrec.exchange.vectors_of import Declaration
    from mmrec.jobs import upkeep as job
    from pipelines import answers, console, grammar
    from pipelines.progress import ConsoleReporter

    ids = id_column if id_column is not None or hash_column is not None else "id"
    how = Import(
        VectorColumns(ids, hash_column, vector, grammar.parse_columns(metadata or ())),
        Declaration(space, grammar.parse_modality(modality), model, fingerprint),
        add_items,
    )
    summary = job.run_import_vectors(store, file, how, ConsoleReporter())
    answers.print_values(summary, as_json=as_json)
    if summary["quarantined"]:
        console.warn(f"{summary['quarantined']:,} rows left out; their reasons: mmrec quarantine {store}")
        if strict:
            raise typer.Exit(ExitCode.PARTLY)


@commands.command(epilog="Example: mmrec export my-store vectors.parquet --where \"category = 'animals'\"")
def export(
    store: options.StoreArgument,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="A .parquet file, or a directory.", show_default=False)],
    *,
    space: Annotated[str | None, typer.Option(metavar="NAME", help="Contents in this space, not items.")] = None,
    generation: Annotated[int | None, typer.Option(metavar="N", min=1, help="Default: the current one.")] = None,
    where: options.WhereOption = None,
    layout: Annotated[
        str | None, typer.Option("--format", metavar="parquet|datasets", help="By the name of OUT if not given.")
    ] = None,
    dtype: Annotated[str, typer.Option(metavar="FORMAT", help="float16 or float32.")] = "float16",
    vector_column: Annotated[str, typer.Option(metavar="COL", help="Name of the column of vectors.")] = "vector",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an existing export.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Write ids, metadata and vectors to Parquet or a Hugging Face datasets directory.

    The file names the space of the vectors; only vectors of the same fingerprint can be compared.
    """
    from mmrec.exchange.export import Export
    from mmrec.jobs import upkeep as job
    from pipelines import answers, grammar

    how = Export(
        space,
        generation,
        where,
        grammar.parse_vector_format(dtype),
        job.chosen_format(layout, out),
        vector_column,
        overwrite,
    )
    answers.print_values(job.run_export(store, out, how), as_json=as_json)
