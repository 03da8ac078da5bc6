"""The command that lays two generations side by side."""

from pathlib import Path
from typing import Annotated

import typer

from pipelines import grammar, options

__all__ = ["commands"]

commands = typer.Typer()


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
    counting = grammar.parse_against(against)
    chosen = grammar.parse_device(device)
    from pipelines import compare as job
    from pipelines.media import opened_media

    named = tuple(encoders or ())
    asked = job.CompareOptions(store, generations, queries, k, counting, named, chosen, dtype, trust_code)
    with opened_media(media_root, allow_fetch=allow_fetch) as media:
        job.print_comparison(job.compare(asked, media), as_json=as_json)
