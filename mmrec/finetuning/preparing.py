"""Prepare a fine-tuning: towers, contents, held-out items, objective, and heads fitted in closed form.

    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        ready = prepare(layout, load_sources("packaged"), "align", config)

Heads and adapters draw from torch's random numbers, so the caller seeds them. Nothing is written.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
import torch
from accelerate import Accelerator
from accelerate.utils import gather_object
from jaxtyping import Int64

from mmrec.encoders.protocol import limits_for
from mmrec.errors import UsageError
from mmrec.events.log import EventLog
from mmrec.finetuning.config import FinetuneConfig, ObjectiveName
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.head_fitting import fit_towers
from mmrec.finetuning.loop import Embedder, Loop
from mmrec.finetuning.material import TrainingData, comparable, load_training_data, stored_spaces
from mmrec.finetuning.objective import ContentVectors
from mmrec.finetuning.questions import centred
from mmrec.finetuning.samples import VectorSamples
from mmrec.finetuning.tasks import FinetuneTask, make_task
from mmrec.finetuning.tower_building import FinetuneTower, build_towers
from mmrec.finetuning.towers import EncoderSource, VectorTower
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.layout import Layout
from mmrec.training.checkpoint import make_accelerator
from mmrec.types import Modality


@dataclass(frozen=True, slots=True)
class Access:
    """Media access, for encoders that are trained, and the event log, for ``coengage``."""

    media: MediaAccess = field(default_factory=MediaAccess)
    log: EventLog | None = None


@dataclass(frozen=True, slots=True, eq=False)
class FinetuneRun:
    """A fine-tuning that is ready to run.

    Attributes:
        towers: What is trained of each modality that takes part; heads in closed form are fitted already.
        before: The stored vectors that searches use before training.
        unchanged: Those of `before` that are used after training as well.
        fingerprint: Of everything that decides each step.

    """

    config: FinetuneConfig
    sources: Sequence[EncoderSource]
    towers: Mapping[Modality, FinetuneTower]
    data: TrainingData
    task: FinetuneTask
    before: Sequence[ContentVectors]
    unchanged: Sequence[ContentVectors]
    loop: Loop
    fingerprint: str

    @property
    def accelerator(self) -> Accelerator:
        """The accelerator, which joins the processes."""
        return self.loop.accelerator

    @property
    def trains(self) -> bool:
        """Whether anything is left to train once heads are fitted."""
        return any(weight.requires_grad for tower in self.towers.values() for weight in tower.network.parameters())

    def counts(self) -> dict[str, int]:
        """How much there is, by what it is."""
        corpus, task = self.data.corpus, self.task
        counts = {f"{modality} contents": len(own) for modality, own in corpus.contents.items()}
        counts |= {f"{name} contents left out": count for name, count in self.data.left_out.items() if count}
        return {"items": len(corpus), **counts, **task.counts, "held-out questions": len(task.test)}


def prepare(
    layout: Layout,
    sources: Sequence[EncoderSource],
    kind: ObjectiveName,
    config: FinetuneConfig,
    access: Access | None = None,
) -> FinetuneRun:
    """Build towers, read what they learn from, hold items out, and fit the heads that have a closed form.

    Raises UsageError where there is nothing to learn from, or where processes see different contents.
    """
    access = access or Access()
    accelerator = make_accelerator(config.device, config.precision)
    able = frozenset(modality for modality in Modality for source in sources if source.spaces(modality))
    towers = build_towers(sources, config.towers_for(kind, able))
    column = config.label.column if kind == "label" else None
    limits = limits_for([source.encoder for source in sources], access.media.limits)
    data = load_training_data(layout, towers, replace(access.media, limits=limits), config.memory, column)
    corpus = data.corpus
    # A head that nothing reached must not be saved as if it had been trained.
    towers = {modality: tower for modality, tower in towers.items() if modality in corpus.contents}
    task = make_task(kind, layout, data, config, access.log)
    before = _stored(layout, sources, corpus, whole_items=task.whole_items)
    fingerprint = _fingerprint(kind, corpus, config, task.pairs_or_labels, before)
    _check_alike(accelerator, fingerprint)
    # If an encoder's weights change, its old vectors are not available after training.
    unchanged = before if all(isinstance(tower, VectorTower) for tower in towers.values()) else []
    _standardise(towers, data, task.train)
    towers = fit_towers(towers, data.samples, corpus, task.train, config.seed, task.targets)
    embedder = Embedder(towers, data.samples, accelerator, config.part_cost, config.shards)

    def score(vectors: ContentVectors) -> float:
        found = task.validation.rank([*unchanged, centred(vectors)])
        return float(np.mean([one.metric(task.metric).mean() for one in found.values()])) if found else 0.0

    loop = Loop(embedder, corpus, task.objective, score, config)
    return FinetuneRun(config, sources, towers, data, task, before, unchanged, loop, fingerprint)


def _stored(
    layout: Layout, sources: Sequence[EncoderSource], corpus: Corpus, *, whole_items: bool
) -> list[ContentVectors]:
    """The stored vectors that searches use before training."""
    stored = stored_spaces(layout, sources, corpus)
    if not whole_items:
        return [centred(space) for space in comparable(stored)]
    return [centred({modality: vectors}) for some in stored.values() for _, modality, vectors in some]


def _standardise(towers: Mapping[Modality, FinetuneTower], data: TrainingData, items: Int64[np.ndarray, " n"]) -> None:
    """Fix how heads shift and scale what they read, by what some items have.

    Heads that begin as what they read leave it alone.
    """
    for modality, tower in towers.items():
        samples = data.samples[modality]
        if not isinstance(tower, VectorTower) or not isinstance(samples, VectorSamples):
            continue
        own = data.corpus.contents[modality].matrix[items]
        rows = samples.vectors[np.asarray(own.sum(axis=0)).ravel() > 0]
        if tower.head is None or tower.head.config.residual is not None or not len(rows):
            continue
        tower.head.standardise(tower.split(torch.from_numpy(rows).to(tower.head.shift.device)))


def _fingerprint(
    kind: ObjectiveName,
    corpus: Corpus,
    config: FinetuneConfig,
    learned: Sequence[Int64[np.ndarray, " _"]],
    before: Sequence[ContentVectors],
) -> str:
    """Everything that decides each step; how long to go on does not, unless the rate falls towards the end."""
    free = {"patience", "device", "memory"} | (set() if config.anneal else {"epochs"})
    seen = sha256((kind + config.model_dump_json(exclude=free)).encode())
    seen.update(np.ascontiguousarray(corpus.rows).tobytes())
    for modality, own in corpus.contents.items():
        seen.update(modality.encode() + b"".join(own.hashes))
        seen.update(own.offsets.tobytes() + own.places.tobytes())
    for numbers in learned:
        seen.update(np.ascontiguousarray(numbers).tobytes())
    for space in before:
        for modality, vectors in space.items():
            seen.update(modality.encode() + np.ascontiguousarray(vectors).tobytes())
    return seen.hexdigest()


def _check_alike(accelerator: Accelerator, fingerprint: str) -> None:
    """Raise UsageError where processes see different contents: they would wait for each other for ever."""
    if accelerator.num_processes > 1 and len(set(gather_object([fingerprint]))) > 1:
        raise UsageError(
            "The processes do not see the same items and contents. Put the store, and the media files that it "
            "names, where every machine can read them, and start again when nothing is being indexed."
        )
