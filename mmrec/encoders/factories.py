"""One encoder, named by the dotted path of what makes it and by its settings, and built from that."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from mmrec.encoders.protocol import Encoder
from mmrec.errors import EncoderError, UsageError

if TYPE_CHECKING:
    import torch  # naming encoders, as most commands do, needs none


TUNED: Final = "mmrec.encoders.tuned.Tuned"

OWN_FACTORIES: Final = frozenset(
    {
        "mmrec.encoders.hub.audio_text.HubAudioText",
        "mmrec.encoders.hub.image.HubImage",
        "mmrec.encoders.hub.image_text.HubImageText",
        "mmrec.encoders.hub.multimodal.HubMultimodal",
        "mmrec.encoders.hub.open_clip.OpenClip",
        "mmrec.encoders.hub.speech.SpeechBundle",
        "mmrec.encoders.hub.text.HubText",
        "mmrec.encoders.hub.timm_image.TimmImage",
        "mmrec.encoders.packaged.efficientnet_lite.EfficientNetLite0",
        "mmrec.encoders.packaged.minilm.MiniLM",
        "mmrec.encoders.packaged.yamnet.YamNet",
        TUNED,
    }
)
"""The encoders of this package. Every other factory is someone's code, imported only where the user says so."""


@dataclass(frozen=True, slots=True)
class EncoderSpec:
    """One encoder to build.

    Attributes:
        factory: Dotted path of a class or function: one of `OWN_FACTORIES`, or from the user's own configuration.
        settings: Its keywords beside `device` and `dtype`.

    """

    factory: str
    settings: Mapping[str, object] = field(default_factory=dict)


def build_encoder(
    spec: EncoderSpec, device: "torch.device", dtype: "torch.dtype", *, trust_code: bool = False
) -> Encoder:
    """Call a factory with `device`, `dtype` and its settings.

    Args:
        spec: The factory and its settings.
        device: Where the encoder runs.
        dtype: Its number format.
        trust_code: Import a factory that is not this package's own too; also of the encoder it was fine-tuned from.

    Raises:
        UsageError: The factory does not take the settings.
        EncoderError: It may not or cannot be imported, or makes no encoder.

    """
    if not trust_code and spec.factory not in OWN_FACTORIES:
        raise EncoderError(
            f"The factory {spec.factory!r} is code that is not mmrec's own, and is not run. If you know that code, "
            "allow it with --trust-code (trust_code=True in Python)."
        )
    factory = _import(spec.factory)
    # The caller's arguments override settings from a file.
    arguments: dict[str, Any] = {**spec.settings, "device": device, "dtype": dtype}
    if spec.factory == TUNED:
        arguments["trust_code"] = trust_code
    signature = inspect.signature(factory)
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise UsageError(
            f"{spec.factory} cannot be called with {', '.join(arguments)}: {error}. It takes {signature}."
        ) from error
    encoder: Encoder = factory(**arguments)
    # Not isinstance: before Python 3.12 it would evaluate `module`, and so load the weights.
    members = ("spaces", "batch_cost", "module", "prepare", "encode")
    if missing := [name for name in members if inspect.getattr_static(encoder, name, None) is None]:
        raise EncoderError(
            f"{spec.factory} makes a {type(encoder).__name__}, which is no encoder: it lacks {', '.join(missing)}. "
            "See mmrec.encoders.protocol.Encoder."
        )
    return encoder


def with_absolute_paths(settings: Mapping[str, object], folder: Path) -> dict[str, object]:
    """Return the settings with texts that begin with ``./`` or ``../`` as absolute paths, taken from a folder."""
    return {
        key: str((folder / value).resolve()) if isinstance(value, str) and value.startswith(("./", "../")) else value
        for key, value in settings.items()
    }


def _import(dotted: str) -> Callable[..., Any]:
    module, _, name = dotted.rpartition(".")
    try:
        found: object = getattr(import_module(module), name)
    except ImportError as error:
        raise EncoderError(
            f"{dotted} cannot be imported: {error}. Install its package, or put the module beside the TOML file."
        ) from error
    except AttributeError as error:
        raise EncoderError(f"The module {module} has no {name!r}. Correct the factory {dotted!r}.") from error
    if not callable(found):
        raise EncoderError(f"{dotted} is a {type(found).__name__}; a factory must be a class or a function.")
    return found
