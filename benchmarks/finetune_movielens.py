"""Contents of ml-100k that learn taste: ``python -m benchmarks.finetune_movielens`` (``--ideas``: what else was tried).

The films are dealt into ten parts. For each part a head on the MiniLM vectors of title, year and genres learns by
co-engagement from all other films, in the training part of leave-one-out: nobody's last two events, and no film of the
part, are learned from. Then whoever rated a film of the part last is placed by the mean of their newest films of the
other parts, with no ids, no popularity and no user tower, and the film is ranked among all films of the part that they
had not met: by the MiniLM vectors alone (before), and with the head's vectors beside them, weights equal (after). Every
film is held out once, and every person asks once. The same is asked of the last event but one, by which the settings
were chosen. Intervals are 95% over people, who are the same before and after.
"""

import argparse
from collections.abc import Callable, Mapping

import numpy as np
import torch

from benchmarks.movielens_data import MovieLens
from benchmarks.report import WORK, show
from mmrec.encoders.head import Head, HeadConfig
from mmrec.evaluation.bootstrap import Interval, compare, interval
from mmrec.events.splits import Split
from mmrec.finetuning.coengage import CoEngage, co_occurrence, pairs_of, ppmi_vectors
from mmrec.finetuning.config import CoEngageConfig, FinetuneConfig, FitSettings, TowerSettings
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.head_fitting import fit_head
from mmrec.finetuning.loop import Embedder, Loop
from mmrec.finetuning.questions import centred
from mmrec.finetuning.samples import VectorSamples
from mmrec.finetuning.towers import VectorTower, load_sources
from mmrec.training.checkpoint import make_accelerator
from mmrec.types import Modality

DIM = 384
"""Numbers of the text's vector, the first of each film's content."""
PARTS = 10
NEWEST = 20
SPACE = "minilm"
TRAINED = FinetuneConfig(
    device="cpu", batch=512, epochs=6, rate=1e-3, warmup=20, max_age_seconds=6, coengage=CoEngageConfig(pairs=30_000)
)

Model = Callable[[MovieLens, Split, np.ndarray, np.ndarray], np.ndarray]
"""Films, split, which of them may be learned from and the texts' vectors -> vectors of all films."""


