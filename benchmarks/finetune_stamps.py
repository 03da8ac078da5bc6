"""Heads taught on the stamps' own texts: ``python -m benchmarks.finetune_stamps`` (``--ideas``: what else was tried).

Five folds by text: no text of a test item is taught, nor one that differs in case or punctuation alone. Pictures are
taught from all stamps, SVG included; queries are the texts of the PNG stamps, gallery all of their pictures, ranked by
the model of the query's fold. Sounds likewise: the 110 effects; the four silent ones are misses. A hit is an item that
carries the query's very text. Bridge and head are two blocks of equal weight, each centred by its gallery.

"Unseen alone" ranks among the fold's held-out items only. It says how much of a figure is that taught items lie at
their own texts, out of other queries' way.
"""

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float64, Int64

from benchmarks.finetune_stamps_vectors import Seen, encode_texts, held_out_by_text, language, seen
from benchmarks.report import show
from mmrec.evaluation.bootstrap import interval
from mmrec.finetuning.config import FitSettings
from mmrec.finetuning.head_fitting import fit_head
from mmrec.fusion.blocks import centre
from mmrec.types import Modality

FOLDS, SEED = 5, 0
BEYOND = 10_000
BEST = "bridge and radial head that starts from it"
"""What `mmrec finetune align` fits where nothing else is said."""
LANGUAGES = ("de", "fr", "es", "it", "nl", "pt")
Model: TypeAlias = Callable[[Seen, np.ndarray], np.ndarray]
"""Items and the rows to be taught -> the vectors of all rows."""


@dataclass(frozen=True, eq=False)
class Ranks:
    """Where each query's first hit came, in the whole gallery and among the fold's held-out items alone."""

    whole: Float64[np.ndarray, " q"]
    unseen: Float64[np.ndarray, " q"]
    text: Int64[np.ndarray, " q"]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one fold of five; its figures are no result")
    parser.add_argument("--ideas", action="store_true", help="also what else was tried")
    given = parser.parse_args()
    started = time.monotonic()
    stamps = seen()
    folds = range(1 if given.quick else FOLDS)
    figures: dict[str, float] = {}
    for modality, items in stamps.items():
        models = _models() | (_ideas(items) if given.ideas and modality is Modality.IMAGE else {})
        found = {name: _ranks(items, *parts, folds) for name, parts in models.items()}
        rows = [("model", "R@1", "R@10", "95%", "median", "unseen alone: R@1", "R@10", "median")]
        scope = "ONE FOLD ONLY" if given.quick else f"{FOLDS} folds"
        title = f"Text to {modality}, {len(items.asked)} in the gallery, {items.lost} more cannot be encoded, {scope}"
        show(title, rows + [(name, *_row(ranks)) for name, ranks in found.items()], {})
        figures |= _figures(modality, found[BEST])
    show("Fine-tuning on the stamps", [("seconds", "folds"), (time.monotonic() - started, len(folds))], figures)


def _models() -> dict[str, tuple[Model, float]]:
    return {
        "label bridge alone": (_taught(FitSettings()), 0.0),
        "linear ridge alone": (_taught(FitSettings(radial=0.0, ridge=0.3)), 1.0),
        "bridge and linear ridge": (_taught(FitSettings(radial=0.0, ridge=0.3)), 0.5),
        "radial head alone": (_taught(FitSettings()), 1.0),
        "bridge and radial head": (_taught(FitSettings()), 0.5),
        BEST: (_started, 0.5),
    }


def _ideas(items: Seen) -> dict[str, tuple[Model, float]]:
    spoken = [language(items.files, items.texts, code) for code in LANGUAGES]
    photos = encode_texts([f"a photo of {text.rstrip('.').lower()}" for text in items.texts])
    narrow = {f"radial {one:g}": (_taught(FitSettings(radial=one)), 0.5) for one in (1.0, 6.0, 12.0)}
    ridges = {f"ridge {one:g}": (_taught(FitSettings(ridge=one)), 0.5) for one in (0.03, 0.3)}
    return {
        "features without the bridge as input": (_taught(FitSettings(), inputs=1), 0.5),
        "six languages as further targets": (_taught(FitSettings(), further=spoken), 0.5),
        '"a photo of" as a further target': (_taught(FitSettings(), further=[photos]), 0.5),
        "head counts .7": (_taught(FitSettings()), 0.7),
        **narrow,
        **ridges,
    }


