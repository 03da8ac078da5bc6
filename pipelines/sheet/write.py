"""Write the page."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from indexers.atomic import write_atomically
from mmrec.errors import UsageError
from mmrec.output import check_output
from mmrec.query import Hit, Part, Results
from mmrec.sources.media_access import MediaAccess
from pipelines.sheet.cards import query_parts, result_cards

__all__ = ["Section", "write_sheet"]


@dataclass(frozen=True, slots=True)
class Section:
    """One query and its answer.

    Attributes:
        title: Heading.
        parts: What was asked.
        results: What came back.
        items: Id -> contents, for the items that `parts` name.

    """

    title: str
    parts: tuple[Part, ...]
    results: Results
    items: Mapping[str, Hit] = field(default_factory=dict)


def write_sheet(out: Path, sections: Sequence[Section], media: MediaAccess | None = None) -> None:
    """Write one HTML file with all pictures and sounds inside; it needs no network and no script.

    `media` says how pictures and sounds are read; without it from anywhere but the web. A medium that cannot be read
    leaves a placeholder with the reason. Raises UsageError where the file cannot be written.
    """
    check_output(out)
    media = media or MediaAccess()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [
        {
            "title": section.title,
            "asked": query_parts(section.parts, section.items, media),
            "cards": result_cards(section.results, media),
            "generation": section.results.generation,
            "seconds": section.results.seconds,
        }
        for section in sections
    ]
    page = environment.get_template("sheet.html.jinja").render(sections=shown)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"the page {out} cannot be written: {error.strerror}; name another file") from error
