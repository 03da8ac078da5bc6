"""The job behind ``mmrec recommend``, and how its answer is printed."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.table import Table

import mmrec
from mmrec.recommend.answer import Reason, Recommendations, Recommended
from pipelines import answers, console

_SHOWN = 5
_SIMILARITY = (
    "Reason of: what was done with which item of the past, and how similar its contents are (cosine: 1 is the same, "
    "0 has nothing in common), by modality."
)


@dataclass(frozen=True, slots=True)
class RecommendOptions:
    """One run of ``mmrec recommend``.

    Attributes:
        store: The store's directory.
        user: Whose events the log is asked for.
        history: Ids of items that were liked, oldest first.
        hidden: Ids of items that were turned down.
        text: What the person says they like.
        k: How many items at most.
        where: SQL condition on the items.
        exclude_seen: Leave out what the person has met.
        diversity: From 0 to 1.
        explain: Say which items of the past speak for each.
        events: SQLAlchemy URL of the log; None is the store's own.
        kinds: TOML file with weights of kinds.
        encoders: Encoders, where the store needs other ones than it was made with.
        device: Where a text is encoded.
        dtype: The format of the numbers there.

    """

    store: Path
    user: str | None
    history: Sequence[str]
    hidden: Sequence[str]
    text: str | None
    k: int
    where: str | None
    exclude_seen: bool
    diversity: float
    explain: bool
    events: str | None
    kinds: Path | None
    encoders: str | None
    device: str
    dtype: str
    trust_code: bool = False


def run_recommend(asked: RecommendOptions) -> Recommendations:
    """Make a list. Raises UsageError, StoreError; see `mmrec.errors`."""
    opened = mmrec.open(
        asked.store,
        encoders=asked.encoders,
        device=asked.device,
        dtype=asked.dtype,
        events=asked.events,
        kinds=asked.kinds,
        confirm=console.confirmed,
        trust_code=asked.trust_code,
    )
    with opened as store:
        return store.recommend(
            asked.user,
            history=[*((item, "like") for item in asked.history), *((item, "hide") for item in asked.hidden)],
            text=asked.text,
            k=asked.k,
            where=asked.where,
            exclude_seen=asked.exclude_seen,
            diversity=asked.diversity,
            explain=asked.explain,
        )


def print_recommendations(found: Recommendations, asked: RecommendOptions, *, as_json: bool) -> None:
    """Print a list as a table or as one JSON document, and say what it rests on."""
    if as_json:
        console.emit_json(_document(found))
    elif found.hits:
        console.data.print(_explained(found.hits) if asked.explain else _plain(found.hits))
    if found.unknown_user:
        rest = "what else was given" if asked.history or asked.hidden or asked.text else "what is popular"
        console.warn(f"There is no event of user {asked.user!r}; the list is made of {rest}.")
    if found.unknown:
        shown = ", ".join(found.unknown[:_SHOWN]) + (", ..." if len(found.unknown) > _SHOWN else "")
        console.warn(f"No item is called {shown}; that part of the past was left aside.")
    if not found.hits:
        wider = "Widen --where, or allow what was seen with --allow-seen." if asked.where else "Try --allow-seen."
        console.note(f"Nothing found. {wider}")
    elif not as_json:
        console.note(_rests_on(found))
        if asked.explain and any(hit.because for hit in found.hits):
            console.note(_SIMILARITY)


def _rests_on(found: Recommendations) -> str:
    count = f"{len(found.hits)} found in {found.seconds * 1000:.0f} ms, generation {found.generation}"
    parts = [f"{found.events:,} {'event' if found.events == 1 else 'events'}"] if found.events else []
    if found.interests:
        shares = ", ".join(f"{share:.0%}" for share in found.interests)
        parts.append(f"interests of {shares}, {found.short_share:.0%} by what was done last")
    if found.popular_share:
        parts.append(f"{found.popular_share:.0%} by what is popular")
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


def _plain(hits: Sequence[Recommended]) -> Table:
    rows = [
        (rank, hit.score, _brought_by(hit), hit.id, answers.text_of(hit), answers.known_of(hit))
        for rank, hit in enumerate(hits, 1)
    ]
    return console.table(("#", "score", "by", "id", "contents", "metadata"), rows, numbers=("#", "score"))


def _explained(hits: Sequence[Recommended]) -> Table:
    rows = [
        (rank, hit.score, _brought_by(hit), hit.id, answers.text_of(hit), _reasons(hit))
        for rank, hit in enumerate(hits, 1)
    ]
    return console.table(("#", "score", "by", "id", "contents", "because of"), rows, numbers=("#", "score"))


def _brought_by(hit: Recommended) -> str:
    return hit.source if hit.interest is None else f"interest {hit.interest + 1}"


def _reasons(hit: Recommended) -> str:
    return "; ".join(f"{one.kind} {_named(one)} {one.similarity:.2f}{_parts(one)}" for one in hit.because)


def _named(one: Reason) -> str:
    return f"{one.title} [{one.id}]" if one.title not in {"", one.id} else one.id


def _parts(one: Reason) -> str:
    """What each modality gives of a similarity, where there are several."""
    return f" ({', '.join(f'{name} {share:.2f}' for name, share in one.shares.items())})" if len(one.shares) > 1 else ""
