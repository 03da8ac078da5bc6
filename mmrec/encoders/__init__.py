"""Content in, unit vectors out: the encoder protocol, the packaged encoders, and how a config names others."""

from importlib import import_module
from typing import Any

__all__ = [
    "EfficientNetLite0",
    "Encoder",
    "EncoderSpec",
    "MiniLM",
    "Sample",
    "Vectors",
    "YamNet",
    "load_encoders",
    "read_encoder_specs",
    "spaces_by_name",
]

_HOMES = {
    "EfficientNetLite0": "mmrec.encoders.packaged.efficientnet_lite",
    "Encoder": "mmrec.encoders.protocol",
    "EncoderSpec": "mmrec.encoders.factories",
    "MiniLM": "mmrec.encoders.packaged.minilm",
    "Sample": "mmrec.encoders.protocol",
    "Vectors": "mmrec.encoders.protocol",
    "YamNet": "mmrec.encoders.packaged.yamnet",
    "load_encoders": "mmrec.encoders.presets",
    "read_encoder_specs": "mmrec.encoders.presets",
    "spaces_by_name": "mmrec.encoders.presets",
}


def __getattr__(name: str) -> Any:  # noqa: ANN401
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
