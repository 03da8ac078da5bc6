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
from mmrec.events.cleaning import Cleaning, clean
from mmrec.events.event import load_events
from mmrec.events.histories import Histories, KnownItems
from mmrec.events.log import EventLog
from mmrec.events.ratings import read_ratings
from mmrec.finetuning.align import Align, Label
from mmrec.finetuning.coengage import co_engaged
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus, HeldOut, hold_out
from mmrec.finetuning.head_fitting import fit_towers
from mmrec.finetuning.loop import Embedder, Loop
from mmrec.finetuning.material import TrainingData, comparable, gather, stored_spaces
from mmrec.finetuning.objective import ContentVectors
from mmrec.finetuning.questions import FinetuneTask, Kind, Questions, across, centred, of_items
from mmrec.finetuning.samples import VectorSamples
from mmrec.finetuning.tower_building import Tower, build_towers
from mmrec.finetuning.towers import EncoderSource, VectorTower
from mmrec.sources.media_access import MediaAccess
from mmrec.storage.items import ItemTable
from mmrec.storage.layout import Layout
from mmrec.training.checkpoint import make_accelerator
from mmrec.types import Modality


def task_of(
    kind: Kind, layout: Layout, data: TrainingData, config: FinetuneConfig, log: EventLog | None
) -> FinetuneTask:
    """Hold items out and make the task of an objective.

    Raises UsageError where there is nothing to learn from, or nothing to ask of what is held out.
    """
    task = _task_of(kind, layout, data, config, log)
    if not len(task.test):
        raise UsageError(
            f"Nothing can be asked of the {task.counts['test']} items that are held out for the verdict: none has a "
            "partner that is right. Give held_out.test a larger share, another seed, or more data."
        )
    return task


def _task_of(
    kind: Kind, layout: Layout, data: TrainingData, config: FinetuneConfig, log: EventLog | None
) -> FinetuneTask:
    corpus = data.corpus
    match kind:
        case "align":
            return _align(corpus, config)
        case "label":
            return _label(corpus, data, config)
    if log is None:
        raise UsageError("co-engagement is learned from events: import some with `mmrec events import STORE FILE`")
    known = KnownItems.of(ItemTable(layout.items).id_rows()).among(corpus.rows)
    rules = Cleaning()
    events = clean(load_events(log.scan()), rules, known)[0]
    histories = Histories.of(events, known, read_ratings(events, rules.kinds))
    return co_engaged(corpus, histories, histories.weights(rules.kinds.weights) > 0, config)


def _align(corpus: Corpus, config: FinetuneConfig) -> FinetuneTask:
    some = np.zeros(len(corpus), dtype=bool)
    for pair in config.align.pairs:
        some |= corpus.have(*pair)
    held = hold_out(corpus, np.flatnonzero(some), config.held_out, config.seed)
    checked, asked = (
        across(corpus, config.align.pairs, part, held.groups, held.not_trained) for part in (held.validation, held.test)
    )
    objective = Align(corpus, held.train, config)
    pairs = {f"{one}-{other} pairs": len(items) for (one, other), items in objective.items.items()}
    return FinetuneTask(objective, held.train, checked, asked, False, {**held.sizes, **pairs})


def _label(corpus: Corpus, data: TrainingData, config: FinetuneConfig) -> FinetuneTask:
    values = sorted({str(value) for value in data.labels if value is not None})
    numbers = {value: number for number, value in enumerate(values)}
    labels = np.array([-1 if value is None else numbers[str(value)] for value in data.labels], dtype=np.int64)
    items = np.flatnonzero((labels >= 0) & corpus.placed)
    # An item that is alone with its value can be neither trained on nor evaluated.
    items = items[np.bincount(labels[items], minlength=len(values))[labels[items]] > 1]
    held = hold_out(corpus, items, config.held_out, config.seed)
    checked, asked = (_label_questions(corpus, labels, part, items, held) for part in (held.validation, held.test))
    counts = {**held.sizes, "labels": len(values)}
    return FinetuneTask(
        Label(corpus, held.train, labels, config), held.train, checked, asked, True, counts, "r@1", (labels,)
    )


def _label_questions(
    corpus: Corpus,
    labels: Int64[np.ndarray, " items"],
    asking: Int64[np.ndarray, " n"],
    items: Int64[np.ndarray, " m"],
    held: HeldOut,
) -> Questions:
    pairs, units = [], []
    for item in asking.tolist():
        right = items[(labels[items] == labels[item]) & (items != item)]
        if len(right):
            pairs.append((item, right.tolist()))
            units.append(int(held.groups[item]))
    name = "same label"
    return of_items(corpus, {name: pairs} if pairs else {}, {name: units})


