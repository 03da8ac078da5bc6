"""Whether text search survives training, on ml-100k: ``python -m benchmarks.movielens_search [--quick]``.

A store of the films (title, year and genres as text), the ratings as events. Queries are the names of the genres, right
where a film is of that genre, and titles, right where it is that film. They are asked through the public interface
before a tower is trained, and after it, of the generation that has the tower.
"""

import csv
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import mmrec
from benchmarks.report import WORK, arguments, show
from mmrec.compute import configure_threads
from mmrec.encoders.presets import load_encoders
from mmrec.events.log import open_log
from mmrec.examples import ml_100k_folder, write_films
from mmrec.jobs.events import ImportOptions, run_import
from mmrec.jobs.train import train_and_publish
from mmrec.sources.columns import ColumnSpec
from mmrec.sources.source import open_source
from mmrec.storage.layout import Layout
from mmrec.training.config import load_config

DEEP = 10
CONFIG = Path("pipelines/configs/train-small.toml")


def main() -> None:
    """Measure and print."""
    quick = arguments(__doc__ or "").quick
    configure_threads()
    layout = prepared(WORK / "movielens-search")
    engine = mmrec.open(layout.root)
    genres, titles = questions(50 if quick else 400)
    before = asked(engine, [*genres, *titles])
    log = open_log(layout.events)
    learned = train_and_publish(layout, log, load_config(CONFIG), layout.root / "training")
    log.close()
    after = asked(engine, [*genres, *titles])
    generations = {learned.manifest.number, engine.status()["generation"]}
    if not learned.manifest.has_tower or len(generations) > 1:
        raise RuntimeError(f"the trained generation was not the one asked: {generations}")
    rows: list[tuple[object, ...]] = [("queries", "measure", "before", "after")]
    rows += [(f"{len(genres)} genres", "precision@10", *(precision(one, genres) for one in (before, after)))]
    rows += [(f"{len(titles)} titles", "found in ten", *(found(one, titles, DEEP) for one in (before, after)))]
    rows += [(f"{len(titles)} titles", "found first", *(found(one, titles, 1) for one in (before, after)))]
    was, now = precision(before, genres), precision(after, genres)
    same = float(np.mean([before[text] == after[text] for text in before]))
    figures = {
        "search_precision_before": was,
        "search_precision_after": now,
        "search_precision_ratio": now / was,
        "search_titles_ratio": found(after, titles, DEEP) / found(before, titles, DEEP),
        "search_same_lists": same,
    }
    show(f"Text search on ml-100k, {len(learned.report.curve)} epochs of a tower between", rows, figures)


def prepared(root: Path) -> Layout:
    """A new store of all films and ratings."""
    shutil.rmtree(root, ignore_errors=True)
    layout = Layout(root)
    catalog = write_films(WORK / "movielens-search.jsonl")
    columns = ColumnSpec(id="id", text=("title", "year", "genres"), metadata=("title", "genres"))
    source = open_source(catalog, columns)
    mmrec.index_items(source, source.metadata_schema, layout, load_encoders("packaged"), mmrec.Indexing())
    run_import(ImportOptions(root, ml_100k_folder() / "ml-100k.inter", {}))
    return layout


def questions(most: int) -> tuple[dict[str, set[str]], dict[str, set[str]]]:
    """Genres and titles, each with the ids that are right; of the titles a seeded few."""
    genres: dict[str, set[str]] = {}
    titles: dict[str, set[str]] = {}
    with (ml_100k_folder() / "ml-100k.item").open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(lines)
        for item, title, _, names in lines:
            titles.setdefault(title, set()).add(item)
            for name in names.split():
                genres.setdefault(name, set()).add(item)
    known = {name: right for name, right in genres.items() if len(right) >= DEEP}
    drawn = np.random.default_rng(0).choice(sorted(titles), most, replace=False).tolist()
    return known, {title: titles[title] for title in drawn}


def asked(engine: mmrec.Engine, texts: Sequence[str]) -> dict[str, list[str]]:
    """The ids found for each text, best first."""
    return {text: [hit.id for hit in engine.search(text, k=DEEP).hits] for text in texts}


def precision(lists: Mapping[str, Sequence[str]], right: Mapping[str, set[str]]) -> float:
    """Mean share of right items in ten."""
    return float(np.mean([np.mean([item in wanted for item in lists[text]]) for text, wanted in right.items()]))


def found(lists: Mapping[str, Sequence[str]], right: Mapping[str, set[str]], deep: int) -> float:
    """Share of the texts whose own item is so far up."""
    return float(np.mean([bool(wanted.intersection(lists[text][:deep])) for text, wanted in right.items()]))


if __name__ == "__main__":
    main()
