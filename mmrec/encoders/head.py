"""A small trainable network on the vectors of a frozen encoder."""

import contextlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from mmrec.encoders.vectors import unit_rows
from mmrec.errors import EncoderError
from mmrec.files import write_atomically

_ABOUT: Final = "head"


class HeadConfig(BaseModel):
    """What a head is made of; with its weights it is all that is needed to run it.

    Attributes:
        inputs: Name and length of each input space; their vectors are concatenated in this order.
        dim: Length of its vectors.
        hidden: Width of a hidden layer with GELU; 0 for a linear map.
        radial: Above 0 the hidden layer is Gaussians around `hidden` anchors instead: exp(-radial / 2 times the mean
            squared difference from the anchor), of inputs as shifted and scaled.
        residual: Name of an input of length `dim` that the output is added to; the output weights start at zero, and
            so the head as the identity.
        dropout: Share of the inputs' numbers, and of the hidden layer's, dropped while training.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    inputs: tuple[tuple[str, int], ...] = Field(min_length=1)
    dim: int = Field(ge=1)
    hidden: int = Field(default=0, ge=0)
    radial: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    residual: str | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)

    @model_validator(mode="after")
    def _fits(self) -> "HeadConfig":
        if len(dict(self.inputs)) < len(self.inputs):
            raise ValueError(f"inputs {[name for name, _ in self.inputs]} name a space twice; name each once")
        if self.residual is not None and dict(self.inputs).get(self.residual) != self.dim:
            raise ValueError(
                f"residual {self.residual!r} must be an input of {self.dim} numbers, as the head's own vectors; "
                f"inputs: {dict(self.inputs)}"
            )
        if self.radial and not self.hidden:
            raise ValueError(f"radial = {self.radial:g} needs a hidden layer; give the number of its anchors as hidden")
        return self

    @property
    def width(self) -> int:
        """Numbers of all inputs together."""
        return sum(dim for _, dim in self.inputs)


class Head(nn.Module):
    """Unit vectors of one or several spaces -> unit vectors of one more.

    Inputs are shifted and scaled first, by numbers that are fixed before training (`standardise`), not trained.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, config: HeadConfig) -> None:
        """Draw the weights; torch's seed decides them."""
        super().__init__()
        self.config = config
        self.register_buffer("shift", torch.zeros(config.width))
        self.register_buffer("scale", torch.ones(config.width))
        self.dropout = nn.Dropout(config.dropout)
        self.inner = nn.Linear(config.width, config.hidden) if config.hidden else None
        self.outer = nn.Linear(config.hidden or config.width, config.dim)
        if config.residual is not None:
            nn.init.zeros_(self.outer.weight)
            nn.init.zeros_(self.outer.bias)

    def standardise(self, rows: Mapping[str, Float[Tensor, "n _"]]) -> None:
        """Fix shift and scale, so that these inputs have mean zero, and variance one on average over their numbers.

        One scale per space: single numbers of a vector that hardly vary are noise, and must not be blown up.
        """
        parts = [rows[name].to(torch.float64) for name, _ in self.config.inputs]
        means = [part.mean(dim=0) for part in parts]
        spreads = [
            ((part - mean).square().mean().sqrt()).clamp_min(1e-6) for part, mean in zip(parts, means, strict=True)
        ]
        self.shift.copy_(torch.cat(means))
        self.scale.copy_(torch.cat([1 / spread.expand(len(mean)) for spread, mean in zip(spreads, means, strict=True)]))

    def forward(self, inputs: Mapping[str, Float[Tensor, "n _"]]) -> Float[Tensor, "n dim"]:
        """Return one unit vector per row, in float32. `inputs` has the spaces of the configuration by name."""
        joined = torch.cat([inputs[name] for name, _ in self.config.inputs], dim=1)
        states = self.dropout((joined - self.shift) * self.scale)
        if self.inner is not None:
            near = self._nearness(states, self.inner.weight) if self.config.radial else None
            states = self.dropout(nn.functional.gelu(self.inner(states)) if near is None else near)
        made: Tensor = self.outer(states)
        return unit_rows(made if self.config.residual is None else made + inputs[self.config.residual])

    def _nearness(
        self, states: Float[Tensor, "n width"], anchors: Float[Tensor, "hidden width"]
    ) -> Float[Tensor, "n hidden"]:
        """How near each row is to each anchor; the anchors are the rows of the inner layer's weight."""
        squares = states.square().sum(dim=1, keepdim=True) + anchors.square().sum(dim=1)
        # Of the sum and not of differences: those would need rows times anchors times width numbers.
        apart = (squares - 2 * states @ anchors.T).clamp_min(0)
        return torch.exp(-self.config.radial / 2 / self.config.width * apart)


def save_head(head: Head, path: Path, config: HeadConfig | None = None) -> None:
    """Write a head as one safetensors file, whole or not at all, with its own configuration or a renamed one."""
    tensors = {name: value.detach().float().cpu().contiguous() for name, value in head.state_dict().items()}
    write_atomically(path, save(tensors, metadata={_ABOUT: (config or head.config).model_dump_json()}))


def read_head_config(path: Path) -> HeadConfig:
    """Return the configuration in a head's file. Raises EncoderError if there is none."""
    with _reading(path), safe_open(path, framework="pt") as file:
        return HeadConfig.model_validate_json((file.metadata() or {})[_ABOUT])


def load_head(path: Path) -> Head:
    """Read what `save_head` wrote. Raises EncoderError if it is missing, damaged or of other sizes."""
    head = Head(read_head_config(path))
    with _reading(path):
        head.load_state_dict(load_file(path))
    return head.eval()


@contextlib.contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, KeyError, RuntimeError, SafetensorError, ValidationError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0]
        raise EncoderError(f"{path} holds no head that can be read ({why}). Copy it again, or train anew.") from error
