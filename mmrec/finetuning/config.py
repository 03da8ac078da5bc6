"""Configuration of a fine-tuning, read from TOML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from mmrec.training.config import read_settings
from mmrec.types import Modality

ObjectiveName = Literal["align", "coengage", "label"]


class FitSettings(BaseModel):
    """A head in closed form; see `mmrec.finetuning.head_fitting`.

    Attributes:
        radial: Width parameter (gamma) of the Gaussian kernel; 0 for linear ridge regression. On the stamps' images 1
            to 12 find .58 to .64 of held-out texts within ten; for their few audio clips 12 is too narrow.
        ridge: Regularisation added to the kernel's diagonal.
        target_scale: Length of the targets beside the label bridge, or whatever else of the content lies in the text
            space: 0 keeps the bridge, infinity ignores it. None chooses by leave-one-group-out cross-validation.

    """

    # An infinite target_scale is written as such: null means that it is chosen.
    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    radial: float = Field(default=3.0, ge=0, allow_inf_nan=False)
    ridge: float = Field(default=0.1, gt=0, allow_inf_nan=False)
    target_scale: float | None = Field(default=None, ge=0)


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
            maps stored vectors to the frozen ones of their items, or to co-engagement vectors; its file holds the
            training vectors. ``head`` trains a head alone, on stored
            vectors, in seconds. ``lora`` trains LoRA adapters in the encoder's layers, merged into them when
            saved. ``full`` trains the encoder's own weights. The last two may have a head as well.
        space: Name of the space that it starts from, which also says which encoder; where None the first space of the
            first encoder that reads the modality.
        head: The head, if there is one. One for ``head`` where nothing is said.
        fit: How a ``fitted`` head is.
        last_blocks: How many of the network's blocks train, counted from its end, with all that follows them; all
            blocks and what precedes them where None.
        rank: Rank of the LoRA adapters.
        alpha: Their strength: they are scaled by `alpha` / `rank`.
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
    def head_settings(self) -> HeadSettings | None:
        """The head's settings; the default ones where a head is trained of which nothing is said."""
        return self.head or (HeadSettings() if self.how in ("head", "fitted") else None)


_FROZEN = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
_ALIGNED = {
    Modality.TEXT: TowerSettings(how="frozen"),
    Modality.IMAGE: TowerSettings(how="fitted"),
    Modality.AUDIO: TowerSettings(how="fitted"),
}
_USUAL = {
    "align": _ALIGNED,
    "coengage": {modality: TowerSettings(how="fitted") for modality in Modality},
    "label": {modality: TowerSettings() for modality in Modality},
}


class AlignConfig(BaseModel):
    """Modalities of one item attract each other.

    Attributes:
        pairs: Which attract each other; those of which no item has both are left out.
        alike: What may not be a negative: pairs that share a content of either side are none in any case; ``any`` adds
            pairs of items that share any content at all.

    """

    model_config = _FROZEN

    pairs: tuple[tuple[Modality, Modality], ...] = Field(
        default=(
            (Modality.TEXT, Modality.IMAGE),
            (Modality.TEXT, Modality.AUDIO),
            (Modality.IMAGE, Modality.AUDIO),
        ),
        min_length=1,
    )
    alike: Literal["side", "any"] = "side"

    @field_validator("pairs")
    @classmethod
    def _unlike_and_once(cls, pairs: tuple[tuple[Modality, Modality], ...]) -> tuple[tuple[Modality, Modality], ...]:
        for number, pair in enumerate(pairs):
            named = " and ".join(pair)
            if len(set(pair)) < 2:
                raise ValueError(f"a pair is of two unlike modalities, and {named} was given")
            if {*pair} in [{*other} for other in pairs[:number]]:
                raise ValueError(f"{named} are named twice; each pair is learned both ways, so name it once")
        return pairs


class CoEngageConfig(BaseModel):
    """Items that the same users take one after the other attract each other.

    Attributes:
        window: Events that two events of a pair may be apart, in the history of one user; 1 is one after the other.
        hours: Hours that they may be apart; None for any time.
        correct: Share of the popularity correction of the softmax: 1 is the full logQ correction, 0 is none.
        subsample: Share of all events beyond which an item's events are thinned out, as frequent words are; 0 for none.
        pairs: Most pairs an epoch, drawn anew each time; None for all.
        before: Share of the events, oldest first, that is learned from; later ones judge.
        factors: Numbers of the vectors that heads in closed form are fitted to; see `mmrec.finetuning.coengage`.
            Those are of whole histories, within `hours`; `window`, `correct`, `subsample` and `pairs` are for training.

    """

    model_config = _FROZEN

    window: int = Field(default=5, ge=1)
    hours: float | None = Field(default=None, gt=0)
    correct: float = Field(default=1.0, ge=0, le=1)
    subsample: float = Field(default=0.0, ge=0, lt=1)
    pairs: int | None = Field(default=None, ge=1)
    before: float = Field(default=0.9, gt=0, lt=1)
    factors: int = Field(default=128, ge=2)


