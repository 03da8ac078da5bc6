"""Estimate memory and time of a fine-tuning from a few real steps, without writing anything."""

import itertools
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mmrec.finetuning.config import FinetuneConfig, ObjectiveName
from mmrec.finetuning.loop import EmbeddingPart
from mmrec.finetuning.objective import Step
from mmrec.finetuning.preparing import Access, FinetuneRun, prepare
from mmrec.finetuning.tower_building import FinetuneTower
from mmrec.finetuning.towers import EncoderSource
from mmrec.storage.layout import Layout
from mmrec.training.checkpoint import ESTIMATE_STEPS, seconds_for
from mmrec.types import Modality


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that counts the bytes of tensors of one device made within it, for as long as anything holds them.

    What single operations use inside themselves, and what a library keeps in reserve, is not seen. Afterwards `most` is
    the number of bytes at the worst moment.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._device = device
        self._now = 0
        self.most = 0

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[object] = (),
        kwargs: Mapping[str, object] | None = None,
    ) -> Any:  # noqa: ANN401 -- whatever the operation gives
        """Run an operation, and count what is new of its results."""
        del types
        made = func(*args, **(kwargs or {}))
        # Views and what is written in place lie where something lay before.
        old = {value.untyped_storage().data_ptr() for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)}
        new = {}
        for value in tree_leaves(made):
            if isinstance(value, Tensor) and value.device.type == self._device.type:
                storage = value.untyped_storage()
                if storage.data_ptr() not in old:
                    new[storage.data_ptr()] = storage
        for storage in new.values():
            self._now += storage.nbytes()
            weakref.finalize(storage, self._forget, storage.nbytes()).atexit = False
        self.most = max(self.most, self._now)
        return made

    def _forget(self, size: int) -> None:
        self._now -= size


@dataclass(frozen=True, slots=True)
class Estimate:
    """Sizes, memory and time of a fine-tuning.

    Attributes:
        objective: ``align``, ``coengage`` or ``label``.
        counts: Items, contents, pairs or labels, what is trained on and held out, and questions.
        left_out: Why the first content of a modality that is left out is.
        towers: Of each modality ``how`` it is trained, and how many weights are ``trained`` by steps, ``fitted`` in
            closed form, or ``frozen`` and used as they are; two towers of a joint model both count what they share.
        memory: Bytes on one process. Counted: ``weights`` with buffers, each once; ``gradients``; ``optimiser``, two
            moments for each trained weight; ``best``, the best weights so far and the running mean; ``vectors`` of all
            contents, as validation makes them. Measured: ``step``, what a costly step held beyond these, activations
            above all. Their sum is ``device``; ``contents`` are in main memory: samples, and vectors to compare with.
        steps: Steps an epoch; 0 where heads in closed form are all there is.
        preparing_seconds: What reading, and fitting such heads, took here and now.
        epoch_seconds: One epoch without validation, from a few steps of each kind taken here and now.
        validation_seconds: Vectors of all contents, from a few batches.
        most_seconds: All of it, if validation never ends it early.

    """

    objective: ObjectiveName
    counts: Mapping[str, int]
    left_out: Mapping[Modality, str]
    towers: Mapping[Modality, Mapping[str, str | int]]
    memory: Mapping[str, int]
    steps: int
    preparing_seconds: float
    epoch_seconds: float
    validation_seconds: float
    most_seconds: float


def estimate(
    layout: Layout,
    sources: Sequence[EncoderSource],
    objective: ObjectiveName,
    config: FinetuneConfig,
    access: Access | None = None,
) -> Estimate:
    """Prepare, take a few steps and throw them away.

    Arguments and errors are those of `mmrec.finetuning.finetune.finetune`.
    """
    with torch.random.fork_rng(enabled=True):
        torch.manual_seed(config.seed)
        began = perf_counter()
        ready = prepare(layout, sources, objective, config, access)
        prepared = perf_counter() - began
        sizes = {modality: _size(tower) for modality, tower in ready.towers.items()}
        steps, seconds, peak = _epoch(ready) if ready.trains else (0, 0.0, 0)
        validated = _validation_seconds(ready)
    return Estimate(
        objective=objective,
        counts=ready.counts(),
        left_out=ready.data.why,
        towers=sizes,
        memory=_memory(ready, peak),
        steps=steps,
        preparing_seconds=prepared,
        epoch_seconds=seconds,
        validation_seconds=validated,
        most_seconds=prepared + (config.epochs * seconds if ready.trains else 0) + _embedding_passes(ready) * validated,
    )


