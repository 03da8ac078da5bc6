"""Print recommendations as a table or JSON."""

from collections.abc import Sequence
from dataclasses import asdict

from rich.table import Table

from mmrec.recommend.answer import Reason, Recommendations, Recommended
from pipelines import answers, console
from pipelines.options import Display

_SHOWN = 5
_SIMILARITY = (
    "A reason is the kind of event, the item of the history, and how similar the contents are (cosine: 1 is the same, "
    "0 has nothing in common), by modality."
)


def print_recommendations(found: Recommendations, display: Display) -> None:
    """Print a list as a table or as one JSON document, and say what it is based on."""
    if display.as_json:
        console.emit_json(_document(found))
    elif found.hits:
        console.data.print(_table(found.hits, explain=display.explain))
    if found.unknown:
        shown = ", ".join(found.unknown[:_SHOWN]) + (", ..." if len(found.unknown) > _SHOWN else "")
        console.warn(f"No item is called {shown}; that part of the history is ignored.")
    if not found.hits:
        wider = "Widen --where, or allow seen items with --allow-seen." if display.narrowed else "Try --allow-seen."
        console.note(f"Nothing found. {wider}")
    elif not display.as_json:
        console.note(_summary(found))
        if display.explain and any(hit.because for hit in found.hits):
            console.note(_SIMILARITY)


def _summary(found: Recommendations) -> str:
    count = f"{len(found.hits)} found in {found.seconds * 1000:.0f} ms, generation {found.generation}"
    parts = [f"{found.events:,} {'event' if found.events == 1 else 'events'}"] if found.events else []
    if found.interests:
        shares = ", ".join(f"{share:.0%}" for share in found.interests)
        parts.append(f"interests weighted {shares}, {found.short_share:.0%} from recent events")
    if found.popular_share:
        parts.append(f"{found.popular_share:.0%} by popularity")
    return f"{count}; {'; '.join(parts)}" if parts else count


def _document(found: Recommendations) -> dict[str, object]:
    rows = [
        {
            **answers.hit_document(hit),
            "source": hit.source,
            "interest": hit.interest,
            "because": [asdict(one) for one in hit.because],
        }
        for hit in found.hits
    ]
    rest = {name: value for name, value in asdict(found).items() if name != "hits"}
    return {"results": rows, **rest}


def _table(hits: Sequence[Recommended], *, explain: bool) -> Table:
    rows = [
        (
            rank,
            hit.score,
            hit.source if hit.interest is None else f"interest {hit.interest + 1}",
            hit.id,
            answers.text_of(hit),
            "; ".join(map(_reason, hit.because)) if explain else answers.known_metadata(hit),
        )
        for rank, hit in enumerate(hits, 1)
    ]
    last = "because of" if explain else "metadata"
    return console.table(("#", "score", "by", "id", "contents", last), rows, numbers=("#", "score"))


def _reason(one: Reason) -> str:
    named = f"{one.title} [{one.id}]" if one.title not in {"", one.id} else one.id
    several = ", ".join(f"{name} {share:.2f}" for name, share in one.shares.items()) if len(one.shares) > 1 else ""
    return f"{one.kind} {named} {one.similarity:.2f}{several and f' ({several})'}"
