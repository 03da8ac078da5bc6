"""Four small catalogs with real text vectors, each indexed once."""

import csv
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

import mmrec
from mmrec.encoders.packaged.minilm import MiniLM
from mmrec.storage.layout import Layout
from mmrec.types import Field, Item, Modality

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Catalog:
    """An open store, and the topic of each of its items."""

    engine: mmrec.Store
    topics: dict[str, str]

    def of(self, topic: str) -> list[str]:
        return [item for item, its in self.topics.items() if its == topic]

    def topics_of(self, answer: mmrec.Recommendations) -> list[str]:
        return [self.topics[hit.id] for hit in answer.hits]


@pytest.fixture(scope="session")
def text_encoder() -> MiniLM:
    """Return the packaged text encoder, loaded once."""
    return MiniLM()


@pytest.fixture(scope="session")
def catalogs(tmp_path_factory: pytest.TempPathFactory, text_encoder: MiniLM) -> Callable[[str], Catalog]:
    """Give a catalog by its name, indexed when it is first asked for; what is recorded in it stays."""
    made: dict[str, Catalog] = {}

    def catalog(name: str) -> Catalog:
        if name not in made:
            made[name] = index_catalog(name, tmp_path_factory.mktemp(name), text_encoder)
        return made[name]

    return catalog


@pytest.fixture
def shop(tmp_path: Path, text_encoder: MiniLM) -> Catalog:
    """Return a shop of its own, into which events can be recorded."""
    return index_catalog("shop", tmp_path / "shop", text_encoder)


def index_catalog(name: str, root: Path, encoder: MiniLM) -> Catalog:
    with (HERE / f"{name}.csv").open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len(rows) >= 40
    items = [
        Item(row["id"], (Field(Modality.TEXT, "text", text=row["text"]),), {"topic": row["topic"]}, number)
        for number, row in enumerate(rows, 1)
    ]
    mmrec.index_items(items, pa.schema([("topic", pa.string())]), Layout(root), [encoder], mmrec.Indexing())
    return Catalog(mmrec.open(root, encoders=[encoder]), {row["id"]: row["topic"] for row in rows})
