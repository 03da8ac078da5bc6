"""From encoders and settings to towers: which encoder, which head, and which weights ask for gradients."""

from collections.abc import Mapping, Sequence

import torch
from pydantic import ValidationError

from mmrec.encoders.head import Head, HeadConfig
from mmrec.errors import UsageError
from mmrec.finetuning.adapters import adaptable, add_adapters
from mmrec.finetuning.encoder_tower import EncoderTower, TowerNetwork
from mmrec.finetuning.reach import reach_of
from mmrec.finetuning.recompute import recompute
from mmrec.finetuning.sources import Source
from mmrec.finetuning.tower_settings import HeadSettings, TowerSettings
from mmrec.finetuning.vector_tower import VectorTower
from mmrec.modality import Modality
from mmrec.spaces import Space

__all__ = ["Tower", "build_towers"]

Tower = EncoderTower | VectorTower


def build_towers(sources: Sequence[Source], settings: Mapping[Modality, TowerSettings]) -> dict[Modality, Tower]:
    """Build one tower for each modality that settings name, in their order.

    Heads are drawn by torch's own random numbers: seed them first. The encoders' networks are changed in place.
    Raises UsageError where no encoder fits, lengths differ, or a network cannot be trained as asked.
    """
    chosen = {modality: _chosen(sources, modality, wanted) for modality, wanted in settings.items()}
    dim = _common_dim(settings, chosen)
    towers: dict[Modality, Tower] = {}
    for modality, wanted in settings.items():
        source, space = chosen[modality]
        head = None if wanted.wants_head is None else _head(source, modality, space, wanted.wants_head, dim)
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


def _chosen(sources: Sequence[Source], modality: Modality, wanted: TowerSettings) -> tuple[Source, Space]:
    there = [(source, space) for source in sources for space in source.spaces(modality)]
    for source, space in there:
        if wanted.space is None or space.name == wanted.space:
            return source, space
    names = ", ".join(space.name for _, space in there) or "none"
    asked = "" if wanted.space is None else f" that fills the space {wanted.space!r}"
    raise UsageError(f"There is no encoder of {modality}{asked}. Spaces of {modality}: {names}.")


def _common_dim(settings: Mapping[Modality, TowerSettings], chosen: Mapping[Modality, tuple[Source, Space]]) -> int:
    """Length of the vectors of heads that do not say: that of the towers without one, else of the first space."""
    headless = [chosen[modality][1].dim for modality, wanted in settings.items() if wanted.wants_head is None]
    given = [wanted.head.dim for wanted in settings.values() if wanted.head is not None and wanted.head.dim is not None]
    return (headless or given or [space.dim for _, space in chosen.values()])[0]


def _head(source: Source, modality: Modality, space: Space, wanted: HeadSettings, dim: int) -> Head:
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
        said = "; ".join(str(one["msg"]) for one in error.errors())
        raise UsageError(f"The head of {modality} cannot be made: {said}.") from error
    return Head(config).to(_device(source))


def _device(source: Source) -> torch.device:
    device = getattr(source.encoder, "device", None)
    return device if isinstance(device, torch.device) else torch.device("cpu")


def _set_gradients(towers: Sequence[EncoderTower]) -> None:
    """Let what should train ask for gradients, and nothing else, in the one network that these towers share."""
    if not towers:
        return
    network = towers[0].network.encoder
    reaches = {tower: reach_of(tower) for tower in towers}
    trained: frozenset[str] = frozenset()
    layers: list[str] = []
    for tower, reach in reaches.items():
        asked = reach.trained(tower.settings.last_blocks)
        if tower.settings.how == "full":
            trained |= asked
        else:
            layers += adaptable(network, reach.called, asked)
        if tower.settings.gradient_checkpointing:
            recompute(reach.blocks)
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