def _size(tower: FinetuneTower) -> dict[str, str | int]:
    weights = list(tower.network.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    rest = sum(weight.numel() for weight in weights) - trained
    is_fitted = tower.settings.how == "fitted"
    fitted, frozen = (rest, 0) if is_fitted else (0, rest)
    return {"how": tower.settings.how, "trained": trained, "fitted": fitted, "frozen": frozen}


def _epoch(ready: FinetuneRun) -> tuple[int, float, int]:
    """Steps of the first epoch, the seconds it would take, and the bytes of the worst step without gradients."""
    few: dict[tuple[Modality, ...], list[Step]] = {}
    costs: dict[tuple[Modality, ...], float] = {}
    steps = 0
    began = perf_counter()
    # All are drawn, which is a part of what an epoch takes, and few are kept: each has masks as large as its batch.
    for step in ready.task.objective.steps(1):
        kind = tuple(sorted(step.contents))
        costs[kind] = costs.get(kind, 0.0) + _cost(ready, step.contents)
        steps += 1
        if len(some := few.setdefault(kind, [])) < ESTIMATE_STEPS:
            some.append(step)
    seconds = perf_counter() - began
    ready.loop.embedder.set_training()

    def take(step: Step) -> None:
        ready.loop.step(step, 0.0)
        _settle(ready)

    for kind, some in few.items():
        seconds += seconds_for(costs[kind], some, lambda step: _cost(ready, step.contents), take)
    most = 0
    for some in few.values():
        with PeakMemory(ready.accelerator.device) as seen:
            take(max(some, key=lambda step: _cost(ready, step.contents)))
        most = max(most, seen.most)
    gradients = _bytes(weight for weight in ready.loop.module.parameters() if weight.requires_grad)
    return steps, seconds, max(0, most - gradients)


def _cost(ready: FinetuneRun, contents: Mapping[Modality, Int64[np.ndarray, " _"]]) -> float:
    """How many of their encoders' batches some contents make."""
    samples, towers = ready.data.samples, ready.towers
    return sum(float(samples[m].costs[places].sum()) / towers[m].batch_cost for m, places in contents.items())


def _validation_seconds(ready: FinetuneRun) -> float:
    embedder = ready.loop.embedder

    def cost(part: EmbeddingPart) -> float:
        return _cost(ready, {part.modality: part.places})

    def take(part: EmbeddingPart) -> None:
        embedder.embed(part)
        _settle(ready)

    seconds = 0.0
    with torch.no_grad(), embedder.evaluating():
        for modality, own in ready.data.corpus.contents.items():
            parts = [part for _, part in embedder.own(embedder.parts({modality: np.arange(len(own))}))]
            few = parts[:: max(1, len(parts) // ESTIMATE_STEPS)]
            seconds += seconds_for(sum(map(cost, parts)), few, cost, take)
    return seconds


def _embedding_passes(ready: FinetuneRun) -> int:
    """How often all contents are embedded, if validation never ends it early."""
    config, mining = ready.config, ready.config.mining
    if not ready.trains:
        return 1
    mined = (
        -(-max(0, config.epochs + 1 - mining.after) // mining.every) if ready.task.objective.uses_hard_negatives else 0
    )
    return 2 + -(-config.epochs // config.evaluate_every) + mined


def _memory(ready: FinetuneRun, peak: int) -> dict[str, int]:
    module, samples = ready.loop.module, ready.data.samples.values()
    trained = _bytes(weight for weight in module.parameters() if weight.requires_grad) if ready.trains else 0
    own = ready.data.corpus.contents
    parts = {
        "weights": _bytes(itertools.chain(module.parameters(), module.buffers())),
        "gradients": trained,
        "optimiser": 2 * trained,
        "best": trained * (2 if ready.config.average else 1),
        "vectors": sum(4 * len(some) * ready.towers[modality].dim for modality, some in own.items()),
        "step": peak,
    }
    compared = sum(vectors.nbytes for space in ready.before for vectors in space.values())
    return {**parts, "contents": sum(one.held for one in samples) + compared, "device": sum(parts.values())}


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _settle(ready: FinetuneRun) -> None:
    """Wait for a device that works by itself."""
    if ready.accelerator.device.type == "cuda":
        torch.cuda.synchronize(ready.accelerator.device)
