"""LoRA adapters for linear and attention layers."""

import re
from collections.abc import Collection
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils import parametrize

from mmrec.errors import UsageError

__all__ = ["adaptable", "add_adapters", "add_to_attention", "added_weights", "merged_state"]


class _Addition(nn.Module):
    """A weight -> the weight and its low-rank addition, which starts at zero.

    Source: Hu et al. 2021, arXiv 2106.09685, equation 3.
    """

    def __init__(self, weight: Float[Tensor, "out into"], rank: int, alpha: int) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(torch.empty(rank, weight.shape[1], device=weight.device, dtype=weight.dtype))
        self.lora_B = nn.Parameter(torch.zeros(weight.shape[0], rank, device=weight.device, dtype=weight.dtype))
        self.strength = alpha / rank
        nn.init.kaiming_uniform_(self.lora_A, a=5**0.5)

    def forward(self, weight: Float[Tensor, "out into"]) -> Float[Tensor, "out into"]:
        return weight + self.strength * (self.lora_B @ self.lora_A)


def add_to_attention(layer: nn.MultiheadAttention, rank: int, alpha: int) -> None:
    """Give the projections of a layer an addition each."""
    for holder, name in ((layer, "in_proj_weight"), (layer.out_proj, "weight")):
        parametrize.register_parametrization(holder, name, _Addition(getattr(holder, name), rank, alpha))


def added_weights(network: nn.Module) -> dict[str, Float[Tensor, "out into"]]:
    """Return the sums of the weights that have such an addition, by the names that they had without it."""
    found: dict[str, Tensor] = {}
    for name, module in network.named_modules():
        parts = getattr(module, "parametrizations", None)
        if isinstance(parts, nn.ModuleDict):
            sums = [
                own for own, chain in parts.items() if any(isinstance(part, _Addition) for part in chain.children())
            ]
            found |= {f"{name}.{own}": getattr(module, own).detach() for own in sums}
    return found


_MARK = "lora_"


def adaptable(network: nn.Module, called: Collection[str], trained: frozenset[str]) -> list[str]:
    """Return the names of the layers that can have an addition: in use, and with a weight among those trained.

    Linear layers, attention of torch's own kind, and convolutions of one group. Of subclasses of a convolution nothing
    is known: those that pad in their own way would not fit their addition.
    """
    found, within = [], set()
    for name, layer in network.named_modules():
        if type(layer) is nn.MultiheadAttention and f"{name}.in_proj_weight" in trained:
            found.append(name)
            within.add(f"{name}.out_proj")
        plain = type(layer) in (nn.Conv1d, nn.Conv2d) and layer.groups == 1
        if not (isinstance(layer, nn.Linear) or plain) or name in within or name not in called:
            continue
        # The plain weight alone: of one that is made of others it is not known how.
        if f"{name}.weight" in trained:
            found.append(name)
    return sorted(found)


def add_adapters(network: nn.Module, layers: Collection[str], rank: int, alpha: int) -> frozenset[str]:
    """Put an addition that starts at zero into each of the layers. Returns the names of the new parameters.

    Raises UsageError where there is no layer to put one into, or peft is not installed.
    """
    if not layers:
        raise UsageError('This network has no layer that LoRA could be added to; train it with how = "full".')
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 (an extra, and slow)
    except ImportError as error:
        raise UsageError("LoRA needs the package peft. Install it: pip install peft") from error
    simple = []
    for name in layers:
        layer = network.get_submodule(name)
        if isinstance(layer, nn.MultiheadAttention):
            add_to_attention(layer, rank, alpha)
        else:
            simple.append(re.escape(f"network.{name}"))
    if simple:
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=f"({'|'.join(simple)})")
        inject_adapter_in_model(config, _Root(network))
    return frozenset(name for name, _ in network.named_parameters() if f".{_MARK}" in f".{name}")


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors, all additions merged into the weights, by the names that they had without them."""
    sums = added_weights(network)
    for name, layer in network.named_modules():
        if hasattr(layer, "get_delta_weight") and hasattr(layer, "get_base_layer"):
            adapted: Any = layer
            sums[f"{name}.weight"] = (adapted.get_base_layer().weight + adapted.get_delta_weight("default")).detach()
    halves = {f"{_parametrized(name)}.original" for name in sums}
    kept = {
        name.replace(".base_layer.", "."): value
        for name, value in network.state_dict().items()
        if f".{_MARK}" not in name and name not in halves
    }
    return {**kept, **sums}


class _Root(nn.Module):
    """A root that peft and transformers take: they ask it for a member that networks of theirs alone have."""

    base_model_prefix = ""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network


def _parametrized(name: str) -> str:
    """Where torch keeps a weight that is made of others."""
    holder, _, own = name.rpartition(".")
    return f"{holder}.parametrizations.{own}"
