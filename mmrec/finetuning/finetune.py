"""Fine-tuning, from a store to encoders in a folder and whether it helped.

    finetuned = finetune(layout, load_sources("packaged"), "align", config, folder)
    finetuned.report       # counts, curve, before and after on held-out items, a plain sentence
    finetuned.folder       # what `mmrec index STORE --encoders` takes

The folder gets ``encoders/``, ``report.json``, ``curves.png``, ``tensorboard/`` and ``checkpoint.safetensors``, from
which the same call goes on if it was interrupted. Under ``torchrun`` or ``accelerate launch`` every process makes this
call; all return the same, and one writes.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch

from mmrec.behaviour.log import EventLog
from mmrec.catalog.media_access import MediaAccess
from mmrec.encoders.protocol import Sample
from mmrec.finetuning.config import FinetuneConfig
from mmrec.finetuning.corpus import Corpus
from mmrec.finetuning.embedding import Embedder
from mmrec.finetuning.fitting import fit_towers
from mmrec.finetuning.loop import Loop
from mmrec.finetuning.material import Material, comparable, gather, stored_spaces
from mmrec.finetuning.model_card import Measure, ModelCard
from mmrec.finetuning.objective import ContentVectors
from mmrec.finetuning.parts import Parts
from mmrec.finetuning.questions import centred
from mmrec.finetuning.samples import Samples, VectorSamples
from mmrec.finetuning.saving import save_encoders
from mmrec.finetuning.sources import Source
from mmrec.finetuning.task import SENTENCES, Kind, Task
from mmrec.finetuning.tasks import task_of
from mmrec.finetuning.tower_building import Tower, build_towers
from mmrec.finetuning.vector_tower import VectorTower
from mmrec.finetuning.verdict import Verdict, judge, write_verdict
from mmrec.modality import Modality
from mmrec.store.files import write_atomically
from mmrec.store.layout import Layout
from mmrec.training.course import Epoch
from mmrec.training.curves import Board, draw_curves
from mmrec.training.processes import make_accelerator

__all__ = ["CHECKPOINT", "ENCODERS", "REPORT", "Finetuned", "Report", "finetune"]

CHECKPOINT = "checkpoint.safetensors"
REPORT = "report.json"
ENCODERS = "encoders"


@dataclass(frozen=True, slots=True)
class Report:
    """How a fine-tuning went.

    Attributes:
        objective: ``align``, ``coengage`` or ``label``.
        counts: Items, contents, pairs and questions.
        curve: Each epoch.
        best_epoch: The one whose weights are kept; 0 where those from before were best.
        verdict: Before and after on held-out items, and whether it helped.

    """

    objective: str
    counts: Mapping[str, int]
    curve: tuple[Epoch, ...]
    best_epoch: int
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Finetuned:
    """What came of it: how it went, and the folder of the encoders."""

    report: Report
    folder: Path


def finetune(
    layout: Layout,
    sources: Sequence[Source],
    objective: Kind,
    config: FinetuneConfig,
    folder: Path,
    log: EventLog | None = None,
    said: Callable[[Epoch], None] | None = None,
) -> Finetuned:
    """Fine-tune encoders on a store, or go on with what was interrupted.

    Args:
        layout: The store; it is read and not changed.
        sources: Its encoders. Their networks are trained in place.
        objective: What is learned.
        config: How.
        folder: Where results are kept; made if it is not there.
        log: What people did, for ``coengage``.
        said: Called with each epoch that is done.

    Raises:
        UsageError: There is nothing to learn from, or the folder holds another training.

    """
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = make_accelerator(config.device, config.precision)
    with torch.random.fork_rng(enabled=True):
        torch.manual_seed(config.seed)
        able = frozenset(modality for modality in Modality for source in sources if source.spaces(modality))
        towers = build_towers(sources, config.towers_for(objective, able))
        column = config.label.column if objective == "label" else None
        material = gather(layout, towers, MediaAccess(), config.memory, column)
        corpus = material.corpus
        # A head that nothing reached must not be saved as if it had been trained.
        towers = {modality: tower for modality, tower in towers.items() if modality in corpus.contents}
        task = task_of(objective, layout, material, config, log)
        before = _stored(layout, sources, corpus, whole_items=task.whole_items)
        # What an encoder's own weights are trained away from is not there afterwards.
        stay = before if all(isinstance(tower, VectorTower) for tower in towers.values()) else []
        _standardise(towers, material)
        towers = fit_towers(towers, material.samples, corpus, task.train, config.seed, task.targets)
        embedder = Embedder(Parts(towers, _Each(material.samples), config.part_cost, config.shards), accelerator)

        def score(vectors: ContentVectors) -> float:
            found = task.validation.ask([*stay, centred(vectors)])
            return float(np.mean([one.metric(task.metric).mean() for one in found.values()])) if found else 0.0

        loop = Loop(embedder, corpus, task.objective, score, config)
        with (
            Board(folder / "tensorboard", task.metric.upper())
            if accelerator.is_main_process
            else nullcontext() as board
        ):

            def heard(epoch: Epoch) -> None:
                if board is not None:
                    board.add(epoch)
                if said is not None:
                    said(epoch)

            trains = any(weight.requires_grad for tower in towers.values() for weight in tower.network.parameters())
            fingerprint = _fingerprint(objective, corpus, config, before)
            curve = loop.run(folder / CHECKPOINT, fingerprint, heard) if trains else []
        after = [*stay, centred(embedder.all(corpus))]
    verdict = judge(task.test.ask(before), task.test.ask(after), task.metric, config.seed)
    report = Report(objective, _counts(material, task), tuple(curve), loop.course.at.best_epoch, verdict)
    if accelerator.is_main_process:
        save_encoders(towers, sources, folder / ENCODERS, _card(report, config))
        if curve:
            draw_curves(curve, folder / "curves.png", task.metric.upper())
        write_atomically(folder / REPORT, json.dumps(asdict(report), indent=1).encode())
        write_verdict(verdict, folder / ENCODERS)
    accelerator.wait_for_everyone()
    return Finetuned(report, folder / ENCODERS)


class _Each:
    """Samples of all modalities."""

    def __init__(self, samples: Mapping[Modality, Samples]) -> None:
        self._samples = samples

    def costs(self, modality: Modality) -> np.ndarray:
        return self._samples[modality].costs(modality)

    def take(self, modality: Modality, places: np.ndarray) -> Sequence[Sample]:
        return self._samples[modality].take(modality, places)

    def expect(self, modality: Modality, places: np.ndarray) -> None:
        self._samples[modality].expect(modality, places)


def _stored(layout: Layout, sources: Sequence[Source], corpus: Corpus, *, whole_items: bool) -> list[ContentVectors]:
    """What the store compares by as it is."""
    stored = stored_spaces(layout, sources, corpus)
    if not whole_items:
        return [centred(space) for space in comparable(stored)]
    return [centred({modality: vectors}) for some in stored.values() for _, modality, vectors in some]


def _standardise(towers: Mapping[Modality, Tower], material: Material) -> None:
    """Fix how heads shift and scale what they read; those that begin as what they read leave it alone."""
    for modality, tower in towers.items():
        samples = material.samples[modality]
        if not isinstance(tower, VectorTower) or not isinstance(samples, VectorSamples):
            continue
        if tower.head is None or tower.head.config.residual is not None or not len(samples.vectors[modality]):
            continue
        ends = np.cumsum([dim for _, dim in tower.inputs])[:-1]
        parts = np.split(samples.vectors[modality], ends, axis=1)
        device = tower.head.shift.device
        tower.head.standardise(
            {name: torch.from_numpy(part).to(device) for (name, _), part in zip(tower.inputs, parts, strict=True)}
        )


def _counts(material: Material, task: Task) -> dict[str, int]:
    corpus = material.corpus
    counts = {f"{modality} contents": len(own) for modality, own in corpus.contents.items()}
    counts |= {f"{modality} contents left out": count for modality, count in material.left_out.items() if count}
    return {"items": len(corpus), **counts, **task.counts, "held-out questions": len(task.test)}


def _card(report: Report, config: FinetuneConfig) -> ModelCard:
    measures = [
        Measure(
            f"{line.asked}, {line.metric.upper()}",
            line.before.mean,
            line.after.mean,
            None if np.isnan(line.difference.low) else (line.difference.low, line.difference.high),
        )
        for line in report.verdict.lines
    ]
    sentence = report.verdict.sentence
    settings = config.model_dump(mode="json", exclude_defaults=True)
    return ModelCard(SENTENCES[report.objective], report.counts, measures, sentence, config.seed, settings)


def _fingerprint(objective: str, corpus: Corpus, config: FinetuneConfig, before: Sequence[ContentVectors]) -> str:
    """Everything that decides each step; how long to go on does not, unless the rate falls towards the end."""
    free = {"patience", "device", "memory"} | (set() if config.anneal else {"epochs"})
    seen = sha256((objective + config.model_dump_json(exclude=free)).encode())
    seen.update(np.ascontiguousarray(corpus.rows).tobytes())
    for modality, own in corpus.contents.items():
        seen.update(modality.encode() + b"".join(own.hashes))
        seen.update(own.offsets.tobytes() + own.places.tobytes())
    for space in before:
        for modality, vectors in space.items():
            seen.update(modality.encode() + np.ascontiguousarray(vectors).tobytes())
    return seen.hexdigest()
