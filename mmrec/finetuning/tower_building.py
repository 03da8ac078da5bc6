"""Build the towers of a fine-tuning: heads, LoRA adapters, frozen layers and gradient checkpointing."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from pydantic import ValidationError
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from mmrec.encoders.head import Head, HeadConfig
from mmrec.errors import UsageError
from mmrec.finetuning.config import HeadSettings, TowerSettings
from mmrec.finetuning.towers import EncoderSource, EncoderTower, TowerNetwork, VectorTower
from mmrec.types import Content, Modality, Space, Waveform


class _LowRankUpdate(nn.Module):
    """A weight -> the weight plus its LoRA update, which starts at zero.

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


_MARK = "lora_"


def lora_layers(network: nn.Module, called: Collection[str], trained: frozenset[str]) -> list[str]:
    """Return the names of the layers that LoRA can be added to: in use, and with a weight among those trained.

    Linear layers, attention of torch's own kind, and convolutions of one group. Not of subclasses of a
    convolution: those that pad in their own way would not fit.
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
    """Add LoRA adapters, which start at zero, to layers. Returns the names of the new parameters.

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
            for holder, own in ((layer, "in_proj_weight"), (layer.out_proj, "weight")):
                update = _LowRankUpdate(getattr(holder, own), rank, alpha)
                parametrize.register_parametrization(holder, own, update)
        else:
            simple.append(re.escape(f"network.{name}"))
    if simple:
        config = LoraConfig(r=rank, lora_alpha=alpha, target_modules=f"({'|'.join(simple)})")
        inject_adapter_in_model(config, _Root(network))
    return frozenset(name for name, _ in network.named_parameters() if f".{_MARK}" in f".{name}")


def merged_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a network's tensors, all LoRA updates merged into the weights, by the names that they had without them."""
    sums: dict[str, Tensor] = {}
    for name, layer in network.named_modules():
        parts = getattr(layer, "parametrizations", None)
        for own, chain in parts.items() if isinstance(parts, nn.ModuleDict) else ():
            if any(isinstance(part, _LowRankUpdate) for part in chain.children()):
                sums[f"{name}.{own}"] = getattr(layer, own).detach()
        if hasattr(layer, "get_delta_weight") and hasattr(layer, "get_base_layer"):
            adapted: Any = layer
            sums[f"{name}.weight"] = (adapted.get_base_layer().weight + adapted.get_delta_weight("default")).detach()
    # Torch moves a parametrised weight from "layer.weight" to "layer.parametrizations.weight.original".
    halves = {re.sub(r"([^.]+)$", r"parametrizations.\1.original", name) for name in sums}
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


@dataclass(frozen=True, eq=False)
class ReachedWeights:
    """The parameters of an encoder's network that one tower's vectors depend on, and the modules called, by name.

    `blocks` are the network's blocks, first to last, empty where it has none that are alike; `before` has for each the
    names of the parameters that its input depends on. A layer whose weights alone are read is not called.
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
                f"last_blocks = {last_blocks} was given; this network has {len(self.blocks)} blocks that are alike. "
                "Give at most that, or leave it out to train all."
            )
        return self.parameters - self.before[-last_blocks]


def trace_tower(tower: EncoderTower) -> ReachedWeights:
    """Run a tower's network on example contents, and return what it uses. All parameters require gradients."""
    network = tower.network.encoder
    named = {name: value for name, value in network.named_parameters() if value.requires_grad}
    samples = [tower.prepare(content) for content in _contents(tower.modality)]
    called: set[str] = set()
    inputs: dict[nn.Module, list[Tensor]] = {}
    with ExitStack() as hooks, torch.enable_grad():
        for name, module in network.named_modules():
            hooks.callback(module.register_forward_pre_hook(_record(name, called, inputs), with_kwargs=True).remove)
        total = tower.embed(samples).sum()
    reached = _dependencies([total], named)
    blocks = _blocks(network, reached, inputs)
    before = tuple(_dependencies(inputs[block], named) & reached for block in blocks)
    return ReachedWeights(reached, frozenset(called), blocks, before)


def _record(name: str, called: set[str], inputs: dict[nn.Module, list[Tensor]]) -> Any:  # noqa: ANN401
    def hook(module: nn.Module, given: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        called.add(name)
        tensors = [value for value in (*given, *named.values()) if isinstance(value, Tensor) and value.requires_grad]
        inputs.setdefault(module, []).extend(tensors)

    return hook


def _dependencies(made: Sequence[Tensor], named: Mapping[str, Tensor]) -> frozenset[str]:
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
    most, outer = 0, list[str]()
    for name, module in network.named_modules():
        prefix = f"{name}." if name else ""
        if not isinstance(module, nn.ModuleList | nn.Sequential) or prefix.startswith(tuple(outer)):
            continue
        blocks = [
            child
            for own, child in module.named_children()
            if child in inputs and any(one.startswith(f"{prefix}{own}.") for one in reached)
        ]
        if len(blocks) > 1 and len({type(block) for block in blocks}) == 1:
            outer.append(prefix)
            size = sum(network.get_parameter(one).numel() for one in reached if one.startswith(prefix))
            if size > most:
                best, most = tuple(blocks), size
    return best


def _contents(modality: Modality) -> list[Content]:
    """Example contents that cover all branches of a network, such as audio longer than a window."""
    random = np.random.default_rng(0)
    if modality is Modality.TEXT:
        return ["A small red boat on a river.", "two"]
    if modality is Modality.IMAGE:
        return [Image.fromarray(random.integers(0, 256, (64, 48, 3), dtype=np.uint8))]
    return [
        Waveform((0.1 * random.standard_normal(int(seconds * 16_000))).astype(np.float32), 16_000)
        for seconds in (1.0, 11.0)
    ]


def checkpoint_blocks(blocks: Iterable[nn.Module]) -> None:
    """Turn on gradient checkpointing for blocks. Idempotent."""
    for block in blocks:
        if "forward" not in vars(block):
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)


