"""Commands that bring a catalog, or vectors made elsewhere, into a store, and take vectors out of it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipelines import options
from pipelines.outcome import ExitCode

if TYPE_CHECKING:
    from mmrec.jobs.index_options import IndexOptions

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
    image: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns of pictures.")] = None,
    audio: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns of sounds.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="COL,COL", help="Columns to filter and show.")] = None,
    types: Annotated[
        list[str] | None, typer.Option(metavar="COL=TYPE", help="Types of metadata columns, as year=integer.")
    ] = None,
    deleted: Annotated[str | None, typer.Option(metavar="COL", help="Column that marks items to remove.")] = None,
    encoding: options.EncodingOption = None,
    encoders: Annotated[
        str | None,
        typer.Option(metavar="packaged|hub|KIND=MODEL|FILE|DIR", help="Encoders.", show_default="packaged"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="text=1,image=1,audio=1", help="What each counts; `auto`: as it agrees with the texts."),
    ] = None,
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
    force: Annotated[bool, typer.Option("--force", help="Take up encoders that fine-tuning made worse.")] = False,
    trust_code: options.TrustCodeOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Agree to the columns that are guessed.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Index a catalog, or bring its store up to date; only what is missing is computed.

    Without columns they are guessed, shown, and used once you agree. A SOURCE that ends in .toml says all this itself.
    """
    from mmrec.compute import check_device
    from mmrec.jobs.index_options import IndexOptions, with_spec
    from mmrec.sources.columns import ColumnSpec
    from pipelines import grammar

    texts, images, sounds, kept = (grammar.parse_columns(given or ()) for given in (text, image, audio, metadata))
    columns = ColumnSpec(id_column or "", texts, images, sounds, kept, deleted)
    asked = IndexOptions(
        source=source,
        store=store,
        columns=columns,
        types=grammar.parse_types(types or ()),
        encoding=encoding,
        encoders=encoders,
        weights=None if weights is None else grammar.parse_weights(weights),
        keep_missing=keep_missing,
        add=add,
        prune=prune,
        refit=refit,
        index=index_recipe,
        index_memory=index_memory,
        device=check_device(device or "auto"),
        dtype=dtype or "fp32",
        media_root=media_root,
        allow_fetch=allow_fetch,
        yes=yes,
        force=force,
        trust_code=trust_code,
    )
    flags: dict[str, object] = {"types": types, "encoding": encoding, "encoders": encoders, "weights": weights}
    flags |= {"keep_missing": keep_missing, "add": add}
    flags |= {"device": device, "dtype": dtype, "media_root": media_root, "allow_fetch": allow_fetch}
    _run(with_spec(asked, [name for name, value in flags.items() if value]), strict=strict, as_json=as_json)


@commands.command(epilog="Example: mmrec reindex my-store --encoders my-encoders/encoders")
def reindex(
    store: options.StoreArgument,
    *,
    encoders: Annotated[
        str | None,
        typer.Option(metavar="packaged|hub|KIND=MODEL|FILE|DIR", help="New encoders.", show_default="the store's own"),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(metavar="text=1,image=1,audio=1", help="What each counts; `auto`: as it agrees with the texts."),
    ] = None,
    refit: Annotated[bool, typer.Option("--refit", help="Fit centring and projection anew.")] = False,
    index_recipe: Annotated[
        str | None, typer.Option("--index", metavar="auto|RECIPE", help="Index recipe, as IVF,SQ8; kept by later runs.")
    ] = None,
    index_memory: Annotated[
        float | None, typer.Option(metavar="GB", min=0, help="The most that a chosen index may take in memory.")
    ] = None,
    media_root: options.MediaRootOption = None,
    allow_fetch: options.AllowFetchOption = False,
    device: options.DeviceOption = "auto",
    dtype: options.DtypeOption = "fp32",
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 3 if anything was quarantined.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Take up encoders that fine-tuning made worse.")] = False,
    trust_code: options.TrustCodeOption = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Go on though the store has a trained tower.")] = False,
    as_json: options.AsJson = False,
) -> None:
    """Encode a store's own items with other encoders, as after `mmrec finetune`.

    No source is needed; media are read again from where they lie. The generation before serves until all is done.
    """
    from mmrec.compute import check_device
    from mmrec.jobs.index_options import IndexOptions
    from pipelines import grammar

    asked = IndexOptions(
        source=None,
        store=store,
        encoders=encoders,
        weights=None if weights is None else grammar.parse_weights(weights),
        refit=refit,
        index=index_recipe,
        index_memory=index_memory,
        device=check_device(device),
        dtype=dtype,
        media_root=media_root,
        allow_fetch=allow_fetch,
        yes=yes,
        force=force,
        trust_code=trust_code,
    )
    _run(asked, strict=strict, as_json=as_json)


def _run(asked: "IndexOptions", *, strict: bool, as_json: bool) -> None:
    from dataclasses import asdict

    from mmrec.jobs.index import run
    from pipelines import answers, console
    from pipelines.progress import ConsoleReporter

    summary = run(asked, ConsoleReporter())
    answers.print_values(asdict(summary), as_json=as_json)
    if summary.quarantined:
        console.warn(f"{summary.quarantined:,} left out; their reasons: mmrec quarantine {asked.store}")
        if strict:
            raise typer.Exit(ExitCode.PARTLY)


@commands.command(
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
    from pipelines import grammar

    columns = grammar.parse_columns(metadata or ())
    from mmrec.exchange.importing import Import
    from mmrec.exchange.vector_files import VectorColumns
    from mmrec.exchange.vectors_of import Declaration
    from mmrec.jobs import upkeep as job
    from pipelines import answers, console
    from pipelines.progress import ConsoleReporter

    ids = id_column if id_column is not None or hash_column is not None else "id"
    how = Import(
        VectorColumns(ids, hash_column, vector, columns),
        Declaration(space, grammar.parse_modality(modality), model, fingerprint),
        add_items,
    )
    told = job.run_import_vectors(store, file, how, ConsoleReporter())
    answers.print_values(told, as_json=as_json)
    if told["quarantined"]:
        console.warn(f"{told['quarantined']:,} rows left out; their reasons: mmrec quarantine {store}")
        if strict:
            raise typer.Exit(ExitCode.PARTLY)


@commands.command(epilog="Example: mmrec export my-store vectors.parquet --where \"category = 'animals'\"")
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
