"""Contents of ml-100k that learn taste: ``python -m benchmarks.finetune_movielens``; ``--quick`` is one seed.

A tenth of the films, others with each seed, is held out of everything. A linear head on the MiniLM vector of title,
year and genres is trained by co-engagement: pairs of films that one person rated within a few events of each other, in
the training part of leave-one-out. Then each person is placed by the mean of their newest warm films, with no ids, no
popularity and no user tower, and each held-out film that they rated last is ranked among all held-out films that they
had not met, before (the MiniLM vectors) and after (the head's vectors beside them, weights equal). Intervals are 95%
over people, who are the same before and after.
"""

import numpy as np
import torch

from benchmarks.movielens_data import MovieLens
from benchmarks.report import WORK, arguments, show
from mmrec.behaviour.splits import Split
from mmrec.encoders.head import Head, HeadConfig
from mmrec.evaluation.bootstrap import compare, interval
from mmrec.finetuning.coengage import CoEngage, pairs_of
from mmrec.finetuning.config import CoEngageConfig, FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.embedding import Embedder
from mmrec.finetuning.loop import Loop
from mmrec.finetuning.parts import Parts
from mmrec.finetuning.questions import centred
from mmrec.finetuning.samples import VectorSamples
from mmrec.finetuning.sources import load_sources
from mmrec.finetuning.tower_settings import TowerSettings
from mmrec.finetuning.vector_tower import VectorTower
from mmrec.modality import Modality
from mmrec.training.processes import make_accelerator

CONFIG = FinetuneConfig(
    device="cpu", batch=512, epochs=6, rate=1e-3, warmup=20, patience=3, coengage=CoEngageConfig(pairs=30_000)
)
SEEDS = (0, 1, 2)
DIM = 384
"""Numbers of the text's vector, the first of each film's content."""
NEWEST = 20


def main() -> None:
    """Train, ask, and print."""
    seeds = SEEDS[:1] if arguments(__doc__ or "").quick else SEEDS
    films = MovieLens()
    befores, afters, people = [], [], []
    for seed in seeds:
        split = films.split("cold", seed)
        texts = films.contents[:, :DIM]
        learned = centred({Modality.TEXT: trained(films, split, texts, seed)})[Modality.TEXT]
        plain = centred({Modality.TEXT: texts})[Modality.TEXT]
        old, who = gains(films, split, [plain])
        new, _ = gains(films, split, [plain, learned])
        befores.append(old)
        afters.append(new)
        people.append(who)
    who = np.concatenate(people)
    old, new = np.concatenate(befores)[None], np.concatenate(afters)[None]
    change = compare(("after", "before"), new, old, who).difference
    rows = [("NDCG@10, held-out films among themselves", "mean", "low", "high")]
    rows += [
        (name, one.mean, one.low, one.high)
        for name, one in (("before", interval(old, who)), ("after", interval(new, who)), ("after - before", change))
    ]
    figures = {
        "cold_before_ndcg10": float(old.mean()),
        "cold_after_ndcg10": float(new.mean()),
        "cold_difference_low": change.low,
        "cold_difference_high": change.high,
    }
    show("Fine-tuning on ml-100k", rows, figures)


def trained(films: MovieLens, split: Split, texts: np.ndarray, seed: int) -> np.ndarray:
    """Vectors of all films by a head that has seen no held-out one."""
    config = CONFIG.model_copy(update={"seed": seed})
    names = [[int(row).to_bytes(16, "big")] for row in films.rows]
    corpus = Corpus.of(films.rows.tolist(), {Modality.TEXT: names})
    source = next(one for one in load_sources(device="cpu") if one.spaces(Modality.TEXT))
    space = source.spaces(Modality.TEXT)[0]
    torch.manual_seed(seed)
    head = Head(HeadConfig(inputs=((space.name, DIM),), dim=DIM, dropout=0.1))
    tower = VectorTower(Modality.TEXT, source, space, TowerSettings(), head)
    warm = ~np.isin(films.rows, split.cold_rows)
    head.standardise({space.name: torch.from_numpy(texts[warm])})
    left, right, _ = pairs_of(split.train, np.ones(len(split.train.items), dtype=bool), config.coengage)
    if np.isin(np.concatenate([left, right]), split.cold_rows).any():
        raise AssertionError("a held-out film was about to be learned from")
    pairs = (np.searchsorted(corpus.rows, left), np.searchsorted(corpus.rows, right))
    parts = Parts({Modality.TEXT: tower}, VectorSamples({Modality.TEXT: texts}))
    embedder = Embedder(parts, make_accelerator(config.device, config.precision))

    def judged(vectors: dict[Modality, np.ndarray]) -> float:
        return float(gains(films, split, [centred(vectors)[Modality.TEXT]], validation=True)[0].mean())

    loop = Loop(embedder, corpus, CoEngage(corpus, pairs, config), judged, config)
    folder = WORK / "finetune-movielens"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{seed}.safetensors"
    path.unlink(missing_ok=True)
    loop.run(path, str(seed), lambda epoch: print(seed, epoch, flush=True))
    return embedder.all(corpus)[Modality.TEXT]


def gains(
    films: MovieLens, split: Split, spaces: list[np.ndarray], *, validation: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """NDCG@10 of each question, and its person: held-out films among themselves, or for validation warm ones."""
    cold = np.isin(films.rows, split.cold_rows)
    among = ~cold if validation else cold
    found, people = [], []
    for target in (split.validation if validation else split.targets).tolist():
        past = np.searchsorted(films.rows, split.live.items[split.history(target)])
        wanted = int(np.searchsorted(films.rows, split.live.items[target]))
        known = past[~cold[past]][-NEWEST:]
        if not among[wanted] or not len(known):
            continue
        scores = sum(vectors @ _unit(vectors[known].mean(axis=0)) for vectors in spaces)
        rivals = among.copy()
        rivals[past] = False
        rivals[wanted] = False
        above, level = (scores[rivals] > scores[wanted]).sum(), (scores[rivals] == scores[wanted]).sum()
        rank = 1 + above + level / 2
        found.append(1 / np.log2(1 + rank) if rank <= 10 else 0.0)
        people.append(int(split.live.owners[target]))
    return np.array(found), np.array(people)


def _unit(vector: np.ndarray) -> np.ndarray:
    return vector / max(float(np.linalg.norm(vector)), 1e-12)


if __name__ == "__main__":
    main()
