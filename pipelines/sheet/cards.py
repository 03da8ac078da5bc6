"""What the page shows of a query and of its hits, ready for the template."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mmrec.query import Hit, Part, Results
from mmrec.sources.media_access import MediaAccess
from pipelines.console import clean, shown, written
from pipelines.sheet.embed import Medium, embed_picture, embed_sound

__all__ = ["Bar", "Card", "QueryPart", "query_parts", "result_cards"]

_PLAYERS = 3


@dataclass(frozen=True, slots=True)
class Bar:
    """What one modality gave to a score; `width` is in percent of the largest on the page section."""

    modality: str
    value: float
    width: float


@dataclass(frozen=True, slots=True)
class Card:
    """One item: its contents, and how it was found."""

    id: str
    text: str
    picture: Medium | None
    more_pictures: int
    sounds: tuple[Medium, ...]
    more_sounds: int
    metadata: tuple[tuple[str, str], ...]
    score: float = 0.0
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryPart:
    """One part of the query; `card` holds what there is to see or hear."""

    kind: str
    value: str
    weight: float
    card: Card | None


def query_parts(parts: Sequence[Part], items: Mapping[str, Hit], media: MediaAccess) -> tuple[QueryPart, ...]:
    """Lay out the parts of a query; `items` are the store's own items that they name."""
    return tuple(QueryPart(part.kind, _name(part), part.weight, _asked_card(part, items, media)) for part in parts)


def result_cards(results: Results, media: MediaAccess) -> tuple[Card, ...]:
    """Lay out the hits of an answer, their bars on one scale."""
    most = max((abs(share) for hit in results.hits for share in hit.shares.values()), default=0.0) or 1.0
    return tuple(_card(hit, most, media) for hit in results.hits)


def _name(part: Part) -> str:
    return clean(part.value.rpartition("/")[2] if part.kind in {"image", "audio"} else part.value)


def _asked_card(part: Part, items: Mapping[str, Hit], media: MediaAccess) -> Card | None:
    match part.kind:
        case "image" | "audio":
            return _card(Hit(part.value, 0.0, media={part.kind: (part.value,)}), 1.0, media)
        case "item":
            return _card(items[part.value], 1.0, media) if part.value in items else None
        case "text":
            return None


def _card(hit: Hit, most: float, media: MediaAccess) -> Card:
    pictures, sounds = hit.media.get("image", ()), hit.media.get("audio", ())
    return Card(
        id=clean(hit.id),
        text=hit.text or "",
        picture=embed_picture(pictures[0], media) if pictures else None,
        more_pictures=max(len(pictures) - 1, 0),
        sounds=tuple(embed_sound(sound, media) for sound in sounds[:_PLAYERS]),
        more_sounds=max(len(sounds) - _PLAYERS, 0),
        metadata=tuple(
            (clean(name), shown(written(value))) for name, value in hit.metadata.items() if value is not None
        ),
        score=hit.score,
        bars=tuple(Bar(name, share, 100 * abs(share) / most) for name, share in hit.shares.items()),
    )