@dataclass(frozen=True, slots=True)
class Access:
    """What is read beside the store.

    Attributes:
        media: How images and audio are read where an encoder is trained.
        log: The event log, for ``coengage``.

    """

    media: MediaAccess = field(default_factory=MediaAccess)
    log: EventLog | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """A fine-tuning that is ready to run.

    Attributes:
        kind: What is learned.
        config: How.
        sources: The encoders.
        towers: What is trained of each modality that takes part; heads in closed form are fitted already.
        data: The store's items and their contents.
        task: The objective and the questions.
        before: The stored vectors that searches use before training.
        stay: Those of `before` that are used after training as well.
        loop: The training loop.
        fingerprint: Of everything that decides each step.

    """

    kind: Kind
    config: FinetuneConfig
    sources: Sequence[EncoderSource]
    towers: Mapping[Modality, Tower]
    data: TrainingData
    task: FinetuneTask
    before: Sequence[ContentVectors]
    stay: Sequence[ContentVectors]
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
    layout: Layout, sources: Sequence[EncoderSource], kind: Kind, config: FinetuneConfig, access: Access | None = None
) -> Prepared:
    """Build towers, read what they learn from, hold items out, and fit the heads that have a closed form.

    Raises UsageError where there is nothing to learn from, or where processes see different contents.
    """
    access = access or Access()
    accelerator = make_accelerator(config.device, config.precision)
    able = frozenset(modality for modality in Modality for source in sources if source.spaces(modality))
    towers = build_towers(sources, config.towers_for(kind, able))
    column = config.label.column if kind == "label" else None
    limits = limits_for([source.encoder for source in sources], access.media.limits)
    data = gather(layout, towers, replace(access.media, limits=limits), config.memory, column)
    corpus = data.corpus
    # A head that nothing reached must not be saved as if it had been trained.
    towers = {modality: tower for modality, tower in towers.items() if modality in corpus.contents}
    task = task_of(kind, layout, data, config, access.log)
    before = _stored(layout, sources, corpus, whole_items=task.whole_items)
    fingerprint = _fingerprint(kind, corpus, config, task.learned, before)
    _check_alike(accelerator, fingerprint)
    # What an encoder's own weights are trained away from is not there afterwards.
    stay = before if all(isinstance(tower, VectorTower) for tower in towers.values()) else []
    _standardise(towers, data, task.train)
    towers = fit_towers(towers, data.samples, corpus, task.train, config.seed, task.targets)
    embedder = Embedder(towers, data.samples, accelerator, config.part_cost, config.shards)

    def score(vectors: ContentVectors) -> float:
        found = task.validation.ask([*stay, centred(vectors)])
        return float(np.mean([one.metric(task.metric).mean() for one in found.values()])) if found else 0.0

    loop = Loop(embedder, corpus, task.objective, score, config)
    return Prepared(kind, config, sources, towers, data, task, before, stay, loop, fingerprint)


def _stored(
    layout: Layout, sources: Sequence[EncoderSource], corpus: Corpus, *, whole_items: bool
) -> list[ContentVectors]:
    """The stored vectors that searches use before training."""
    stored = stored_spaces(layout, sources, corpus)
    if not whole_items:
        return [centred(space) for space in comparable(stored)]
    return [centred({modality: vectors}) for some in stored.values() for _, modality, vectors in some]


def _standardise(towers: Mapping[Modality, Tower], data: TrainingData, items: Int64[np.ndarray, " n"]) -> None:
    """Fix how heads shift and scale what they read, by what some items have.

    Heads that begin as what they read leave it alone.
    """
    for modality, tower in towers.items():
        samples = data.samples[modality]
        if not isinstance(tower, VectorTower) or not isinstance(samples, VectorSamples):
            continue
        own = data.corpus.matrix(modality)[items]
        rows = samples.vectors[np.asarray(own.sum(axis=0)).ravel() > 0]
        if tower.head is None or tower.head.config.residual is not None or not len(rows):
            continue
        ends = np.cumsum([dim for _, dim in tower.inputs])[:-1]
        parts = np.split(rows, ends, axis=1)
        device = tower.head.shift.device
        tower.head.standardise(
            {name: torch.from_numpy(part).to(device) for (name, _), part in zip(tower.inputs, parts, strict=True)}
        )


def _fingerprint(
    kind: str,
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