def _taught(settings: FitSettings, inputs: int = 2, further: list[np.ndarray] | None = None) -> Model:
    def model(items: Seen, rows: np.ndarray) -> np.ndarray:
        vectors = {name: torch.from_numpy(one) for name, one in list(items.vectors.items())[:inputs]}
        # Each language is centred by itself: the encoder knows English, and groups the others by language.
        kinds = [centre(one[rows], one[rows].mean(axis=0)) for one in (items.targets, *(further or []))]
        targets = torch.nn.functional.normalize(torch.from_numpy(np.mean(kinds, axis=0)), dim=1)
        with torch.no_grad():
            head = fit_head({name: one[rows] for name, one in vectors.items()}, targets, settings)
            made: np.ndarray = head(vectors).numpy()
        return made

    return model


def _started(items: Seen, rows: np.ndarray) -> np.ndarray:
    """The head adds to the bridge, as far as what is taught, left out in turn, says that it should."""
    vectors = {name: torch.from_numpy(one) for name, one in items.vectors.items()}
    inputs = {name: one[rows] for name, one in vectors.items()}
    targets = torch.from_numpy(items.targets[rows])
    groups = np.unique(np.array(items.texts)[rows], return_inverse=True)[1]
    with torch.no_grad():
        head = fit_head(inputs, targets, FitSettings(), list(vectors)[1], groups)
        made: np.ndarray = head(vectors).numpy()
    return made


def _ranks(items: Seen, model: Model, weight: float, folds: range) -> Ranks:
    fold = held_out_by_text(items.texts, FOLDS, SEED)
    asked, bridge = items.asked, list(items.vectors.values())[1][items.asked]
    texts = np.unique(np.array(items.texts), return_inverse=True)[1]
    queries = centre(items.targets[asked], items.targets[asked].mean(axis=0))
    whole, unseen, who = [], [], []
    for number in folds:
        taught = np.flatnonzero(fold != number)
        held = np.flatnonzero(fold[asked] == number)
        head = model(items, taught)[asked] if weight else bridge
        scores = (1 - weight) * queries[held] @ centre(bridge, bridge.mean(axis=0)).T
        scores += weight * queries[held] @ centre(head, head.mean(axis=0)).T
        whole.append(_places(scores, texts[asked][held], texts[asked]))
        unseen.append(_places(scores[:, held], texts[asked][held], texts[asked][held]))
        who.append(texts[asked][held])
    lost = np.full(items.lost if len(folds) == FOLDS else 0, BEYOND, dtype=np.float64)
    nobody = -1 - np.arange(len(lost))
    return Ranks(
        np.concatenate([*whole, lost]), np.concatenate([*unseen, lost]), np.concatenate([*who, nobody]).astype(np.int64)
    )


def _places(scores: np.ndarray, wanted: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Place of the best hit; what ties with it counts half."""
    hit = wanted[:, None] == there
    best = np.where(hit, scores, -np.inf).max(axis=1, keepdims=True)
    ahead: np.ndarray = ((scores > best) & ~hit).sum(axis=1) + ((scores == best) & ~hit).sum(axis=1) / 2
    return 1.0 + ahead


def _row(ranks: Ranks) -> tuple[float | str, ...]:
    # Items of one text are drawn together: they ask the same.
    sure = interval((ranks.whole <= 10).astype(np.float64)[None], ranks.text)
    whole, unseen = _summary(ranks.whole), _summary(ranks.unseen)
    return whole[0], whole[1], f"{sure.low:.3f} to {sure.high:.3f}", whole[2], *unseen


def _summary(ranks: np.ndarray) -> tuple[float, float, float]:
    return float(np.mean(ranks <= 1)), float(np.mean(ranks <= 10)), float(np.median(ranks))


def _figures(modality: Modality, ranks: Ranks) -> dict[str, float]:
    first, ten, median = _summary(ranks.whole)
    if modality is Modality.AUDIO:
        return {"text_sound_r10": ten}
    return {"text_picture_r10": ten, "text_picture_r1": first, "text_picture_median": median}


if __name__ == "__main__":
    main()