def main() -> None:
    """Learn, ask, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--ideas", action="store_true", help="also what else was tried")
    models: Mapping[str, Model] = {"after": fitted}
    if parser.parse_args().ideas:
        models = {**models, **IDEAS}
    films = MovieLens()
    split = films.split("loo")
    texts = films.contents[:, :DIM]
    part = np.random.default_rng(0).permutation(len(films.rows)) % PARTS
    plain = _centred(texts)
    events = {"the last event": split.targets, "the last event but one": split.validation}
    before = {name: gains(films, split, part, asked, [[plain]] * PARTS) for name, asked in events.items()}
    rows: list[tuple[object, ...]] = [("NDCG@10 of held-out films", "asked", "mean", "low", "high")]
    for name, (old, people) in before.items():
        rows.append(("before", name, *_numbers(interval(old[None], people))))
    figures = {"cold_before_ndcg10": float(before["the last event"][0].mean())}
    for model, make in models.items():
        learned = [_centred(make(films, split, part != number, texts)) for number in range(PARTS)]
        for name, asked in events.items():
            old, people = before[name]
            new, _ = gains(films, split, part, asked, [[plain, one] for one in learned])
            change = compare(("after", "before"), new[None], old[None], people).difference
            rows.append((model, name, *_numbers(interval(new[None], people))))
            rows.append((f"{model} - before", name, *_numbers(change)))
            if model == "after" and name == "the last event":
                figures |= {
                    "cold_after_ndcg10": float(new.mean()),
                    "cold_difference_low": change.low,
                    "cold_difference_high": change.high,
                }
    show(f"Fine-tuning on ml-100k, {len(people)} people", rows, figures)


def fitted(
    films: MovieLens, split: Split, warm: np.ndarray, texts: np.ndarray, hours: float | None = None
) -> np.ndarray:
    """By a head in closed form, as ``mmrec finetune coengage`` fits it."""
    places, learned = np.searchsorted(films.rows, split.train.items), np.isin(split.train.items, films.rows[warm])
    owners, times = split.train.owners.astype(np.int64)[learned], split.train.times[learned]
    mass = co_occurrence(owners, places[learned], times, len(films.rows), hours)
    aims = ppmi_vectors(mass, CoEngageConfig().factors)
    if aims[~warm].any():
        raise AssertionError("a held-out film was about to be learned from")
    taught = aims.any(axis=1)
    rows = torch.from_numpy(texts)
    head = fit_head({SPACE: rows[taught]}, torch.from_numpy(aims[taught]), FitSettings())
    with torch.no_grad():
        return head({SPACE: rows}).numpy()


def trained(films: MovieLens, split: Split, warm: np.ndarray, texts: np.ndarray) -> np.ndarray:
    """By a linear head that is trained on pairs of films that one person rated within a few events of each other."""
    names = [[int(row).to_bytes(16, "big")] for row in films.rows]
    corpus = Corpus.of(films.rows.tolist(), {Modality.TEXT: names})
    source = next(one for one in load_sources(device="cpu") if one.spaces(Modality.TEXT))
    torch.manual_seed(TRAINED.seed)
    head = Head(HeadConfig(inputs=((SPACE, DIM),), dim=DIM, dropout=0.1))
    head.standardise({SPACE: torch.from_numpy(texts[warm])})
    tower = VectorTower(Modality.TEXT, source, source.spaces(Modality.TEXT)[0], TowerSettings(), head)
    learned = np.isin(split.train.items, films.rows[warm])
    left, right, _ = pairs_of(split.train, learned, TRAINED.coengage)
    objective = CoEngage(corpus, (np.searchsorted(films.rows, left), np.searchsorted(films.rows, right)), TRAINED)
    samples = {Modality.TEXT: VectorSamples(texts)}
    accelerator = make_accelerator(TRAINED.device, TRAINED.precision)
    embedder = Embedder({Modality.TEXT: tower}, samples, accelerator)
    # As many epochs as did best on the last event but one; the rising score has the last one kept.
    scores = iter(range(TRAINED.epochs + 1))
    path = WORK / "finetune-movielens" / "checkpoint.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    Loop(embedder, corpus, objective, lambda _: float(next(scores)), TRAINED).run(path, "", lambda _: None)
    return embedder.embed_corpus(corpus)[Modality.TEXT]


IDEAS: Mapping[str, Model] = {
    "within a day": lambda *given: fitted(*given, hours=24),
    "within an hour": lambda *given: fitted(*given, hours=1),
    "trained by InfoNCE": trained,
}


def gains(
    films: MovieLens, split: Split, part: np.ndarray, asked: np.ndarray, spaces: list[list[np.ndarray]]
) -> tuple[np.ndarray, np.ndarray]:
    """NDCG@10 of each question, and its person; `spaces` has those of each part, their cosines added."""
    found, people = [], []
    for target in asked.tolist():
        past = np.searchsorted(films.rows, split.live.items[split.history(target)])
        wanted = int(np.searchsorted(films.rows, split.live.items[target]))
        rivals = part == part[wanted]
        known = past[~rivals[past]][-NEWEST:]
        scores = sum(vectors @ _unit(vectors[known].mean(axis=0)) for vectors in spaces[part[wanted]])
        rivals[past] = False
        rivals[wanted] = False
        above, level = (scores[rivals] > scores[wanted]).sum(), (scores[rivals] == scores[wanted]).sum()
        rank = 1 + above + level / 2
        found.append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
        people.append(int(split.live.owners[target]))
    return np.array(found), np.array(people)


def _centred(vectors: np.ndarray) -> np.ndarray:
    return centred({Modality.TEXT: vectors})[Modality.TEXT]


def _numbers(one: Interval) -> tuple[float, float, float]:
    return one.mean, one.low, one.high


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


if __name__ == "__main__":
    main()
