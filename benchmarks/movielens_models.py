"""The models of the benchmark and their settings."""

from typing import Final

from mmrec.training.config import TrainingConfig
from mmrec.users.tower_config import TowerConfig

__all__ = ["MODELS", "config_of"]

_COMMON: Final = {"device": "cpu", "batch": 16, "epochs": 60, "evaluate_every": 2, "max_age_seconds": 3}
# Hidden layers as wide as the Transformer, as SASRec has them.
_SIZES: Final = {"inner": 64}
MODELS: Final[dict[str, TrainingConfig]] = {
    "content": TrainingConfig(**_COMMON, tower=TowerConfig(**_SIZES)),
    # The same tower, with a free vector for each item in place of content and bounded delta.
    "id": TrainingConfig(**_COMMON, delta_drop=0.0, tower=TowerConfig(**_SIZES, content=False)),
    # SASRec as its paper has it: nothing but the order of events.
    "id-order": TrainingConfig(
        **_COMMON, delta_drop=0.0, tower=TowerConfig(**_SIZES, content=False, ask_time=False, spans=False)
    ),
    # Nothing of the moment when it is asked.
    "content-order": TrainingConfig(**_COMMON, tower=TowerConfig(**_SIZES, ask_time=False, spans=False)),
}


def config_of(model: str, seed: int) -> TrainingConfig:
    """Settings of a model: ``content``, or ``content:0.25:0.6`` for another bound of the delta and drop rate."""
    name, *dials = model.split(":")
    config = MODELS[name].model_copy(update={"seed": seed})
    if not dials:
        return config
    bound, drop = (float(dial) for dial in dials)
    tower = config.tower.model_copy(update={"delta_bound": bound})
    return config.model_copy(update={"tower": tower, "delta_drop": drop})
