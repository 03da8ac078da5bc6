"""A catalog of which one row in twenty is bad, in fifteen ways, through the command line and the packaged encoders.

All that is good is indexed, all that is bad is told with its reason, and the exit code is as the README says.
"""

import io
import json
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import soundfile
from PIL import Image

import mmrec
from mmrec.query import Part
from pipelines.cli import app
from pipelines.outcome import ExitCode, run_app

GOOD = 285
WORDS = ("red", "green", "small", "old", "quick", "wooden", "paper", "metal", "boat", "train", "lamp", "cat", "violin")


@dataclass(frozen=True)
class Bad:
    """One kind of bad input.

    Attributes:
        column: Where it is.
        reason: Words that its reason must have; empty where the documented answer is to index it all the same.
        lives: Whether the item is in the store, with the rest of it or whole.

    """

    column: str
    reason: str
    lives: bool = True


KINDS = {
    "truncated-jpeg": Bad("picture", "damaged: image file is truncated"),
    "decompression-bomb": Bad("picture", "30,000 x 30,000 pixels; the limit is"),
    "zero-bytes": Bad("picture", "empty"),
    "wrong-suffix": Bad("picture", ""),  # decoded by what it is
    "text-as-picture": Bad("picture", "no known format"),
    "nan-sound": Bad("sound", "not finite numbers"),
    "zero-length-sound": Bad("sound", "no samples"),
    "five-hour-header": Bad("sound", ""),  # what is there is decoded; nothing is allocated for what is claimed
    "missing-file": Bad("picture", "No such file", lives=False),  # it has nothing else
    "outside-media-root": Bad("picture", "outside --media-root"),
    "symlink-loop": Bad("picture", "symbolic links"),
    "long-strip": Bad("picture", "strip of 60,000 x 1"),
    "huge-text": Bad("title", ""),  # cut, and counted as cut
    "null-id": Bad("id", "id is missing", lives=False),
    "duplicate-id": Bad("id", "same id"),
}


def _title(number: int) -> str:
    rng = np.random.default_rng(number)
    return f"{' '.join(rng.choice(WORDS, 4))} number {number}"


def _picture(seed: int, kind: str = "PNG") -> bytes:
    out = io.BytesIO()
    pixels = np.random.default_rng(seed).integers(0, 255, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((48, 48), Image.Resampling.NEAREST).save(out, kind)
    return out.getvalue()


def _sound(samples: np.ndarray, kind: str = "WAV", subtype: str | None = None) -> bytes:
    out = io.BytesIO()
    soundfile.write(out, samples, 16_000, format=kind, subtype=subtype)
    return out.getvalue()


def _tone(hertz: float) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(16_000) / 16_000)


