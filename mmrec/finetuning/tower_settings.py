"""What is trained of one modality, and how."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["FitSettings", "HeadSettings", "TowerSettings"]


class FitSettings(BaseModel):
    """A head in closed form; see `mmrec.finetuning.head_fitting.HeadFit`.

    Attributes:
        radial: How narrow its Gaussians are; 0 for a linear map.
        ridge: How much it is held back.
        pull: How far it may go from the label bridge, or whatever else of the content lies among the texts already: 0
            not at all, and infinity wherever it is taught to. None chooses, by leaving out what is taught in turn.

    """

    # An infinite pull is written as such: as null it would be one that is chosen.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    radial: float = Field(default=3.0, ge=0, allow_inf_nan=False)
    ridge: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    pull: float | None = Field(default=None, ge=0)


class HeadSettings(BaseModel):
    """A head on an encoder's vectors.

    Attributes:
        name: Of the space that it fills; made of the encoder's own where None, as in ``efficientnet-lite0-aligned``.
        inputs: Names of the encoder's spaces that it reads; all of the modality where empty.
        dim: Length of its vectors; that of the towers without a head where None.
        hidden: Width of a hidden layer; 0 for a linear map.
        residual: The input that its map is added to, so that it starts as that input itself.
        dropout: Share of the inputs' numbers, and of the hidden layer's, dropped while training.
        replaces: Names of the encoder's spaces that items are no longer encoded into once this one is there.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str | None = Field(default=None, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")
    inputs: tuple[str, ...] = ()
    dim: int | None = Field(default=None, ge=1)
    hidden: int = Field(default=0, ge=0)
    residual: str | None = None
    dropout: float = Field(default=0.0, ge=0, lt=1)
    replaces: tuple[str, ...] = ()


class TowerSettings(BaseModel):
    """What is trained of one modality's encoder.

    Attributes:
        how: ``frozen`` trains nothing: others are aligned with it. ``fitted`` solves for a head in closed form, which
            takes stored contents to the frozen ones of their items, or by co-engagement to where those who take an item
            place it; its file holds the vectors of what it was taught by. ``head`` trains a head alone, on stored
            vectors, in seconds. ``lora`` trains low-rank additions to the encoder's layers, merged into them when
            saved. ``full`` trains the encoder's own weights. The last two may have a head as well.
        space: Name of the space that it starts from, which also says which encoder; where None the first space of the
            first encoder that reads the modality.
        head: The head, if there is one. One for ``head`` where nothing is said.
        fit: How a ``fitted`` head is.
        last_blocks: How many of the network's blocks train, counted from its end, with all that follows them; all
            blocks and what precedes them where None.
        rank: Rank of the additions of ``lora``.
        alpha: Their strength: they count `alpha` / `rank`.
        gradient_checkpointing: Compute each block twice and keep nothing of it in between: less memory, the same
            gradients.
        dropout: Let the encoder drop activations as it did in its own training. Without it the encoder computes the
            same vectors in training as later, and a small catalog is not learned through noise.
        batch_statistics: Let batch normalisation follow the batches. Without it the encoder's own statistics stay:
            small batches of one catalog are no better ones.

    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    how: Literal["frozen", "fitted", "head", "lora", "full"] = "head"
    space: str | None = None
    head: HeadSettings | None = None
    fit: FitSettings = FitSettings()
    last_blocks: int | None = Field(default=None, ge=1)
    rank: int = Field(default=8, ge=1)
    alpha: int = Field(default=16, ge=1)
    gradient_checkpointing: bool = False
    dropout: bool = False
    batch_statistics: bool = False

    @property
    def trains_encoder(self) -> bool:
        """Whether weights of the encoder itself change."""
        return self.how in ("lora", "full")

    @property
    def wants_head(self) -> HeadSettings | None:
        """The head's settings; the default ones where a head is trained of which nothing is said."""
        return self.head or (HeadSettings() if self.how in ("head", "fitted") else None)