FinetuneTower = EncoderTower | VectorTower


def build_towers(
    sources: Sequence[EncoderSource], settings: Mapping[Modality, TowerSettings]
) -> dict[Modality, FinetuneTower]:
    """Build one tower for each modality that settings name, in their order.

    Heads are drawn by torch's own random numbers: seed them first. The encoders' networks are changed in place.
    Raises UsageError where no encoder fits, lengths differ, or a network cannot be trained as asked.
    """
    chosen = {modality: _chosen(sources, modality, wanted) for modality, wanted in settings.items()}
    dim = _common_dim(settings, chosen)
    towers: dict[Modality, FinetuneTower] = {}
    for modality, wanted in settings.items():
        source, space = chosen[modality]
        head = None if wanted.head_settings is None else _head(source, modality, space, wanted.head_settings, dim)
        if wanted.trains_encoder:
            source.encoder.module.requires_grad_(requires_grad=True)
            network = TowerNetwork(source.encoder.module, head, wanted)
            towers[modality] = EncoderTower(modality, source, space, wanted, network)
        else:
            towers[modality] = VectorTower(modality, source, space, wanted, head)
    for source in sources:
        _set_gradients([t for t in towers.values() if isinstance(t, EncoderTower) and t.source is source])
    if len({tower.dim for tower in towers.values()}) > 1:
        shown = ", ".join(f"{modality} {tower.dim}" for modality, tower in towers.items())
        raise UsageError(f"The towers' vectors have different lengths ({shown}). Give heads of one length to them.")
    return towers


def _chosen(sources: Sequence[EncoderSource], modality: Modality, wanted: TowerSettings) -> tuple[EncoderSource, Space]:
    able = [(source, space) for source in sources for space in source.spaces(modality)]
    for source, space in able:
        if wanted.space is None or space.name == wanted.space:
            return source, space
    names = ", ".join(space.name for _, space in able) or "none"
    which = "" if wanted.space is None else f" that fills the space {wanted.space!r}"
    raise UsageError(f"There is no encoder of {modality}{which}. Spaces of {modality}: {names}.")


def _common_dim(
    settings: Mapping[Modality, TowerSettings], chosen: Mapping[Modality, tuple[EncoderSource, Space]]
) -> int:
    """Length of the vectors of heads that do not say: that of the towers without one, else of the first space."""
    headless = [chosen[modality][1].dim for modality, wanted in settings.items() if wanted.head_settings is None]
    given = [wanted.head.dim for wanted in settings.values() if wanted.head is not None and wanted.head.dim is not None]
    return (headless or given or [space.dim for _, space in chosen.values()])[0]


def _head(source: EncoderSource, modality: Modality, space: Space, wanted: HeadSettings, dim: int) -> Head:
    spaces = {one.name: one for one in source.spaces(modality)}
    names = wanted.inputs or tuple(spaces)
    if unknown := [name for name in (*names, *wanted.replaces) if name not in spaces]:
        raise UsageError(f"{unknown[0]!r} is no space of {space.name}'s encoder. Allowed: {', '.join(spaces)}.")
    try:
        config = HeadConfig(
            inputs=tuple((name, spaces[name].dim) for name in names),
            dim=wanted.dim or dim,
            hidden=wanted.hidden,
            residual=wanted.residual,
            dropout=wanted.dropout,
        )
    except ValidationError as error:
        reasons = "; ".join(str(one["msg"]) for one in error.errors())
        raise UsageError(f"The head of {modality} cannot be made: {reasons}.") from error
    return Head(config).to(getattr(source.encoder, "device", None) or torch.device("cpu"))


def _set_gradients(towers: Sequence[EncoderTower]) -> None:
    """Require gradients of what should train, and of nothing else, in the network that these towers share."""
    if not towers:
        return
    network = towers[0].network.encoder
    traces = {tower: trace_tower(tower) for tower in towers}
    trained: frozenset[str] = frozenset()
    layers: list[str] = []
    for tower, reach in traces.items():
        names = reach.trained(tower.settings.last_blocks)
        if tower.settings.how == "full":
            trained |= names
        else:
            layers += lora_layers(network, reach.called, names)
        if tower.settings.gradient_checkpointing:
            checkpoint_blocks(reach.blocks)
    parameters = {name: network.get_parameter(name) for name in trained}  # before additions rename them
    low_rank = [tower.settings for tower in towers if tower.settings.how == "lora"]
    network.requires_grad_(requires_grad=False)
    if low_rank:
        if len({(one.rank, one.alpha) for one in low_rank}) > 1:
            raise UsageError("Two towers of one network have different ranks or alphas. Give both the same.")
        for name in add_adapters(network, sorted(set(layers)), low_rank[0].rank, low_rank[0].alpha):
            network.get_parameter(name).requires_grad = True
    for parameter in parameters.values():
        parameter.requires_grad = True
