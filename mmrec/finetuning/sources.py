"""Encoders together with how they are built: what is fine-tuned has to be named again when it is saved."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mmrec.encoders.factories import EncoderSpec
from mmrec.encoders.presets import load_encoders, read_encoder_specs
from mmrec.encoders.protocol import Encoder
from mmrec.encoders.queries import query_spaces
from mmrec.modality import Modality
from mmrec.spaces import Space

__all__ = ["Source", "load_sources"]


@dataclass(frozen=True, eq=False)
class Source:
    """One encoder.

    Attributes:
        spec: How it is built.
        encoder: Built so, and no one else's: its network is trained in place.

    """

    spec: EncoderSpec
    encoder: Encoder

    def spaces(self, modality: Modality) -> tuple[Space, ...]:
        """Return the spaces that items or queries of a modality are encoded into."""
        item = self.encoder.spaces.get(modality, ())
        return tuple(dict.fromkeys([*item, *query_spaces(self.encoder).get(modality, ())]))

    def by_name(self) -> Mapping[str, Space]:
        """Return all its spaces by name."""
        return {space.name: space for modality in Modality for space in self.spaces(modality)}


def load_sources(
    preset_or_path: str | Path = "packaged", *, device: str = "auto", trust_code: bool = False
) -> tuple[Source, ...]:
    """Build the encoders of a preset, a TOML file or a folder for training, in float32. As `load_encoders`."""
    specs = read_encoder_specs(preset_or_path)
    encoders = load_encoders(preset_or_path, device=device, trust_code=trust_code)
    return tuple(Source(spec, encoder) for spec, encoder in zip(specs, encoders, strict=True))
