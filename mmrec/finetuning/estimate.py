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
from mmrec.finetuning.preparing import Access, Prepared, prepare
from mmrec.finetuning.samples import MediaSamples, Samples, VectorSamples
from mmrec.finetuning.tower_building import Tower
from mmrec.finetuning.towers import EncoderSource
from mmrec.storage.layout import Layout
from mmrec.training.checkpoint import FEW, seconds_for
from mmrec.types import Modality


class PeakMemory(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """A context that counts the bytes of tensors made within it, for as long as anything holds them.

    What single operations use inside themselves, and what a library keeps in reserve, is not seen.

    Attributes:
        most: Bytes at the worst moment.

    """

    def __init__(self, device: torch.device) -> None:
        """Count the tensors of one device."""
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
class TowerSize:
    """One modality's tower, in numbers. Two towers of a joint model both count what they share.

    Attributes:
        how: What is trained of it.
        trained: Weights that steps change.
        fitted: Weights of a head that was solved for in closed form.
        frozen: Weights that are used as they are; those of an encoder whose stored vectors are read are not.

    """

    how: str
    trained: int
    fitted: int
    frozen: int


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes, on one process.

    Attributes:
        weights: All weights and buffers that are used, each once. Counted, as the next three are.
        gradients: One for each weight that is trained.
        optimiser: Two moments for each.
        best: The best weights so far, and the running mean where there is one.
        vectors: A vector of each content, as validation makes them.
        step: What a step held beyond all these at its worst moment: activations above all. Measured, on the most
            costly of the steps that were taken.
        contents: In main memory: prepared contents or stored vectors to learn from, and the vectors to compare with.
        device: All on the device together; `contents` come on top where that is the CPU.

    """

    weights: int
    gradients: int
    optimiser: int
    best: int
    vectors: int
    step: int
    contents: int
    device: int


@dataclass(frozen=True, slots=True)
class Estimate:
    """Sizes, memory and time of a fine-tuning.

    Attributes:
        objective: ``align``, ``coengage`` or ``label``.
        counts: Items, contents, pairs or labels, what is trained on and held out, and questions.
        left_out: Why the first content of a modality that is left out is.
        towers: What is trained.
        memory: What that takes.
        steps: Steps an epoch; 0 where heads in closed form are all there is.
        preparing_seconds: What reading, and fitting such heads, took here and now.
        epoch_seconds: One epoch without validation, from a few steps of each kind taken here and now.
        validation_seconds: Vectors of all contents, from a few batches.
        most_seconds: All of it, if validation never ends it early.

    """

    objective: ObjectiveName
    counts: Mapping[str, int]
    left_out: Mapping[Modality, str]
    towers: Mapping[Modality, TowerSize]
    memory: Memory
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
        most_seconds=prepared + (config.epochs * seconds if ready.trains else 0) + _placings(ready) * validated,
    )


def _size(tower: Tower) -> TowerSize:
    weights = list(tower.network.parameters())
    trained = sum(weight.numel() for weight in weights if weight.requires_grad)
    rest = sum(weight.numel() for weight in weights) - trained
    is_fitted = tower.settings.how == "fitted"
    return TowerSize(tower.settings.how, trained, rest if is_fitted else 0, 0 if is_fitted else rest)


def _epoch(ready: Prepared) -> tuple[int, float, int]:
    """Steps of the first epoch, the seconds it would take, and the most memory that a step held."""
    few: dict[tuple[Modality, ...], list[Step]] = {}
    costs: dict[tuple[Modality, ...], float] = {}
    steps = 0
    began = perf_counter()
    # All are drawn, which is a part of what an epoch takes, and few are kept: each has masks as large as its batch.
    for step in ready.task.objective.steps(1):
        kind = tuple(sorted(step.contents))
        costs[kind] = costs.get(kind, 0.0) + _cost(ready, step.contents)
        steps += 1
        if len(some := few.setdefault(kind, [])) < FEW:
            some.append(step)
    seconds = perf_counter() - began
    ready.loop.embedder.set_training()

    def take(step: Step) -> None:
        ready.loop.step(step, 0.0)
        _settle(ready)

    for kind, some in few.items():
        seconds += seconds_for(costs[kind], some, lambda step: _cost(ready, step.contents), take)
    worst = [max(some, key=lambda step: _cost(ready, step.contents)) for some in few.values()]
    return steps, seconds, _peak(ready, worst, take)


def _cost(ready: Prepared, contents: Mapping[Modality, Int64[np.ndarray, " _"]]) -> float:
    """How many of their encoders' batches some contents make."""
    samples, towers = ready.data.samples, ready.towers
    return sum(float(samples[m].costs[places].sum()) / towers[m].batch_cost for m, places in contents.items())


def _peak(ready: Prepared, steps: Sequence[Step], take: Callable[[Step], None]) -> int:
    """Bytes of the worst of some steps, without the gradients of weights."""
    most = 0
    for step in steps:
        with PeakMemory(ready.accelerator.device) as seen:
            take(step)
        most = max(most, seen.most)
    return max(0, most - _bytes(weight for weight in ready.loop.module.parameters() if weight.requires_grad))


def _validation_seconds(ready: Prepared) -> float:
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
            few = parts[:: max(1, len(parts) // FEW)]
            seconds += seconds_for(sum(cost(part) for part in parts), few, cost, take)
    return seconds


def _placings(ready: Prepared) -> int:
    """How often all contents are embedded, if validation never ends it early."""
    config, mining = ready.config, ready.config.mining
    if not ready.trains:
        return 1
    mined = -(-max(0, config.epochs + 1 - mining.after) // mining.every) if ready.task.objective.mines else 0
    return 2 + -(-config.epochs // config.evaluate_every) + mined


def _memory(ready: Prepared, peak: int) -> Memory:
    module = ready.loop.module
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
    held = sum(_held(samples) for samples in ready.data.samples.values())
    compared = sum(vectors.nbytes for space in ready.before for vectors in space.values())
    return Memory(**parts, contents=held + compared, device=sum(parts.values()))


def _held(samples: Samples) -> int:
    if isinstance(samples, VectorSamples):
        return samples.vectors.nbytes
    return samples.held if isinstance(samples, MediaSamples) else 0


def _bytes(tensors: Iterable[Tensor]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _settle(ready: Prepared) -> None:
    """Wait for a device that works by itself."""
    if ready.accelerator.device.type == "cuda":
        torch.cuda.synchronize(ready.accelerator.device)
