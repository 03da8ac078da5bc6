"""Low-rank additions to a network's layers: put in, and merged into the weights again.

Source: Hu et al. 2021, arXiv 2106.09685. The one place that imports peft.
"""

import copy
import re
from collections.abc import Iterable
from typing import Any

from torch import nn

from mmrec.errors import UsageError

__all__ = ["adaptable", "add_adapters", "merged"]


def adaptable(network: nn.Module, called: Iterable[str], trained: frozenset[str]) -> list[str]:
    """Return the names of the layers that can have an addition: called, and with a weight among those trained.

    Linear layers, attention of torch's own kind, and convolutions of one group. Of subclasses of a convolution nothing
    is known: those that pad in their own way would not fit their addition.
    """
    found = []
    inside_attention = {
        f"{name}.out_proj" for name, module in network.named_modules() if isinstance(module, nn.MultiheadAttention)
    }
    for name in called:
        layer = network.get_submodule(name)
        if name in inside_attention or not any(f"{name}.{own}" in trained for own, _ in layer.named_parameters()):
            continue
        plain = type(layer) in (nn.Conv1d, nn.Conv2d) and layer.groups == 1
        attention = type(layer) is nn.MultiheadAttention and layer._qkv_same_embed_dim  # noqa: SLF001 -- as peft asks
        if isinstance(layer, nn.Linear) or plain or attention:
            found.append(name)
    return sorted(found)


def add_adapters(network: nn.Module, layers: Iterable[str], rank: int, alpha: int) -> frozenset[str]:
    """Put an addition that starts at zero into each of the layers. Returns the names of the new parameters.

    Raises UsageError where there is no layer to put one into, or peft is not installed.
    """
    chosen = list(layers)
    if not chosen:
        raise UsageError('This network has no layer that LoRA could be added to; train it with how = "full".')
    try:
        from peft import LoraConfig, inject_adapter_in_model  # noqa: PLC0415 (an extra, and slow)
    except ImportError as error:
        raise UsageError("LoRA needs an extra. Install it: pip install 'mmrec[finetune]'") from error
    exactly = "|".join(re.escape(name) for name in chosen)
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=alpha, target_modules=f"({exactly})"), network)
    return frozenset(name for name, _ in network.named_parameters() if ".lora_" in f".{name}")


def merged(network: nn.Module) -> nn.Module:
    """Return a copy of a network with all additions merged into the weights of its layers; itself if it has none."""
    if not any(_is_adapted(module) for module in network.modules()):
        return network
    plain = copy.deepcopy(network)
    for name, layer in [found for found in plain.named_modules() if _is_adapted(found[1])]:
        parent, _, own = name.rpartition(".")
        holder = plain.get_submodule(parent)
        if getattr(holder, own, None) is layer:  # not where it went with what it was inside of
            setattr(holder, own, _unloaded(layer))
    return plain


def _is_adapted(module: nn.Module) -> bool:
    return hasattr(module, "get_base_layer") and hasattr(module, "merge")


def _unloaded(layer: Any) -> nn.Module:  # noqa: ANN401 -- a layer of peft
    if hasattr(layer, "unload_and_optionally_merge_module"):
        made: nn.Module = layer.unload_and_optionally_merge_module(merge=True, safe_merge=False, adapter_names=None)
    else:
        layer.merge()
        made = layer.get_base_layer()
    return made
