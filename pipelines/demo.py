"""The main job on real data: ``make demo``.

Indexes a catalog of images, texts and audio, runs one query of each kind, prints the results, and writes them as a
page. Where the stamps are not available, it uses the texts of MovieLens 100K.
"""

import sys
import time
from dataclasses import dataclass
from pathlib import Path

import mmrec
from mmrec import examples
from mmrec.compute import keep_freed_memory, let_waiting_threads_sleep
from mmrec.jobs.index_options import IndexOptions, IndexSummary
from mmrec.query import Part, Results
from mmrec.sources.columns import ColumnSpec
from pipelines import answers, console
from pipelines.contact_sheet import Section, write_sheet
from pipelines.options import Display
from pipelines.outcome import run_with_exit_code
from pipelines.progress import ConsoleReporter

WORK = Path(".cache/demo")
SHEET = Path("demo.html")


@dataclass(frozen=True, slots=True)
class Question:
    """One query of the demo, and its command line."""

    title: str
    parts: tuple[Part, ...]
    command: str
    against: frozenset[mmrec.Modality] | None = None
    where: str | None = None


def main() -> int:
    """Run the demo. Returns an exit code."""
    let_waiting_threads_sleep()
    keep_freed_memory()
    return run_with_exit_code(_demo, ["demo"])


def _demo() -> None:
    started = time.perf_counter()
    try:
        root = examples.fetch_stamps()
    except examples.StampsUnavailableError as error:
        console.warn(f"{error} Showing the films of MovieLens 100K instead.")
        store, summary = _films()
        questions = _film_questions()
    else:
        store, summary = _stamps(root)
        questions = _stamp_questions(root)
    console.data.print(f"\n[bold]{summary.items:,} items[/bold] in {store}, generation {summary.generation}")
    shown = {
        "encoded": summary.encoded or "nothing new",
        "quarantined": summary.quarantined,
        "seconds": summary.seconds,
    }
    console.data.print(console.pairs(shown))
    opened = mmrec.open(store)
    sections = [_run_query(opened, store, question) for question in questions]
    write_sheet(SHEET, sections)
    console.data.print(f"\nThe same as a page: [bold]{SHEET}[/bold]")
    console.note(f"{time.perf_counter() - started:.0f} s in all. Try the commands above.")


def _stamps(root: Path) -> tuple[Path, IndexSummary]:
    catalog = examples.write_stamps(root, WORK / "stamps.jsonl")
    columns = ColumnSpec("id", ("text",), ("picture",), ("sound",), ("category", "subcategory"))
    store = WORK / "stamps"
    return store, _index(IndexOptions(catalog, store, columns))


def _films() -> tuple[Path, IndexSummary]:
    catalog = examples.write_films(WORK / "films.jsonl")
    store = WORK / "films"
    columns = ColumnSpec("id", ("title", "genres"), metadata=("year", "genres"))
    return store, _index(IndexOptions(catalog, store, columns))


def _index(options: IndexOptions) -> IndexSummary:
    from mmrec.jobs.index import run  # noqa: PLC0415 - loads torch, and how threads wait is settled before that

    return run(options, ConsoleReporter())


def _stamp_questions(root: Path) -> tuple[Question, ...]:
    drawing, recording = root / "animals/birds/duck.png", root / "animals/mammals/pig.ogg"
    image = frozenset({mmrec.Modality.IMAGE})
    audio = frozenset({mmrec.Modality.AUDIO})
    return (
        Question("By text", (Part("text", "a boat on the water"),), '--text "a boat on the water"'),
        Question(
            "Images only, by text", (Part("text", "a ripe fruit"),), '--text "a ripe fruit" --against image', image
        ),
        Question(
            "Audio only, by text", (Part("text", "a bird singing"),), '--text "a bird singing" --against audio', audio
        ),
        Question("By image", (Part("image", str(drawing)),), f"--image {drawing}"),
        Question("By audio", (Part("audio", str(recording)),), f"--audio {recording}"),
        Question(
            "A mix: this image, but red and not a bird",
            (Part("image", str(drawing)), Part("text", "something red", 0.7), Part("text", "a bird", -0.5)),
            f'--image {drawing} --text "something red^0.7" --text "a bird^-0.5"',
        ),
        Question(
            "Filtered: vehicles only",
            (Part("text", "help in an emergency"),),
            '--text "help in an emergency" --where "category = \'vehicles\'"',
            where="category = 'vehicles'",
        ),
    )


def _film_questions() -> tuple[Question, ...]:
    return (
        Question("By text", (Part("text", "a journey through space"),), '--text "a journey through space"'),
        Question("Like an item", (Part("item", "1"),), "--item 1"),
        Question("A mix", (Part("item", "1"), Part("text", "horror", -0.5)), '--item 1 --text "horror^-0.5"'),
        Question(
            "Filtered: before 1950",
            (Part("text", "love and war"),),
            '--text "love and war" --where "year < 1950"',
            where="year < 1950",
        ),
    )


def _run_query(opened: mmrec.Store, store: Path, question: Question) -> Section:
    results: Results = opened.search(question.parts, against=question.against, where=question.where, k=5)
    console.data.print(f"\n[bold]{question.title}[/bold]\n[dim]mmrec search {store} {question.command} --explain[/dim]")
    answers.print_results(results, Display(as_json=False, explain=True, sheet=None, narrowed=bool(question.where)))
    items = {str(part.value): opened.show(str(part.value)) for part in question.parts if part.kind == "item"}
    return Section(question.title, question.parts, results, items)


if __name__ == "__main__":
    sys.exit(main())
