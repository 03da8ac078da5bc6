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
    str | None, typer.Option("--media-root", metavar="DIR", help="Read no picture or sound that lies outside DIR.")
]

AllowFetchOption = Annotated[
    bool, typer.Option("--allow-fetch", help="Fetch pictures and sounds from public web addresses.")
]

SheetOption = Annotated[
    Path | None,
    typer.Option("--sheet", metavar="FILE.html", help="Also write a page with pictures and players.", dir_okay=False),
]


@dataclass(frozen=True, slots=True)
class Display:
    """How an answer is shown.

    Attributes:
        as_json: One JSON document rather than a table.
        explain: What each modality gave rather than the metadata.
        sheet: Where a page with pictures and players is also written, if anywhere.
        narrowed: Whether the question itself left items out, for the hint when nothing is found.

    """

    as_json: bool
    explain: bool
    sheet: Path | None
    narrowed: bool
