"""How a tower is trained; read from TOML."""

import tomllib
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mmrec.errors import UsageError
from mmrec.users.tower_config import TowerConfig

Settings = TypeVar("Settings", bound=BaseModel)


class TrainingConfig(BaseModel):
    """How a tower is trained.

    Attributes:
        tower: What is trained.
        loss: ``full`` softmax over all items, ``sampled`` softmax, ``gbce``; ``auto`` is full up to 50,000 items.
        negatives: Items drawn a step by the losses that sample.
        smoothing: Label smoothing of the full softmax.
        calibration: How much gBCE makes up for sampling, 0 to 1 (t in its paper).
        delta_drop: Share of the items whose delta is dropped, drawn anew each step.
        batch: Windows a step, over all processes.
        shards: Parts that a step's windows are computed in, each with its own random numbers. Any number of processes
            that divides it computes the same; more than one on one process saves memory.
        every_event: Whether histories longer than a window are cut into several; if not, only the newest is used.
        rate: Learning rate of AdamW.
        warmup: Steps over which it grows from 0.
        decay: Weight decay of the matrices of the Transformer and the adaptor.
        delta_decay: Weight decay of the deltas.
        clip: Norm that gradients are cut to.
        average: Decay of the moving average of the weights, which is what is validated and saved; 0 for none.
        epochs: Most epochs.
        evaluate_every: Epochs between two validations.
        patience: Validations without a better NDCG@10 after which training ends.
        validation_users: Most users in the validation.
        seed: Decides all that is random.
        device: Kind of device; the launcher or CUDA_VISIBLE_DEVICES chooses one of several GPUs.
        precision: ``no`` is float32; ``bf16`` is mixed.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    tower: TowerConfig = TowerConfig()
    loss: Literal["auto", "full", "sampled", "gbce"] = "auto"
    negatives: int = Field(default=4096, ge=1)
    smoothing: float = Field(default=0.0, ge=0, lt=1)
    calibration: float = Field(default=0.75, ge=0, le=1)
    delta_drop: float = Field(default=0.3, ge=0, lt=1)
    batch: int = Field(default=32, ge=1)
    shards: int = Field(default=1, ge=1)
    every_event: bool = True
    rate: float = Field(default=2e-3, gt=0)
    warmup: int = Field(default=100, ge=0)
    decay: float = Field(default=0.0, ge=0)
    delta_decay: float = Field(default=0.0, ge=0)
    clip: float = Field(default=5.0, gt=0)
    average: float = Field(default=0.99, ge=0, lt=1)
    epochs: int = Field(default=150, ge=1)
    evaluate_every: int = Field(default=2, ge=1)
    patience: int = Field(default=15, ge=1)
    validation_users: int = Field(default=10_000, ge=1)
    seed: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["no", "bf16"] = "no"

    @model_validator(mode="after")
    def _shards_divide(self) -> "TrainingConfig":
        if self.batch % self.shards:
            raise ValueError(f"batch {self.batch} is not a multiple of shards {self.shards}; make it one")
        return self


def load_config(path: Path) -> TrainingConfig:
    """Read a TOML file; what it does not name stays as it is by default. Raises UsageError."""
    return read_settings(path, TrainingConfig, "[tower]")


def read_settings(path: Path, kind: type[Settings], tables: str) -> Settings:
    """Read settings of a kind from a TOML file, which may have some tables. Raises UsageError."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the whole"
        plural = "tables" if "," in tables else "a table"
        raise UsageError(
            f"{path}: {place}: {first['msg']}. The settings are those of {kind.__name__}, with {plural} {tables}."
        ) from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} is not a TOML file that can be read: {error}.") from error
