"""The stamps as the packaged encoders see them: vectors of texts, pictures and sounds, held by item id."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, Int64

from benchmarks.report import WORK
from benchmarks.stamps import SPOKEN
from mmrec.decoding.decode import decode
from mmrec.decoding.limits import Limits
from mmrec.encoders.presets import load_encoders
from mmrec.encoders.protocol import Encoder, Sample, limits_for
from mmrec.errors import MediaError
from mmrec.examples import fetch_stamps, write_stamps
from mmrec.types import Content, Modality

__all__ = ["Seen", "held_out_by_text", "language", "seen"]

BATCH = 16


@dataclass(frozen=True, eq=False)
class Seen:
    """Items of one kind of content and their vectors, row by row.

    Attributes:
        texts: What each is called.
        vectors: Their vectors by space, the features first, then the label bridge.
        targets: The vectors of their texts.
        asked: Rows that are queries and gallery; the others are only taught.
        lost: Queries whose own content cannot be encoded: misses.
        files: Their text files.

    """

    texts: tuple[str, ...]
    vectors: Mapping[str, Float32[np.ndarray, "n _"]]
    targets: Float32[np.ndarray, "n dim"]
    asked: Int64[np.ndarray, " q"]
    lost: int
    files: tuple[Path, ...]


def seen() -> dict[Modality, Seen]:
    """Encode all stamps that have a text: pictures (asked: PNG) and sounds (asked: effects)."""
    catalog = write_stamps(fetch_stamps(Path(".cache/stamps")), WORK / "finetune-stamps.jsonl")
    rows = [row for row in map(json.loads, catalog.read_text().splitlines()) if row["text"]]
    _, picture, sound = load_encoders("packaged", device="cpu")
    sounding = [row for row in rows if row["sound"]]
    return {
        Modality.IMAGE: _seen(rows, picture, Modality.IMAGE, "picture"),
        Modality.AUDIO: _seen(sounding, sound, Modality.AUDIO, "sound"),
    }


def held_out_by_text(texts: Sequence[str], folds: int, seed: int) -> Int64[np.ndarray, " n"]:
    """Return each item's fold; texts that differ in case or punctuation alone are of one fold."""
    said = [re.sub(r"\W+", " ", text.casefold()).strip() for text in texts]
    distinct = sorted(set(said))
    drawn = np.random.default_rng(seed).permutation(len(distinct)) % folds
    fold_of = dict(zip(distinct, drawn.tolist(), strict=True))
    return np.array([fold_of[one] for one in said], dtype=np.int64)


def language(files: Sequence[Path], texts: Sequence[str], code: str) -> Float32[np.ndarray, "n dim"]:
    """Encode the items' texts in another language; English where there is none."""
    said = []
    for file, text in zip(files, texts, strict=True):
        lines = file.read_text(encoding="utf-8-sig", errors="replace").splitlines()
        found = [line.split("=", 1)[1].strip() for line in lines if line.startswith((f"{code}.utf8=", f"{code}="))]
        said.append(found[0] if found and found[0] else text)
    return encode_texts(said)


def encode_texts(texts: Sequence[str]) -> Float32[np.ndarray, "n dim"]:
    """Encode texts by the packaged text encoder."""
    encoder = load_encoders("packaged", device="cpu")[0]
    samples = [encoder.prepare(Modality.TEXT, text) for text in texts]
    return next(iter(_encoded(encoder, Modality.TEXT, samples).values()))


def _seen(rows: Sequence[dict[str, str]], encoder: Encoder, modality: Modality, column: str) -> Seen:
    limits = limits_for([encoder], Limits())
    kept, samples, lost = [], [], 0
    for row in rows:
        try:
            content: Content = decode(modality, Path(row[column]).read_bytes(), limits)
            samples.append(encoder.prepare(modality, content))
            kept.append(row)
        except MediaError:  # four effects are silent
            lost += _asked(row, modality)
    texts = tuple(row["text"] for row in kept)
    return Seen(
        texts=texts,
        vectors=_encoded(encoder, modality, samples),
        targets=encode_texts(texts),
        asked=np.array([place for place, row in enumerate(kept) if _asked(row, modality)], dtype=np.int64),
        lost=lost,
        files=tuple(Path(row["picture"]).with_suffix(".txt") for row in kept),
    )


def _asked(row: dict[str, str], modality: Modality) -> bool:
    return row["picture"].endswith(".png") if modality is Modality.IMAGE else not row["id"].startswith(SPOKEN)


def _encoded(encoder: Encoder, modality: Modality, samples: Sequence[Sample]) -> dict[str, np.ndarray]:
    order = sorted(range(len(samples)), key=lambda place: samples[place].cost)
    made: dict[str, np.ndarray] = {}
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        for space, rows in encoder.encode(modality, [samples[place] for place in batch]).items():
            made.setdefault(space, np.empty((len(samples), rows.shape[1]), np.float32))[batch] = rows
    return made
