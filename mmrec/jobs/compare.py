"""Compare two generations of a store on the same queries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from mmrec.comparing import Compared, compare_generations, read_judged_queries
from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder
from mmrec.encoders.queries import best_encoders, covers
from mmrec.generation.generation import Generation
from mmrec.queries import QueryMaker
from mmrec.reporting import SILENT, Reporter
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.layout import Layout
from mmrec.trust import check_encoders, is_consented, record_consent
from mmrec.types import Modality


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """One run of ``mmrec compare``.

    Attributes:
        store: The store's directory.
        generations: The two, of which the second is judged against the first.
        queries: File of queries.
        k: Length of the lists.
        against: Which modalities of the items count; all if None.
        encoders: What may have made the generations, beside what they name themselves and may be reopened.
        device: Where encoders run.
        dtype: Their number format.
        trust_code: Run code that is not this package's own where a folder in `encoders` names it.

    """

    store: Path
    generations: tuple[int, int]
    queries: Path
    k: int = 10
    against: frozenset[Modality] | None = None
    encoders: tuple[str, ...] = ()
    device: str = "auto"
    dtype: str = "fp32"
    trust_code: bool = False


def compare(asked: CompareOptions, media: MediaAccess, reporter: Reporter = SILENT) -> Compared:
    """Compare two generations on a file of queries. Raises UsageError, StoreError; see `mmrec.errors`."""
    layout = Layout(asked.store)
    layout.check()
    for given in asked.encoders:
        record_consent(layout, given)
    queries = read_judged_queries(asked.queries)

    @cache
    def load(source: str) -> Sequence[Encoder]:
        return load_encoders(source, device=asked.device, dtype=asked.dtype, trust_code=asked.trust_code)

    def maker_of(generation: Generation) -> QueryMaker:
        @cache
        def encoders(made_with: str) -> Sequence[Encoder]:
            return _encoders(layout, generation, made_with, asked.encoders, load, reporter)

        return QueryMaker(encoders, media)

    return compare_generations(layout, asked.generations, queries, maker_of, k=asked.k, against=asked.against)


def _encoders(
    layout: Layout,
    generation: Generation,
    made_with: str,
    given: Sequence[str],
    load: Callable[[str], Sequence[Encoder]],
    reporter: Reporter,
) -> Sequence[Encoder]:
    """The encoders given that fill a generation's spaces, or else what it was made with where that may be reopened."""
    spaces = [block.space for block in generation.fusion.blocks]
    found = best_encoders(map(load, given), spaces)
    if found is not None and (covers(found, spaces) or not is_consented(layout, made_with)):
        return found
    check_encoders(layout, made_with, reporter.confirm)
    return load(made_with)
