"""Which weights a tower's vectors depend on, found by asking the network and not by the names of its parts.

One forward and one backward pass over a few contents tell which parameters have a gradient, which modules are called,
and which parameters come before a given block. So nothing has to be known of poolers that no one asks, of the other
half of a joint model, or of how a library calls its layers.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from mmrec.errors import UsageError
from mmrec.finetuning.encoder_tower import EncoderTower
from mmrec.items import Content, Waveform
from mmrec.modality import Modality

__all__ = ["Reach", "reach_of"]


@dataclass(frozen=True, eq=False)
class Reach:
    """What of an encoder's network one tower makes use of.

    Attributes:
        parameters: Names of the parameters that its vectors depend on.
        called: Names of the modules that are called as such; a layer whose weights alone are read is none of them.
        blocks: The network's blocks, first to last; empty where it has none that are alike.
        before: For each block, the names of the parameters that its input depends on.

    """

    parameters: frozenset[str]
    called: frozenset[str]
    blocks: tuple[nn.Module, ...] = ()
    before: tuple[frozenset[str], ...] = field(default=())

    def trained(self, last_blocks: int | None) -> frozenset[str]:
        """Return the parameters of the last blocks and of all that follows; of the whole network where None.

        Raises UsageError where the network has fewer blocks.
        """
        if last_blocks is None:
            return self.parameters
        if last_blocks > len(self.blocks):
            raise UsageError(
                f"last_blocks = {last_blocks} was given; this network has {len(self.blocks)} blocks that can be told "
                "apart. Give at most that, or leave it out to train all."
            )
        return self.parameters - self.before[-last_blocks]


def reach_of(tower: EncoderTower) -> Reach:
    """Ask a tower's network, all of whose parameters ask for gradients. Raises UsageError where none can be had."""
    network = tower.network.encoder
    named = {name: value for name, value in network.named_parameters() if value.requires_grad}
    samples = [tower.prepare(content) for content in _contents(tower.modality)]
    called: set[str] = set()
    inputs: dict[nn.Module, list[Tensor]] = {}
    with ExitStack() as hooks, torch.enable_grad():
        for name, module in network.named_modules():
            hooks.callback(module.register_forward_pre_hook(_note(name, called, inputs), with_kwargs=True).remove)
        total = tower.embed(samples).sum()
    reached = _depends([total], named)
    blocks = _blocks(network, reached, inputs)
    before = tuple(_depends(inputs[block], named) & reached for block in blocks)
    return Reach(reached, frozenset(called), blocks, before)


def _note(name: str, called: set[str], inputs: dict[nn.Module, list[Tensor]]) -> Any:  # noqa: ANN401
    def hook(module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        called.add(name)
        tensors = [value for value in (*given, *named.values()) if isinstance(value, Tensor) and value.requires_grad]
        inputs.setdefault(module, []).extend(tensors)

    return hook


def _depends(made: Sequence[Tensor], named: Mapping[str, Tensor]) -> frozenset[str]:
    """Names of the parameters that tensors depend on."""
    if not made:
        return frozenset()
    found = torch.autograd.grad(
        [value.sum() for value in made], list(named.values()), allow_unused=True, retain_graph=True
    )
    return frozenset(name for name, gradient in zip(named, found, strict=True) if gradient is not None)


def _blocks(
    network: nn.Module, reached: frozenset[str], inputs: Mapping[nn.Module, list[Tensor]]
) -> tuple[nn.Module, ...]:
    """The children of that list of alike modules which holds most of the weights: a Transformer's layers, stages."""
    best: tuple[nn.Module, ...] = ()
    most = 0
    for prefix, container in _outermost(network, "", reached, inputs):
        names = {name for name in reached if name.startswith(f"{prefix}." if prefix else "")}
        size = sum(network.get_parameter(name).numel() for name in names)
        if size > most:
            best, most = tuple(_asked(container, prefix, reached, inputs)), size
    return best


def _outermost(
    module: nn.Module, name: str, reached: frozenset[str], inputs: Mapping[nn.Module, list[Tensor]]
) -> Iterator[tuple[str, nn.Module]]:
    if isinstance(module, nn.ModuleList | nn.Sequential):
        children = _asked(module, name, reached, inputs)
        if len(children) > 1 and len({type(child) for child in children}) == 1:
            yield name, module
            return
    for child_name, child in module.named_children():
        yield from _outermost(child, f"{name}.{child_name}" if name else child_name, reached, inputs)


def _asked(
    container: nn.Module, name: str, reached: frozenset[str], inputs: Mapping[nn.Module, list[Tensor]]
) -> list[nn.Module]:
    """Children that are called and hold weights."""
    inside = f"{name}." if name else ""
    return [
        child
        for own, child in container.named_children()
        if child in inputs and any(one.startswith(f"{inside}{own}.") for one in reached)
    ]


def _contents(modality: Modality) -> list[Content]:
    """Contents that between them take every way through a network: a sound longer than a window is heard otherwise."""
    random = np.random.default_rng(0)
    if modality is Modality.TEXT:
        return ["A small red boat on a river.", "two"]
    if modality is Modality.IMAGE:
        return [Image.fromarray(random.integers(0, 256, (64, 48, 3), dtype=np.uint8))]
    return [
        Waveform((0.1 * random.standard_normal(int(seconds * 16_000))).astype(np.float32), 16_000)
        for seconds in (1.0, 11.0)
    ]
