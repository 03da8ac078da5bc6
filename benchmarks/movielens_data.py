"""ml-100k as the benchmark uses it: events, splits and contents."""

import json
from dataclasses import dataclass, replace
from functools import cached_property
from os import getpid
from pathlib import Path

import numpy as np
import pyarrow as pa

from benchmarks.report import WORK
from mmrec.encoders.packaged.minilm import SPACE, MiniLM
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import EventArrays
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.kinds import Kinds
from mmrec.events.splits import Split, hold_out_items, leave_one_out, time_cutoff, time_split
from mmrec.examples import ml_100k_folder, write_films
from mmrec.types import Modality

__all__ = ["MovieLens"]

RULES = Cleaning(kinds=Kinds(ratings={}), item_events=5)
"""Every rating counts as an event, whatever its stars, as in published figures."""
NOW = 1_000_000_000_000_000
"""A moment after all events; the youngest are of 1998."""
YEARS = np.array([1930, 1950, 1960, 1970, 1980, 1985, 1990, 1993, 1994, 1995, 1996, 1997, 1998])
WIDTHS = np.array([15, 10, 8, 8, 5, 4, 3, 1, 0.7, 0.7, 0.7, 0.7, 0.7])
_AT_ONCE = 64


@dataclass(frozen=True)
class MovieLens:
    """1,349 films with five events or more, by 943 people.

    Attributes:
        work: Where the vectors of texts are kept between runs.

    """

    work: Path = WORK / "movielens"

    @cached_property
    def events(self) -> EventArrays:
        """All events of the films that have five or more, in the order of the file where times are equal."""
        return clean(_read(ml_100k_folder() / "ml-100k.inter"), RULES, now=NOW)[0]

    @cached_property
    def films(self) -> dict[str, dict[str, object]]:
        """Title, year and genres by id."""
        catalog = write_films(self.work / "catalog.jsonl")
        rows = [json.loads(line) for line in catalog.read_text(encoding="utf-8").splitlines()]
        return {str(row["id"]): row for row in rows}

    @cached_property
    def known(self) -> KnownItems:
        """The films with their row numbers."""
        met = np.unique(self.events.items)
        return KnownItems.numbered(self.events.item_ids.take(pa.array(met)).to_pylist())

    @cached_property
    def rows(self) -> np.ndarray:
        """Row number of each film, ascending."""
        return np.sort(self.known.rows)

    @cached_property
    def contents(self) -> np.ndarray:
        """Content of each film, in the order of `rows`: text, genres and year, each a unit vector."""
        films = [self.films[self.known.ids[int(place)].as_py()] for place in np.argsort(self.known.rows)]
        parts = (_texts(films, self.work / "texts.npy"), _genres(films), _years(films))
        return np.concatenate([part / np.linalg.norm(part, axis=1, keepdims=True) for part in parts], axis=1).astype(
            np.float32
        )

    def split(self, name: str, seed: int = 0) -> Split:
        """``loo``, ``time`` (cutoff at 90% of the events) or ``cold`` (leave-one-out with 10% of the films unseen)."""
        if name == "time":
            events = self.events
            rules = replace(RULES, item_events=1)
            return time_split(events, self.known, time_cutoff(events, 0.9, rules, NOW), rules, NOW)
        split = leave_one_out(Histories.of(self.events, self.known), RULES)
        return split if name == "loo" else hold_out_items(split, self.known, 0.1, seed)


def _read(path: Path) -> EventArrays:
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    people, users = _coded([line[0] for line in lines])
    item_ids, items = _coded([line[1] for line in lines])
    return EventArrays(
        people,
        item_ids,
        ("rate",),
        users.astype(np.int32),
        items.astype(np.int32),
        np.zeros(len(lines), dtype=np.int16),
        np.array([int(float(line[3])) * 1_000_000 for line in lines], dtype=np.int64),
        np.arange(len(lines), dtype=np.int64),
        np.array([float(line[2]) for line in lines], dtype=np.float32),
    )


def _coded(ids: list[str]) -> tuple[pa.StringArray, np.ndarray]:
    names, places = np.unique(np.array(ids), return_inverse=True)
    return pa.array(names.tolist(), pa.string()), places


def _texts(films: list[dict[str, object]], kept: Path) -> np.ndarray:
    """Vectors of title, year and genres as one text; kept with a file name that says of what."""
    kept = kept.with_name(f"texts-{SPACE.fingerprint[:12]}-{len(films)}.npy")
    if kept.exists():
        return np.load(kept, allow_pickle=False)
    encoder = MiniLM()
    samples = [encoder.prepare(Modality.TEXT, f"{row['title']} ({row['year']}), {row['genres']}") for row in films]
    groups = [samples[start : start + _AT_ONCE] for start in range(0, len(samples), _AT_ONCE)]
    vectors = np.concatenate([encoder.encode(Modality.TEXT, group)[SPACE.name] for group in groups])
    kept.parent.mkdir(parents=True, exist_ok=True)
    beside = kept.with_name(f"{getpid()}-{kept.name}")
    np.save(beside, vectors, allow_pickle=False)
    beside.replace(kept)
    return vectors


def _genres(films: list[dict[str, object]]) -> np.ndarray:
    own = [set(str(film["genres"]).split(", ")) for film in films]
    names = sorted(set.union(*own))
    return np.array([[name in genres for name in names] for genres in own], dtype=np.float64)


def _years(films: list[dict[str, object]]) -> np.ndarray:
    """Years as soft memberships in spans that are a year wide where most films are."""
    years = np.array([[float(str(film["year"] or 1990))] for film in films])
    return np.exp(-(((years - YEARS) / WIDTHS) ** 2) / 2) + 1e-6
