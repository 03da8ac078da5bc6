"""What the embedding benchmark reads: the stamps in all their languages, the standard library's words, large photos."""

import ast
import json
import sysconfig
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

from benchmarks.embed_job import Contents
from benchmarks.report import WORK
from mmrec.decoding.decode import decode
from mmrec.examples import fetch_stamps, write_stamps
from mmrec.sources.media_access import content_hash
from mmrec.types import Modality

__all__ = ["drawn_stamps", "large_photos", "mixed_texts", "stamps", "stamps_sounds", "without_drawings"]

STAMPS = Path(".cache/stamps")
COLUMNS = {Modality.TEXT: "text", Modality.IMAGE: "picture", Modality.AUDIO: "sound"}
SIZE = (1600, 1200)


def stamps(modality: Modality) -> Contents:
    """The stamps' English texts, their pictures, or their sound effects, each distinct one once."""
    catalog = write_stamps(fetch_stamps(STAMPS), WORK / "stamps.jsonl")
    rows = [json.loads(line) for line in catalog.read_text().splitlines()]
    return _distinct(modality, [row[COLUMNS[modality]] for row in rows if row[COLUMNS[modality]]])


def stamps_sounds(step: int) -> Contents:
    """Effects and spoken names of the stamps in all languages, every `step`-th."""
    root = fetch_stamps(STAMPS)
    return _distinct(Modality.AUDIO, [str(path) for path in sorted(root.rglob("*.ogg"))[::step]])


def without_drawings(contents: Contents) -> Contents:
    """The same without SVG, of which one takes as long to draw as eight PNG to decode."""
    return Contents(contents.modality, [path for path in contents.given if not path.endswith(".svg")])


def mixed_texts(count: int) -> Contents:
    """The stamps' texts in all languages, and as many documentation strings of the standard library: short and long."""
    lines = {
        line.partition("=")[2].strip() or line.strip()
        for path in sorted(fetch_stamps(STAMPS).rglob("*.txt"))
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines()
    }
    named = sorted(line for line in lines if line)
    said = sorted(_documentation())
    some = [texts[:: max(1, len(texts) // (count // 2))][: count // 2] for texts in (named, said)]
    return Contents(Modality.TEXT, sorted(set(some[0] + some[1]), key=lambda text: content_hash(text.encode())))


def large_photos(count: int) -> Contents:
    """JPEGs of 1600 x 1200: stamps on blurred noise with grain, about as large in bytes as photos are."""
    folder = WORK / "large-photos"
    folder.mkdir(parents=True, exist_ok=True)
    pictures = [path for path in stamps(Modality.IMAGE).given if path.endswith(".png")]
    rng = np.random.default_rng(0)
    for number, path in enumerate(pictures[:count]):
        place = folder / f"{number}.jpg"
        if not place.exists():
            _photo(Image.open(path).convert("RGBA"), rng).save(place, quality=90)
    return Contents(Modality.IMAGE, [str(folder / f"{number}.jpg") for number in range(min(count, len(pictures)))])


def drawn_stamps(count: int) -> Contents:
    """The stamps' pictures as others can read them: PNG without transparency."""
    folder = WORK / "drawn-stamps"
    folder.mkdir(parents=True, exist_ok=True)
    given = stamps(Modality.IMAGE).given
    for number, path in enumerate(given[:: max(1, len(given) // count)][:count]):
        place = folder / f"{number:04}.png"
        if not place.exists():
            picture = decode(Modality.IMAGE, Path(path).read_bytes())
            assert isinstance(picture, Image.Image)  # noqa: S101
            picture.save(place, compress_level=1)
    return _distinct(Modality.IMAGE, [str(path) for path in sorted(folder.glob("*.png"))[:count]])


def _photo(stamp: Image.Image, rng: np.random.Generator) -> Image.Image:
    coarse = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    ground = coarse.resize(SIZE, Image.Resampling.BICUBIC).filter(ImageFilter.GaussianBlur(8)).convert("RGBA")
    factor = min(side / own for side, own in zip(SIZE, stamp.size, strict=True)) * 0.9
    stamp = stamp.resize((round(stamp.width * factor), round(stamp.height * factor)), Image.Resampling.BICUBIC)
    ground.alpha_composite(stamp, ((SIZE[0] - stamp.width) // 2, (SIZE[1] - stamp.height) // 2))
    grain = rng.normal(0, 6, (SIZE[1], SIZE[0], 1))
    return Image.fromarray((np.asarray(ground.convert("RGB")) + grain).clip(0, 255).astype(np.uint8))


def _documentation() -> set[str]:
    found = set()
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                found.add(" ".join((ast.get_docstring(node) or "").split()))
    return found - {""}


def _distinct(modality: Modality, given: list[str]) -> Contents:
    kept: dict[bytes, str] = {}
    for one in given:
        kept.setdefault(one.encode() if modality is Modality.TEXT else content_hash(Path(one).read_bytes()), one)
    return Contents(modality, list(kept.values()))
