"""The contact sheet: search hits with their images and sounds as one HTML page."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import cast

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from indexers.atomic import write_atomically
from mmrec.decoding.isolated import decode_isolated
from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError, UsageError
from mmrec.files import check_output
from mmrec.query import Hit, Part, Results
from mmrec.sources.media_access import MediaAccess
from mmrec.types import Modality
from pipelines.console import clean, shown, written

_SIDE = 320
_SOUND_BYTES = 1_500_000
_READABLE = Limits(max_bytes=64 * 1024 * 1024)

# How a file of each kind begins: offset, bytes, media type.
_SOUND_TYPES = (
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
    """A picture or sound as the page shows it.

    Attributes:
        source: A data URI; empty where the medium cannot be shown.
        trouble: Why it cannot be shown; empty where it can.

    """

    source: str = ""
    trouble: str = ""


def embed_picture(uri: str, media: MediaAccess) -> Medium:
    """Embed a picture of at most 320 pixels a side, transparent parts white, animations by their first frame."""
    try:
        picture = cast(Image.Image, decode_isolated(Modality.IMAGE, _read(uri, media), _READABLE))
    except MediaError as error:
        return Medium(trouble=f"This picture cannot be shown. {error}")
    picture.thumbnail((_SIDE, _SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=82)
    return Medium(source=_data_uri("image/webp", buffer.getvalue()))


def embed_sound(uri: str, media: MediaAccess) -> Medium:
    """Embed a sound's own bytes, if they are few enough and of a kind that browsers play."""
    try:
        sound = _read(uri, media)
    except MediaError as error:
        return Medium(trouble=f"This sound cannot be played. {error}")
    if len(sound) > _SOUND_BYTES:
        return Medium(trouble=f"This sound has {len(sound) / 1e6:.1f} MB; the page carries up to 1.5 MB each.")
    for offset, beginning, kind in _SOUND_TYPES:
        if sound.startswith(beginning, offset):
            return Medium(source=_data_uri(kind, sound))
    return Medium(trouble="This sound is of a kind that browsers do not play.")


def _read(uri: str, media: MediaAccess) -> bytes:
    return replace(media, limits=_READABLE).read(uri)


def _data_uri(kind: str, data: bytes) -> str:
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"


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
    return clean(str(part.value).rpartition("/")[2] if part.kind in {"image", "audio"} else str(part.value))


def _asked_card(part: Part, items: Mapping[str, Hit], media: MediaAccess) -> Card | None:
    match part.kind:
        case "image" | "audio":
            return _card(Hit(str(part.value), 0.0, media={part.kind: (str(part.value),)}), 1.0, media)
        case "item":
            return _card(items[str(part.value)], 1.0, media) if str(part.value) in items else None
        case "text" | "vector":
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


@dataclass(frozen=True, slots=True)
class Section:
    """One query and its answer.

    Attributes:
        title: Heading.
        parts: What was asked.
        results: What came back.
        items: Id -> contents, for the items that `parts` name.

    """

    title: str
    parts: tuple[Part, ...]
    results: Results
    items: Mapping[str, Hit] = field(default_factory=dict)


def write_sheet(out: Path, sections: Sequence[Section], media: MediaAccess | None = None) -> None:
    """Write one HTML file with all pictures and sounds inside; it needs no network and no script.

    `media` says how pictures and sounds are read; without it from anywhere but the web. A medium that cannot be read
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
            "asked": query_parts(section.parts, section.items, media),
            "cards": result_cards(section.results, media),
            "generation": section.results.generation,
            "seconds": section.results.seconds,
        }
        for section in sections
    ]
    page = environment.get_template("contact_sheet.html.jinja").render(sections=shown)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(out, page.encode("utf-8", "backslashreplace"))
    except OSError as error:
        raise UsageError(f"the page {out} cannot be written: {error.strerror}; name another file") from error
