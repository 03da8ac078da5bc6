"""A text model as one network: the transformer, the pooling, and what follows it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mmrec.encoders.hub.explained import explained
from mmrec.encoders.hub.networks import load_network
from mmrec.encoders.hub.pooling import pool
from mmrec.encoders.hub.sentence_config import HeadStep
from mmrec.encoders.hub.source import read_json
from mmrec.errors import EncoderError

__all__ = ["TextNetwork", "load_text_network"]

# Networks whose encoder alone makes the vectors.
_ENCODERS = {
    "t5": "T5EncoderModel",
    "mt5": "MT5EncoderModel",
    "umt5": "UMT5EncoderModel",
    "longt5": "LongT5EncoderModel",
    "switch_transformers": "SwitchTransformersEncoderModel",
}


class TextNetwork(nn.Module):
    """Token numbers -> vectors, not yet of length one.

    `pooling` names keys of `POOLINGS`; `head` is what follows the pooling.
    """

    def __init__(self, transformer: nn.Module, pooling: tuple[str, ...], head: nn.Sequential) -> None:
        super().__init__()
        self.transformer = transformer
        self.pooling = pooling
        self.head = head

    def forward(
        self,
        tokens: Int[Tensor, "batch tokens"],
        real: Bool[Tensor, "batch tokens"],
        pooled: Bool[Tensor, "batch tokens"],
    ) -> Float[Tensor, "batch dim"]:
        """Return one vector a row; `real` tokens are read, those `pooled` also count in the pooling."""
        found = self.transformer(input_ids=tokens, attention_mask=real.long())
        vectors: Tensor = self.head(pool(self.pooling, found.last_hidden_state, pooled))
        return vectors


def load_text_network(
    folder: Path,
    config: Any,  # noqa: ANN401
    pooling: tuple[str, ...],
    steps: Sequence[HeadStep],
    placed: tuple[torch.device, torch.dtype],
) -> TextNetwork:
    """Load a network from the transformer's folder and the folders of its steps. Raises EncoderError."""
    import transformers  # noqa: PLC0415 (takes seconds)

    kind = getattr(config, "model_type", "")
    if getattr(config, "is_encoder_decoder", False) and kind not in _ENCODERS:
        raise EncoderError(
            f"{folder} holds a {kind} model of an encoder and a decoder; of these only "
            f"{', '.join(_ENCODERS)} are read. Name a text embedding model."
        )
    loaded = load_network(getattr(transformers, _ENCODERS.get(kind, "AutoModel")), folder, *placed)
    head = nn.Sequential(*(_step(step) for step in steps)).to(*placed).eval()
    return TextNetwork(loaded, pooling, head)


class _Dense(nn.Module):
    def __init__(self, config: dict[str, object], folder: Path) -> None:
        super().__init__()
        wide, narrow = int(str(config["in_features"])), int(str(config["out_features"]))
        self.linear = nn.Linear(wide, narrow, bias=bool(config.get("bias", True)))
        self.activation = _activation(
            str(config.get("activation_function", "torch.nn.modules.activation.Tanh")), folder
        )
        self.residual: nn.Module | None = None
        if config.get("use_residual"):
            self.residual = nn.Identity() if wide == narrow else nn.Linear(wide, narrow, bias=False)

    def forward(self, vectors: Float[Tensor, "batch wide"]) -> Float[Tensor, "batch narrow"]:
        made: Tensor = self.activation(self.linear(vectors))
        return made if self.residual is None else made + self.residual(vectors)


class _Norm(nn.Module):
    def __init__(self, config: dict[str, object]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(int(str(config["dimension"])))

    def forward(self, vectors: Float[Tensor, "batch wide"]) -> Float[Tensor, "batch wide"]:
        made: Tensor = self.norm(vectors)
        return made


class _Unit(nn.Module):
    def forward(self, vectors: Float[Tensor, "batch wide"]) -> Float[Tensor, "batch wide"]:
        return torch.nn.functional.normalize(vectors, dim=1)


def _step(step: HeadStep) -> nn.Module:
    if step.kind == "Normalize":
        return _Unit()
    config = read_json(step.folder / "config.json")
    with explained(f"The layer in {step.folder}", "Copy the model again."):
        if step.kind == "LayerNorm":
            module: nn.Module = _Norm(config)
        else:
            if config.get("module_input_name", "sentence_embedding") != "sentence_embedding":
                raise EncoderError(f"The layer in {step.folder} works on tokens, which is not known here.")
            module = _Dense(config, step.folder)
        module.load_state_dict(_weights(step.folder))
    return module


def _weights(folder: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file  # noqa: PLC0415

    if (folder / "model.safetensors").exists():
        return load_file(folder / "model.safetensors")
    found: dict[str, Tensor] = torch.load(folder / "pytorch_model.bin", map_location="cpu", weights_only=True)
    return found


def _activation(dotted: str, folder: Path) -> nn.Module:
    """An activation of torch's own by the last part of its name; nothing else is ever imported."""
    made = getattr(torch.nn.modules.activation, dotted.rpartition(".")[2], None)
    if dotted.endswith(".Identity") or dotted == "Identity":
        return nn.Identity()
    if not dotted.startswith("torch.") or not (isinstance(made, type) and issubclass(made, nn.Module)):
        raise EncoderError(f"The layer in {folder} has the activation {dotted!r}, which is none of torch's own.")
    activation: nn.Module = made()
    return activation
