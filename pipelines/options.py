"""Options that several commands share."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

StoreArgument = Annotated[Path, typer.Argument(metavar="STORE", help="The store's directory.", show_default=False)]

AsJson = Annotated[bool, typer.Option("--json", help="One JSON document on stdout, everything else on stderr.")]

AgainstOption = Annotated[
    str | None,
    typer.Option(
        "--against", metavar="text,image,audio", help="Which modalities of the items count.", show_default="all"
    ),
]

WhereOption = Annotated[
    str | None,
    typer.Option("--where", metavar="SQL", help="Keep items whose metadata match, as in \"category = 'animals'\"."),
]

DEVICE = typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.")
DeviceOption = Annotated[str, DEVICE]

DTYPE = typer.Option(metavar="FORMAT", help="fp32; on a GPU also bf16 or fp16.")
DtypeOption = Annotated[str, DTYPE]

EventsOption = Annotated[
    str | None,
    typer.Option(
        "--events",
        metavar="URL",
        envvar="MMREC_EVENTS",
        help="Database of the events, as postgresql://user@host/db.",
        show_default="events.db in the store",
    ),
]

KindsOption = Annotated[
    Path | None,
    typer.Option("--kinds", metavar="FILE.toml", help="Weights and aliases of event kinds.", dir_okay=False),
]

WeightsOption = Annotated[
    str | None,
    typer.Option(
        "--weights",
        metavar="text=1,image=1,audio=1",
        help="Weight of each modality; `auto`: measured from its agreement with the texts.",
    ),
]

RefitOption = Annotated[bool, typer.Option("--refit", help="Fit centring and projection again.")]

IndexRecipeOption = Annotated[
    str | None,
    typer.Option("--index", metavar="auto|RECIPE", help="Index recipe, as IVF,SQ8; kept by later runs."),
]

IndexMemoryOption = Annotated[
    float | None,
    typer.Option("--index-memory", metavar="GB", min=0, help="Most memory of an index chosen automatically."),
]

ForceOption = Annotated[bool, typer.Option("--force", help="Use encoders although fine-tuning made them worse.")]

StrictOption = Annotated[bool, typer.Option("--strict", help="Exit with 3 if anything was quarantined.")]

MetadataOption = Annotated[
    list[str] | None, typer.Option("--metadata", metavar="COL,COL", help="Columns to filter and show.")
]

LimitOption = Annotated[
    int | None,
    typer.Option("--limit", metavar="N", min=0, help="Most entries listed; 0 for all.", show_default="50"),
]

EncodingOption = Annotated[
    str | None, typer.Option(metavar="NAME", help="Encoding of a CSV, as windows-1252.", show_default="utf-8")
]

EncodersOption = Annotated[
    str | None, typer.Option(metavar="packaged|hub|KIND=MODEL|FILE|DIR", help="Encoders, if the store needs your own.")
]

TrustCodeOption = Annotated[
    bool, typer.Option("--trust-code", help="Run code that is not mmrec's own where a folder of --encoders names it.")
]

HowMany = Annotated[int, typer.Option("-k", metavar="N", min=1, help="How many items to find.")]

ExplainOption = Annotated[bool, typer.Option("--explain", help="Show how much each modality gave.")]

MediaRootOption = Annotated[
    str | None, typer.Option("--media-root", metavar="DIR", help="Read no image or audio outside DIR.")
]

AllowFetchOption = Annotated[
    bool, typer.Option("--allow-fetch", help="Fetch images and audio from public web addresses.")
]

SheetOption = Annotated[
    Path | None,
    typer.Option("--sheet", metavar="FILE.html", help="Also write a page with images and players.", dir_okay=False),
]


@dataclass(frozen=True, slots=True)
class Display:
    """How an answer is shown.

    Attributes:
        as_json: One JSON document rather than a table.
        explain: The shares of each modality rather than the metadata.
        sheet: Where a page with images and players is also written, if anywhere.
        narrowed: Whether a filter was given, for the hint when nothing is found.

    """

    as_json: bool
    explain: bool
    sheet: Path | None
    narrowed: bool