def _flat_png(width: int, height: int) -> bytes:
    """Write a black PNG of one bit a pixel, row by row: the bomb has 900 million pixels in some 110 kB."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + (width + 7) // 8)) for _ in range(height)) + packer.flush()
    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def _claiming_hours(wave: bytes, hours: int) -> bytes:
    """Make a WAV say that its data are so long."""
    claimed = hours * 3600 * 16_000 * 2
    place = wave.index(b"data") + 4
    return wave[:4] + struct.pack("<I", claimed + 36) + wave[8:place] + struct.pack("<I", claimed) + wave[place + 4 :]


def _good_rows(media: Path) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for number in range(GOOD):
        row: dict[str, object] = {"id": f"good-{number}", "title": _title(number), "price": number}
        if number % 7 == 0:
            (media / f"good-{number}.png").write_bytes(_picture(number))
            row["picture"] = f"../media/good-{number}.png"
        if number % 19 == 0:
            (media / f"good-{number}.wav").write_bytes(_sound(_tone(200 + 10 * number)))
            row["sound"] = f"../media/good-{number}.wav"
        rows.append(row)
    return rows


def _bad_rows(media: Path) -> list[dict[str, object]]:
    jpeg = _picture(1000, "JPEG")
    files = {
        "truncated-jpeg.jpg": jpeg[: len(jpeg) * 2 // 3],
        "decompression-bomb.png": _flat_png(30_000, 30_000),
        "zero-bytes.png": b"",
        "wrong-suffix.jpg": _picture(1001),
        "text-as-picture.png": b"This is no picture.\n" * 50,
        "nan-sound.wav": _sound(np.full(8000, np.nan, np.float32), subtype="FLOAT"),
        "zero-length-sound.wav": _sound(np.zeros(0)),
        "five-hour-header.wav": _claiming_hours(_sound(_tone(1234)), 5),
        "long-strip.png": _flat_png(60_000, 1),
    }
    for name, data in files.items():
        (media / name).write_bytes(data)
    (media / "symlink-loop.png").symlink_to("symlink-loop.png")
    (media.parent / "outside-media-root.png").write_bytes(_picture(1002))
    (media / "outside-media-root.png").symlink_to("../outside-media-root.png")
    rows: list[dict[str, object]] = []
    for kind, bad in KINDS.items():
        row: dict[str, object] = {"id": kind, "title": f"a thing of the kind {kind}"}
        suffix = next((name for name in files if name.startswith(f"{kind}.")), f"{kind}.png")
        row |= {bad.column: f"../media/{suffix}"} if bad.column in {"picture", "sound"} else {}
        rows.append(row)
    by_kind = {str(row["id"]): row for row in rows}
    by_kind["missing-file"].pop("title")
    by_kind["huge-text"]["title"] = "word " * 1_000_000
    by_kind["null-id"]["id"] = None
    by_kind["duplicate-id"]["id"] = "good-11"
    return rows


@pytest.fixture
def catalog(tmp_path: Path) -> Path:
    """Good rows, and bad ones among them, one in twenty."""
    media, folder = tmp_path / "media", tmp_path / "catalog"
    media.mkdir()
    folder.mkdir()
    rows = _good_rows(media)
    for place, bad in enumerate(_bad_rows(media)):
        rows.insert(20 * (place + 1) - 1, bad)
    assert len(KINDS) / len(rows) == 0.05
    lines = (json.dumps(row) + "\n" for row in rows)
    (folder / "catalog.jsonl").write_text("".join(lines), encoding="utf-8")
    return folder / "catalog.jsonl"


def _told(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, object]]:
    code = run_app(app, [*map(str, arguments), "--json"])
    return code, json.loads(capsys.readouterr().out)


@pytest.mark.slow
def test_one_bad_row_in_twenty(catalog: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = tmp_path / "store"
    columns = ("--id", "id", "--text", "title", "--image", "picture", "--audio", "sound", "--metadata", "price")
    command = ("index", catalog, store, *columns, "--media-root", tmp_path / "media")

    code, summary = _told(capsys, *command)
    assert code == ExitCode.DONE
    living = {kind for kind, bad in KINDS.items() if bad.lives and kind != "duplicate-id"}
    told = {kind: bad for kind, bad in KINDS.items() if bad.reason}
    assert summary["items"] == summary["added"] == GOOD + len(living)
    assert summary["quarantined"] == len(told)
    assert summary["truncated"] == {"text": 1}

    _, listed = _told(capsys, "quarantine", store)
    entries = {(entry["id"], entry["column"]): entry for entry in listed["quarantined"]}
    assert len(entries) == len(told)
    for kind, bad in told.items():
        name = {"null-id": None, "duplicate-id": "good-11"}.get(kind, kind)
        entry = entries[name, bad.column]
        assert bad.reason in entry["reason"], kind
        assert str(tmp_path) not in entry["reason"], kind
        assert isinstance(entry["row"], int)

    engine = mmrec.open(store)
    ids = {f"good-{number}" for number in range(GOOD)} | living
    assert len(engine.vectors(sorted(ids))) == len(ids)
    for kind in ("wrong-suffix", "five-hour-header"):
        assert engine.show(kind).media, kind
    for kind in ("outside-media-root", "symlink-loop"):
        assert not engine.show(kind).media, kind
    assert engine.show("good-11").text == _title(11)
    for number in (0, 133, 266):
        found = engine.search(Part("image", str(tmp_path / "media" / f"good-{number}.png")), against="image", k=1)
        assert found.hits[0].id == f"good-{number}"
    five_hours = tmp_path / "media" / "five-hour-header.wav"
    assert engine.search(Part("audio", str(five_hours)), against="audio", k=1).hits[0].id == "five-hour-header"

    # Again: nothing is encoded anew, the reasons stay, and with --strict the exit code tells of them.
    code, summary = _told(capsys, *command, "--strict")
    assert code == ExitCode.PARTLY
    assert (summary["added"], summary["changed"], summary["removed"], summary["encoded"]) == (0, 0, 0, {})
    assert summary["quarantined"] == len(told)
    _, again = _told(capsys, "quarantine", store)
    assert [entry["reason"] for entry in again["quarantined"]] == [entry["reason"] for entry in listed["quarantined"]]


def test_a_media_root_that_is_not_there_is_a_wrong_call(catalog: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store, gone = catalog.parent / "store", catalog.parent / "gone"
    code, told = _told(capsys, "index", catalog, store, "--id", "id", "--text", "title", "--media-root", gone)
    assert code == ExitCode.USAGE
    assert "--media-root" in str(told["error"])