class LabelConfig(BaseModel):
    """Items of one value of a metadata column attract each other.

    Attributes:
        column: Name of the column.
        each: Items of one value in a batch; the batch holds as many values as fit.

    """

    model_config = _FROZEN

    column: str = "category"
    each: int = Field(default=4, ge=2)


class MiningConfig(BaseModel):
    """Hard negatives.

    Attributes:
        count: Hard negatives of each item in a step; 0 for none.
        every: Epochs between two searches; the first is before epoch `after`.
        after: First epoch with hard negatives: vectors that know nothing find nothing hard.
        margin: How far a hard negative's cosine similarity has to be below the partner's.

    """

    model_config = _FROZEN

    count: int = Field(default=0, ge=0)
    every: int = Field(default=1, ge=1)
    after: int = Field(default=2, ge=1)
    margin: float = Field(default=0.05, ge=0, le=2)


class HeldOutConfig(BaseModel):
    """Items that are never trained on.

    Attributes:
        validation: Share for early stopping.
        test: Share for the verdict.
        together: Items that share a content of these modalities are held out together; none named: of any.

    """

    model_config = _FROZEN

    validation: float = Field(default=0.1, gt=0, lt=0.5)
    test: float = Field(default=0.1, gt=0, lt=0.5)
    together: tuple[Modality, ...] = ()


class FinetuneConfig(BaseModel):
    """How encoders are fine-tuned.

    Attributes:
        towers: What is trained of each modality; a modality that is not named takes no part. Where none is: heads on
            the stored vectors, for ``align`` fitted to the texts as they are, else trained for all modalities.
        align: Settings of that objective.
        coengage: Settings of that objective.
        label: Settings of that objective.
        mining: Hard negatives.
        held_out: What is not trained on.
        loss: ``infonce`` or ``siglip``, for pairs; labels have a loss of their own.
        scale: The inverse temperature at the beginning; it is learned.
        bias: The bias at the beginning, for ``siglip``; it is learned.
        batch: Items or pairs a step, over all processes.
        part_cost: How much of an encoder's work is embedded at once; 0 takes each encoder's own batch.
        cached: Whether a batch that takes several parts is embedded twice, so that only one part is held at a time.
        shards: Parts that a step's contents are cut into at the least. Any number of processes up to it computes the
            same; more processes than parts wait.
        rate: Learning rate of AdamW.
        scale_rate: That of the temperature and the bias.
        warmup: Steps over which it grows from 0.
        anneal: Whether it falls to 0 over `epochs`, along a cosine.
        decay: Weight decay of matrices.
        clip: Norm that gradients are cut to.
        average: How much of the running mean of the weights is kept a step, which is what is validated and kept; 0 for
            none.
        epochs: Most epochs.
        evaluate_every: Epochs between two validations.
        patience: Validations without a better score after which training ends.
        seed: Decides all that is random.
        device: Kind of device; which of several GPUs is for the launcher to say, or for CUDA_VISIBLE_DEVICES.
        precision: ``no`` is float32; ``bf16`` is mixed.
        memory: Bytes of prepared contents that are kept between epochs.

    """

    model_config = _FROZEN

    towers: Mapping[Modality, TowerSettings] = {}
    align: AlignConfig = AlignConfig()
    coengage: CoEngageConfig = CoEngageConfig()
    label: LabelConfig = LabelConfig()
    mining: MiningConfig = MiningConfig()
    held_out: HeldOutConfig = HeldOutConfig()
    loss: Literal["infonce", "siglip"] = "infonce"
    scale: float = Field(default=20.0, gt=0, le=100)
    bias: float = -10.0
    batch: int = Field(default=256, ge=2)
    part_cost: int = Field(default=0, ge=0)
    cached: bool = True
    shards: int = Field(default=1, ge=1)
    rate: float = Field(default=1e-3, gt=0)
    scale_rate: float = Field(default=1e-2, gt=0)
    warmup: int = Field(default=20, ge=0)
    anneal: bool = False
    decay: float = Field(default=0.01, ge=0)
    clip: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.0, ge=0, lt=1)
    epochs: int = Field(default=50, ge=1)
    evaluate_every: int = Field(default=1, ge=1)
    patience: int = Field(default=5, ge=1)
    seed: int = 0
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    precision: Literal["no", "bf16"] = "no"
    memory: int = Field(default=2**30, ge=0)

    def towers_for(self, objective: str, able: frozenset[Modality]) -> Mapping[Modality, TowerSettings]:
        """Return the towers that are named, or else those of an objective, of the modalities that have an encoder."""
        usual = _USUAL[objective]
        return self.towers or {modality: tower for modality, tower in usual.items() if modality in able}


def load_finetune_config(path: Path) -> FinetuneConfig:
    """Read a TOML file; what it does not name stays as it is by default. Raises UsageError."""
    return read_settings(
        path,
        FinetuneConfig,
        "[towers.MODALITY], [align], [coengage], [label], [mining] and [held_out]",
    )
