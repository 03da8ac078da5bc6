"""A small shop for the tests of exports and imports."""

import pyarrow as pa

import mmrec
from mmrec.types import Field, Item, Modality

WORDS = ("apple", "boat", "cat", "drum", "engine", "flower", "guitar", "house", "island", "jacket", "kite", "lamp")
TITLES = {word: f"a {word}" for word in WORDS}
SHELVES = {word: "abc"[n % 3] for n, word in enumerate(WORDS)}
SCHEMA = pa.schema([("shelf", pa.string())])


def titles(texts):
    return [
        Item(name, (Field(Modality.TEXT, "title", text=text),), {"shelf": SHELVES.get(name)}, row)
        for row, (name, text) in enumerate(texts.items())
    ]


def index(layout, encoders, source, **how):
    return mmrec.index_items(source, SCHEMA, layout, encoders, mmrec.Indexing(**how))
