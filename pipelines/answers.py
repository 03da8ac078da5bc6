"""Print results, items and named values as a table or as one JSON document."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC

from rich.table import Table

from mmrec.query import Hit, Part, Results
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.generations import Manifest
from mmrec.storage.quarantine import Quarantined
from pipelines import console
from pipelines.options import Display

_SHARES = (
    "A score is the sum of what each modality gives: its weight times the cosine of query and item (1 is the same, 0 "
    "has nothing in common)."
)


def results_document(results: Results) -> dict[str, object]:
    """Lay out an answer for JSON, best first."""
    return {
        "results": [hit_document(hit) for hit in results.hits],
        "generation": results.generation,
        "seconds": results.seconds,
    }


def hit_document(hit: Hit) -> dict[str, object]:
    """Lay out one item that was found, for JSON."""
    return {"id": hit.id, "score": hit.score, "shares": hit.shares, **item_document(hit)}


def item_document(hit: Hit) -> dict[str, object]:
    """Lay out one item without its score, for JSON."""
    return {"id": hit.id, "text": hit.text, "media": hit.media, "metadata": hit.metadata}


def text_of(hit: Hit) -> str:
    """Summarise an item: its text, or else the modalities of its media."""
    return hit.text or (f"({', '.join(hit.media)})" if hit.media else "")


def known_metadata(hit: Hit) -> dict[str, object]:
    """An item's metadata without missing values; numbers have no thousands separators."""
    return {name: console.unformatted(value) for name, value in hit.metadata.items() if value is not None}


def deliver(
    parts: Sequence[Part], results: Results, display: Display, show: Callable[[str], Hit], media: MediaAccess
) -> None:
    """Print results, and write their page where one is wanted.

    `show` looks up an item of the store by its id; `media` reads the images and audio of the page.
    """
    if display.sheet is not None:
        from pipelines.contact_sheet import Section, write_sheet  # noqa: PLC0415 (only a page needs the decoders)

        items = {str(part.value): show(str(part.value)) for part in parts if part.kind == "item"}
        write_sheet(display.sheet, (Section("Search results", tuple(parts), results, items),), media)
        console.note(f"The page is {display.sheet}")
    print_results(results, display)


def print_results(results: Results, display: Display) -> None:
    """Print an answer as a table or as one JSON document; say so when nothing was found."""
    if display.as_json:
        console.emit_json(results_document(results))
    elif results.hits:
        console.data.print(_table(results.hits, explain=display.explain))
    if not results.hits:
        wider = "Widen --where or --against." if display.narrowed else "The store holds nothing comparable."
        console.note(f"Nothing found. {wider}")
    elif not display.as_json:
        console.note(f"{len(results.hits)} found in {results.seconds * 1000:.0f} ms, generation {results.generation}")
        if display.explain:
            console.note(_SHARES)


def print_hit(hit: Hit, *, as_json: bool) -> None:
    """Print one item: text, media and metadata."""
    if as_json:
        console.emit_json(item_document(hit))
        return
    values = {"id": hit.id, "text": hit.text, **hit.media, **known_metadata(hit)}
    console.data.print(console.pairs({name: value for name, value in values.items() if value is not None}))


def print_items(items: Iterable[Hit], most: int | None, *, as_json: bool) -> None:
    """Print items, of which there are `most` at most, as a table or as one JSON document."""
    if as_json:
        console.emit_json_rows("items", (item_document(item) for item in items))
        return
    rows = [(item.id, text_of(item), known_metadata(item)) for item in items]
    if rows:
        console.data.print(console.table(("id", "contents", "metadata"), rows))
    if not rows:
        console.note("No item meets that.")
    elif len(rows) == most:
        console.note(f"The first {most:,}; --limit 0 lists all, --json gives all to a program.")


def print_values(values: Mapping[str, object], *, as_json: bool) -> None:
    """Print named values."""
    if as_json:
        console.emit_json(values)
    else:
        console.data.print(console.pairs(values))


def quarantine_rows(left_out: Iterable[Quarantined]) -> Iterator[dict[str, object]]:
    """Lay out entries of the quarantine: the source's row, from 1, its place, the item's id, column, reason, time."""
    for one in left_out:
        found = {"row": one.source_row, "where": one.where, "id": one.id, "column": one.column, "reason": one.reason}
        yield found | {"when": None if one.at is None else one.at.astimezone(UTC).replace(microsecond=0)}


def generation_rows(published: Sequence[Manifest], *, current: int) -> list[dict[str, object]]:
    """Lay out generations, oldest first."""
    return [
        {
            "number": one.number,
            "current": one.number == current,
            "created": one.created,
            "items": one.items,
            "dim": one.dim,
            "index": one.index_factory,
        }
        for one in published
    ]


def print_rows(name: str, rows: Sequence[Mapping[str, object]], *, as_json: bool, empty: str) -> None:
    """Print rows as a table, in JSON under `name`; `empty` is the message where there are none."""
    if as_json:
        console.emit_json({name: rows})
        return
    if not rows:
        console.note(empty)
        return
    headers = list(dict.fromkeys(header for row in rows for header in row))
    numbers = [h for h in headers if all(type(row.get(h)) in {int, float} for row in rows)]
    console.data.print(console.table(headers, ([row.get(h) for h in headers] for row in rows), numbers=numbers))


def _table(hits: Sequence[Hit], *, explain: bool) -> Table:
    names = tuple(dict.fromkeys(name for hit in hits for name in hit.shares)) if explain else ()
    last = () if explain else ("metadata",)
    rows = []
    for rank, hit in enumerate(hits, 1):
        shares = (hit.shares.get(name, "·") for name in names)
        rows.append((rank, hit.score, *shares, hit.id, text_of(hit), *(known_metadata(hit) for _ in last)))
    return console.table(("#", "score", *names, "id", "contents", *last), rows, numbers=("#", "score", *names))
