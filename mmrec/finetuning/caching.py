"""Gradients of a batch that is too large to be held at once, exactly: gradient caching.

Method. A contrastive loss depends on a content by its vector alone. So the batch is embedded part by part without
gradients; the loss of all vectors together gives a gradient for each vector; and each part is embedded once more, with
the random numbers that it had the first time, to carry its vectors' gradients on to the weights. The result is that of
the whole batch at once, at the memory of one part and the price of a second forward pass.

Processes share the parts. Each fills in the vectors of its own, all come to hold all of them, and each carries the
gradients of its own on; their sum over the processes is the gradient of the whole batch, negatives of all processes
included. Which content is in which row of a batch is the same everywhere, and so are its labels. Random numbers belong
to a part and not to a process, so that two processes compute what one does.

A batch that is one part, or for which `cached` is off, is embedded once and held.

Source: Gao et al., 2021, arXiv 2101.06983, section 3.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from mmrec.finetuning.embedding import Embedder
from mmrec.finetuning.objective import Step
from mmrec.finetuning.parts import Part
from mmrec.training.seeds import seed_torch

__all__ = ["backward"]


def backward(step: Step, embedder: Embedder, learned: nn.Module, seeds: Sequence[int], *, cached: bool) -> float:
    """Leave the gradients of a step's mean loss in all weights that are trained; returns the loss.

    Args:
        step: The batch.
        embedder: The towers.
        learned: What the loss itself learns.
        seeds: What decides the random numbers of the step.
        cached: Whether parts are embedded twice rather than held.

    """
    parts = embedder.parts.of(step.contents)
    own = embedder.own(parts)
    held = not cached or len(parts) == 1
    graphs: list[Tensor] = []
    vectors = embedder.empty({name: len(places) for name, places in step.contents.items()})
    _expect(embedder, own, 0)
    for place, (number, part) in enumerate(own):
        _expect(embedder, own, place + 1)
        seed_torch([*seeds, number])
        with torch.set_grad_enabled(held):
            graphs.append(embedder.embed(part))
        vectors[part.modality][_rows(part, embedder)] = graphs[-1].detach()
        if not held:
            graphs.clear()
    leaves = {name: some.detach().requires_grad_() for name, some in embedder.joined(vectors).items()}
    loss = step.loss(leaves)
    torch.autograd.backward(loss)
    for place, (number, part) in enumerate(own):
        if not any(weight.requires_grad for weight in embedder.towers[part.modality].network.parameters()):
            continue
        if not held:
            _expect(embedder, own, place + 1)
            seed_torch([*seeds, number])
        found = graphs[place] if held else embedder.embed(part)
        given = leaves[part.modality].grad
        if found.requires_grad and given is not None:
            torch.autograd.backward(found, given[_rows(part, embedder)])
    _join(embedder, learned)
    return float(loss.detach().item())


def _expect(embedder: Embedder, own: Sequence[tuple[int, Part]], place: int) -> None:
    if place < len(own):
        part = own[place][1]
        embedder.parts.samples.expect(part.modality, part.places)


def _rows(part: Part, embedder: Embedder) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(part.at)).to(embedder.accelerator.device)


def _join(embedder: Embedder, learned: nn.Module) -> None:
    """Add up the towers' gradients over the processes; the loss's own are the same in each.

    A weight that no content of this batch reached has a gradient of zero, in one process as in several.
    """
    for module, how in ((embedder.networks, "sum"), (learned, "mean")):
        weights = [weight for weight in module.parameters() if weight.requires_grad]
        if not weights:
            continue
        gradients = [torch.zeros_like(weight) if weight.grad is None else weight.grad for weight in weights]
        if embedder.accelerator.num_processes > 1:
            whole = embedder.accelerator.reduce(parameters_to_vector(gradients), how)
            vector_to_parameters(whole, gradients)
        for weight, gradient in zip(weights, gradients, strict=True):
            weight.grad = gradient
