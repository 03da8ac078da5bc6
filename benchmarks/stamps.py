"""Retrieval quality out of the box, on Tux Paint's stamps: ``python -m benchmarks.stamps``.

One store, asked through the public interface. P@1: the nearest other item is of the same top folder. R@10: a text of
an item as query, the picture or sound of the items alone as answer; a hit where an item that carries the query's very
text is among the ten (texts repeat). Pictures: all 785 PNG stamps with a text, and those of seven photo-like folders;
once also with the drawings that are SVG. Combined: all modalities of all 961 items.
Sounds: the effects that are not spoken letters or numbers; four of them are silent, cannot be encoded, and count as
misses.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mmrec
from benchmarks.report import WORK, arguments, show
from mmrec.compute import configure_threads
from mmrec.encoders.presets import load_encoders
from mmrec.examples import fetch_stamps, write_stamps
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.source import open_source
from mmrec.storage.layout import Layout

PHOTO_LIKE = ("animals", "food", "household", "vehicles", "clothes", "plants", "hobbies")
SPOKEN = ("symbols/alphabets/", "symbols/math/")
COLUMNS = ColumnSpec("id", ("text",), ("picture",), ("sound",), ("category", "subcategory"))
FLOORS = {
    "picture_picture_p1": 0.81,
    "text_text_p1": 0.77,
    "sound_sound_p1": 0.60,
    "text_picture_r10": 0.30,
    "text_picture_photo_r10": 0.56,
    "text_sound_r10": 0.36,
}


@dataclass(frozen=True, slots=True)
class Stamp:
    """One row of the catalog."""

    id: str
    text: str | None
    picture: str
    sound: str | None
    category: str


def main() -> None:
    """Measure and print."""
    quick = arguments(__doc__ or "").quick
    stamps, engine = prepared()
    step = 8 if quick else 1
    effects = [stamp for stamp in stamps if stamp.sound and not stamp.id.startswith(SPOKEN)]
    png = [stamp for stamp in stamps if stamp.text and stamp.picture.endswith(".png")]
    photo = [stamp for stamp in png if stamp.category in PHOTO_LIKE]
    texts = [stamp for stamp in stamps if stamp.text]
    figures = {
        "picture_picture_p1": same_folder(engine, png[::step], png, {"image"}),
        "picture_picture_with_svg_p1": same_folder(engine, stamps[::step], stamps, {"image"}),
        "text_text_p1": same_folder(engine, texts[::step], stamps, {"text"}),
        "sound_sound_p1": same_folder(engine, effects[::step], effects, {"audio"}),
        "text_picture_r10": found_by_text(engine, png[::step], png, {"image"}),
        "text_picture_photo_r10": found_by_text(engine, photo[::step], photo, {"image"}),
        "text_sound_r10": found_by_text(engine, effects[::step], effects, {"audio"}),
        "combined_p1": same_folder(engine, stamps[::step], stamps, None),
    }
    rows = [("figure", "measured", "floor"), *((name, value, FLOORS.get(name, "")) for name, value in figures.items())]
    show("Retrieval on the stamps", rows, figures)


def prepared() -> tuple[list[Stamp], mmrec.Store]:
    """The catalog, and a store that holds it; vectors are kept from run to run."""
    configure_threads()
    catalog = write_stamps(fetch_stamps(Path(".cache/stamps")), WORK / "stamps.jsonl")
    rows = [json.loads(line) for line in catalog.read_text().splitlines()]
    stamps = [Stamp(row["id"], row["text"], row["picture"], row["sound"], row["category"]) for row in rows]
    source = open_source(catalog, COLUMNS)
    encoders = load_encoders("packaged")
    layout = Layout(WORK / "stamps-store")
    mmrec.index_items(source, source.metadata_schema, layout, encoders, mmrec.Indexing(refit=True))
    return stamps, mmrec.open(layout.root, encoders=encoders)


def same_folder(engine: mmrec.Store, asked: Sequence[Stamp], among: Sequence[Stamp], against: set[str] | None) -> float:
    """Share of items whose nearest other item is of the same top folder; an item in quarantine is a miss."""
    lost = {entry.id for entry in engine.quarantined()}
    where = _one_of(among)
    good = 0
    for stamp in asked:
        if against == {"audio"} and stamp.id in lost:
            continue
        hits = engine.similar(stamp.id, against=against, where=where, k=1).hits
        good += hits[0].metadata["category"] == stamp.category
    return good / len(asked)


def found_by_text(engine: mmrec.Store, asked: Sequence[Stamp], among: Sequence[Stamp], against: set[str]) -> float:
    """Share of items whose own text finds an item of that very text among the ten best."""
    where = _one_of(among)
    good = 0
    for stamp in asked:
        hits = engine.search(stamp.text or "", against=against, where=where, k=10).hits
        good += any(hit.text == stamp.text for hit in hits)
    return good / len(asked)


def _one_of(stamps: Sequence[Stamp]) -> str:
    return "id IN (" + ", ".join("'" + stamp.id.replace("'", "''") + "'" for stamp in stamps) + ")"


if __name__ == "__main__":
    main()
