"""The contact sheet: everything inside, nothing from outside, and nothing a catalog holds can act."""

import base64
import io
import re
import wave
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from mmrec.query import Hit, Part, Results
from mmrec.sources.media_access import MediaAccess
from pipelines.contact_sheet import Section, embed_audio, embed_image, write_sheet


class _Page(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def sources(self, tag: str) -> list[str]:
        return [attributes.get("src") or "" for name, attributes in self.tags if name == tag]


@pytest.fixture
def picture(tmp_path: Path) -> str:
    """Return the path of a wide picture, all of it transparent."""
    path = tmp_path / "wide.png"
    Image.new("RGBA", (900, 300), (255, 0, 0, 0)).save(path)
    return str(path)


@pytest.fixture
def sound(tmp_path: Path) -> str:
    """Return the path of a tenth of a second."""
    return _write_sound(tmp_path / "short.wav", 800)


def _write_sound(path: Path, frames: int) -> str:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, frames, "NONE", "not compressed"))
        file.writeframes(bytes(2 * frames))
    return str(path)


def _sheet(tmp_path: Path, *sections: Section) -> str:
    out = tmp_path / "new" / "sheet.html"
    write_sheet(out, sections)
    assert [path.name for path in out.parent.iterdir()] == ["sheet.html"]
    return out.read_text(encoding="utf-8")


def _answer(*hits: Hit) -> Results:
    return Results(hits, generation=2, seconds=0.005)


def test_pictures_become_small_and_lie_on_white(picture: str) -> None:
    embedded = embed_image(picture, MediaAccess())
    kind, _, data = embedded.source.partition(",")
    assert kind == "data:image/webp;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as thumbnail:
        assert thumbnail.size == (320, 107)
        assert min(band[0] for band in thumbnail.convert("RGB").getextrema()) >= 250


def test_sounds_are_embedded_as_they_are(sound: str) -> None:
    kind, _, data = embed_audio(sound, MediaAccess()).source.partition(",")
    assert kind == "data:audio/wav;base64"
    assert base64.b64decode(data) == Path(sound).read_bytes()


def test_what_cannot_be_shown_says_why(tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(40))
    odd = tmp_path / "odd.snd"
    odd.write_bytes(b".snd" + bytes(40))
    assert "cannot be shown" in embed_image(str(broken), MediaAccess()).problem
    assert "cannot be played" in embed_audio(str(tmp_path / "gone.ogg"), MediaAccess()).problem
    assert "1.6 MB" in embed_audio(_write_sound(tmp_path / "long.wav", 800_000), MediaAccess()).problem
    assert "Browsers do not play" in embed_audio(str(odd), MediaAccess()).problem


def test_page_holds_query_hits_and_nothing_from_outside(tmp_path: Path, picture: str, sound: str) -> None:
    hit = Hit(
        "a-1", 0.8123, {"text": 0.9, "image": -0.1}, "A boat", {"image": (picture,), "audio": (sound,)}, {"year": 1999}
    )
    lone = Hit("t-2", 0.5, {"text": 0.5}, "Only words", {}, {})
    lost = Hit("l-3", 0.1, {}, None, {"image": ("/gone.png",), "audio": ("/gone.ogg",)}, {})
    parts = (Part("text", "boat"), Part("image", picture, 0.7), Part("audio", sound, -1), Part("item", "t-2"))
    page = _sheet(
        tmp_path, Section("Boats", parts, _answer(hit, lone, lost), {"t-2": lone}), Section("None", (), _answer())
    )

    parsed = _Page(page)
    assert len(parsed.sources("img")) == 2
    assert len(parsed.sources("audio")) == 2
    assert all(source.startswith("data:") for source in parsed.sources("img") + parsed.sources("audio"))
    assert not {"script", "link", "iframe"} & {tag for tag, _ in parsed.tags}
    assert not re.search(r"https?:|url\(|@import", page)
    for shown in (
        "0.812",
        "-0.100",
        "1999",
        "Only words",
        "\N{MULTIPLICATION SIGN} 0.7",
        "away",
        "Nothing was found",
        "cannot be played",
    ):
        assert shown in page


def test_what_a_catalog_holds_cannot_act(tmp_path: Path) -> None:
    evil = '"><script>alert(1)</script>'
    page = _sheet(
        tmp_path,
        Section(evil, (Part("text", evil), Part("item", evil)), _answer(Hit(evil, 1.0, {}, evil, {}, {evil: evil}))),
    )
    parsed = _Page(page)
    assert "script" not in {tag for tag, _ in parsed.tags}
    assert page.count("&lt;script&gt;") >= 5


def test_pages_of_real_stamps(tmp_path: Path, stamps_root: Path) -> None:
    files = {path.suffix: path for path in sorted((stamps_root / "animals" / "birds").glob("blackbird.*"))}
    hit = Hit(
        "blackbird",
        1.0,
        {"image": 1.0},
        "A blackbird.",
        {"image": (str(files[".png"]),), "audio": (str(files[".ogg"]),)},
    )
    parsed = _Page(_sheet(tmp_path, Section("Birds", (Part("item", "blackbird"),), _answer(hit), {"blackbird": hit})))
    assert len(parsed.sources("img")) == 2
    assert all(source.startswith("data:audio/ogg;base64,") for source in parsed.sources("audio"))


def test_what_is_on_the_web_is_not_fetched_for_a_page_unless_told_to():
    assert "--allow-fetch" in embed_image("https://example.org/a.png", MediaAccess()).problem
    assert "--allow-fetch" in embed_audio("https://example.org/a.ogg", MediaAccess()).problem


def test_a_page_reads_nothing_outside_its_root(picture, tmp_path):
    (tmp_path / "empty").mkdir()
    assert "outside --media-root" in embed_image(picture, MediaAccess(root=tmp_path / "empty")).problem
