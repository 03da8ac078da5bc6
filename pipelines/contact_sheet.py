"""The contact sheet: search hits with their images and audio as one HTML page."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from mmrec.decoding.isolated import decode_isolated
from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError
from mmrec.files import check_output, write_page
from mmrec.query import Hit, Part, Results
from mmrec.sources.media_access import MediaAccess
from mmrec.types import Modality
from pipelines.answers import known_metadata
from pipelines.console import format_value, to_safe_line

_SIDE = 320
_AUDIO_BYTES = 1_500_000
_READABLE = Limits(max_bytes=64 * 1024 * 1024)

# How a file of each kind begins: offset, bytes, media type.
_AUDIO_TYPES = (
    (0, b"OggS", "audio/ogg"),
    (0, b"RIFF", "audio/wav"),
    (0, b"fLaC", "audio/flac"),
    (0, b"ID3", "audio/mpeg"),
    (0, b"\xff\xfb", "audio/mpeg"),
    (0, b"\xff\xf3", "audio/mpeg"),
    (0, b"\xff\xf2", "audio/mpeg"),
    (0, b"\xff\xf1", "audio/aac"),
    (0, b"\x1a\x45\xdf\xa3", "audio/webm"),
    (4, b"ftyp", "audio/mp4"),
)


@dataclass(frozen=True, slots=True)
class Medium:
    """An image or audio file as the page shows it.

    Attributes:
        source: A data URI; empty where the medium cannot be shown.
        problem: Why it cannot be shown; empty where it can.

    """

    source: str = ""
    problem: str = ""


def embed_image(uri: str, media: MediaAccess) -> Medium:
    """Embed an image of at most 320 pixels a side, transparent parts white, animations by their first frame."""
    try:
        image = cast(Image.Image, decode_isolated(Modality.IMAGE, _read(uri, media), _READABLE))
    except MediaError as error:
        return Medium(problem=f"This image cannot be shown. {error}")
    image.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82)
    return Medium(source=_data_uri("image/webp", buffer.getvalue()))


def embed_audio(uri: str, media: MediaAccess) -> Medium:
    """Embed the bytes of an audio file, if it is small enough and of a kind that browsers play."""
    try:
        audio = _read(uri, media)
    except MediaError as error:
        return Medium(problem=f"This audio cannot be played. {error}")
    if len(audio) > _AUDIO_BYTES:
        return Medium(problem=f"This audio file has {len(audio) / 1e6:.1f} MB; the page carries up to 1.5 MB each.")
    for offset, beginning, kind in _AUDIO_TYPES:
        if audio.startswith(beginning, offset):
            return Medium(source=_data_uri(kind, audio))
    return Medium(problem="Browsers do not play this kind of audio.")


def _read(uri: str, media: MediaAccess) -> bytes:
    return replace(media, limits=_READABLE).read(uri)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


_MAX_PLAYERS = 3


@dataclass(frozen=True, slots=True)
class Bar:
    """Share of one modality in a score; `width` is in percent of the largest share of the section."""

    modality: str
    value: float
    width: float


@dataclass(frozen=True, slots=True)
class Card:
    """One item: its contents, score and shares."""

    id: str
    text: str
    image: Medium | None
    more_images: int
    audios: tuple[Medium, ...]
    more_audios: int
    metadata: tuple[tuple[str, str], ...]
    score: float = 0.0
    bars: tuple[Bar, ...] = ()


@dataclass(frozen=True, slots=True)
class QueryPart:
    """One part of the query; `card` has its image or audio."""

    kind: str
    value: str
    weight: float
    card: Card | None


def query_parts(parts: Sequence[Part], items: Mapping[str, Hit], media: MediaAccess) -> tuple[QueryPart, ...]:
    """Lay out the parts of a query; `items` are the store's own items that they name."""
    return tuple(QueryPart(part.kind, _name(part), part.weight, _query_card(part, items, media)) for part in parts)


def result_cards(results: Results, media: MediaAccess) -> tuple[Card, ...]:
    """Lay out the hits of an answer, their bars on one scale."""
    largest_share = max((abs(share) for hit in results.hits for share in hit.shares.values()), default=0.0) or 1.0
    return tuple(_card(hit, largest_share, media) for hit in results.hits)


def _name(part: Part) -> str:
    return to_safe_line(str(part.value).rpartition("/")[2] if part.kind in {"image", "audio"} else str(part.value))


def _query_card(part: Part, items: Mapping[str, Hit], media: MediaAccess) -> Card | None:
    match part.kind:
        case "image" | "audio":
            return _card(Hit(str(part.value), 0.0, media={part.kind: (str(part.value),)}), 1.0, media)
        case "item":
            return _card(items[str(part.value)], 1.0, media) if str(part.value) in items else None
        case "text" | "vector":
            return None


def _card(hit: Hit, largest_share: float, media: MediaAccess) -> Card:
    images, audios = hit.media.get("image", ()), hit.media.get("audio", ())
    return Card(
        id=to_safe_line(hit.id),
        text=hit.text or "",
        image=embed_image(images[0], media) if images else None,
        more_images=max(len(images) - 1, 0),
        audios=tuple(embed_audio(audio, media) for audio in audios[:_MAX_PLAYERS]),
        more_audios=max(len(audios) - _MAX_PLAYERS, 0),
        metadata=tuple((to_safe_line(name), format_value(value)) for name, value in known_metadata(hit).items()),
        score=hit.score,
        bars=tuple(Bar(name, share, 100 * abs(share) / largest_share) for name, share in hit.shares.items()),
    )


@dataclass(frozen=True, slots=True)
class Section:
    """One query and its answer.

    Attributes:
        title: Heading.
        parts: Parts of the query.
        results: Its results.
        items: Items that `parts` name, by id.

    """

    title: str
    parts: tuple[Part, ...]
    results: Results
    items: Mapping[str, Hit] = field(default_factory=dict)


def write_sheet(out: Path, sections: Sequence[Section], media: MediaAccess | None = None) -> None:
    """Write one HTML file with all images and audio inside; it needs no network and no script.

    `media` says how images and audio are read; without it from anywhere but the web. A medium that cannot be read
    leaves a placeholder with the reason. Raises UsageError where the file cannot be written.
    """
    check_output(out)
    media = media or MediaAccess()
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    shown = [
        {
            "title": section.title,
            "query": query_parts(section.parts, section.items, media),
            "cards": result_cards(section.results, media),
            "generation": section.results.generation,
            "seconds": section.results.seconds,
        }
        for section in sections
    ]
    page = environment.get_template("contact_sheet.html.jinja").render(sections=shown)
    write_page(out, page)
