"""Presets of encoders, encoder files of a user, and which encoder folders may be loaded."""

import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from mmrec.compute import pick_device, pick_dtype
from mmrec.encoders.factories import OWN_FACTORIES, TUNED, EncoderSpec, build_encoder, with_absolute_paths
from mmrec.encoders.protocol import Encoder
from mmrec.encoders.tuned_config import read_tuned_config
from mmrec.errors import EncoderError, UsageError
from mmrec.types import Space

_PATHS = ("model", "checkpoint", "folder")
_DEEPEST = 8


def ancestry(spec: EncoderSpec) -> Iterator[EncoderSpec]:
    """Return an encoder, the one that it was fine-tuned from, and so on.

    Raises EncoderError for a folder that cannot be read, or that is fine-tuned from itself.
    """
    for _ in range(_DEEPEST):
        yield spec
        if spec.factory != TUNED:
            return
        spec = read_tuned_config(Path(str(spec.settings.get("folder")))).parent_spec
    raise EncoderError(f"{spec.settings.get('folder')} was fine-tuned more than {_DEEPEST} times over. Train anew.")


def foreign_factories(specs: Iterable[EncoderSpec]) -> list[str]:
    """Return the factories that are no encoders of this package, parents included. Raises as `ancestry`."""
    return [one.factory for spec in specs for one in ancestry(spec) if one.factory not in OWN_FACTORIES]


def local_paths(specs: Iterable[EncoderSpec]) -> list[Path]:
    """Return the files and folders on this machine that encoders are read from, as written. As `ancestry`."""
    named = [one.settings.get(key) for spec in specs for one in ancestry(spec) for key in _PATHS]
    return [path for value in named if isinstance(value, str) and (path := Path(value).expanduser()).exists()]


ENCODERS_FILE: Final = "encoders.toml"
"""What a folder of encoders is described by."""


PRESETS: Mapping[str, tuple[EncoderSpec, ...]] = {
    "packaged": (
        EncoderSpec("mmrec.encoders.packaged.minilm.MiniLM"),
        EncoderSpec("mmrec.encoders.packaged.efficientnet_lite.EfficientNetLite0"),
        EncoderSpec("mmrec.encoders.packaged.yamnet.YamNet"),
    ),
    # Texts in a hundred languages; texts of as many find images, English ones audio. Items' texts are read by the
    # first alone: beside it the others' text towers would cost three times the work and blur text with text.
    "hub": (
        EncoderSpec(
            "mmrec.encoders.hub.text.HubText",
            {"model": "intfloat/multilingual-e5-small", "query_prompt": "query: ", "document_prompt": "passage: "},
        ),
        EncoderSpec(
            "mmrec.encoders.hub.image_text.HubImageText",
            {"model": "google/siglip2-base-patch16-224", "items": ("image",), "lower": True},
        ),
        EncoderSpec(
            "mmrec.encoders.hub.audio_text.HubAudioText", {"model": "laion/clap-htsat-unfused", "items": ("audio",)}
        ),
    ),
    "none": (),  # of a store whose vectors were all made elsewhere
}

HUB_KINDS: Mapping[str, tuple[str, str]] = {
    "text": ("mmrec.encoders.hub.text.HubText", "model"),
    "image": ("mmrec.encoders.hub.image.HubImage", "model"),
    "timm": ("mmrec.encoders.hub.timm_image.TimmImage", "model"),
    "image-text": ("mmrec.encoders.hub.image_text.HubImageText", "model"),
    "open-clip": ("mmrec.encoders.hub.open_clip.OpenClip", "model"),
    "audio-text": ("mmrec.encoders.hub.audio_text.HubAudioText", "model"),
    "speech": ("mmrec.encoders.hub.speech.SpeechBundle", "bundle"),
    "multimodal": ("mmrec.encoders.hub.multimodal.HubMultimodal", "model"),
}
"""Short names of the encoders of hub models: their factories, and the one setting that each needs."""


def load_encoders(
    preset_or_path: str | Path = "packaged",
    *,
    device: str = "auto",
    dtype: str = "fp32",
    trust_code: bool = False,
    own_file: bool = True,
) -> tuple[Encoder, ...]:
    """Build encoders. The packaged ones read their weights at first use, so that their spaces are known at once.

    Args:
        preset_or_path: Name of a preset, kinds and models as in ``text=owner/name,image=DIR``, or path of a TOML file
            or of a folder that holds one.
        device: As for `pick_device`.
        dtype: As for `pick_dtype`.
        trust_code: Import factories that are not this package's own also where a folder names them, or the folder of
            an encoder that was fine-tuned.
        own_file: False if a catalog's file named the TOML file rather than the user; then it is not trusted.

    Raises:
        UsageError: No such preset or file, a file that is not as described above, code that is not trusted, or a
            device that is not there.
        EncoderError: A factory that cannot be imported or makes no encoder, or two encoders that fill one space.

    """
    chosen = pick_device(device)
    number_format = pick_dtype(dtype, chosen)
    specs = read_encoder_specs(preset_or_path)
    file = _file(preset_or_path)
    trusts_file = trust_code or (own_file and file is not None and file == Path(preset_or_path))
    trusted = [trust_code or (trusts_file and spec.factory != TUNED) for spec in specs]
    if foreign := foreign_factories(spec for spec, is_trusted in zip(specs, trusted, strict=True) if not is_trusted):
        raise UsageError(
            f"The factory {foreign[0]!r} is code that is not mmrec's own, and a folder of encoders does not choose "
            "code to run. If you know that code, allow it with --trust-code (trust_code=True in Python)."
        )
    if file is not None and foreign_factories(specs):
        folder = str(file.resolve().parent)
        if folder not in sys.path:
            sys.path.append(folder)  # last, so that it hides no installed module
    encoders = tuple(
        build_encoder(spec, chosen, number_format, trust_code=is_trusted)
        for spec, is_trusted in zip(specs, trusted, strict=True)
    )
    spaces_by_name(encoders)
    return encoders


def recorded_source(preset_or_path: str | Path) -> str:
    """Return what a store's manifest keeps of where its encoders are: of folders, their absolute paths."""
    given = str(preset_or_path)
    if given in PRESETS or Path(given).is_file():
        return given
    if Path(given).is_dir():
        return str(Path(given).resolve())
    parts = [part.partition("=") for part in given.split(",")]
    return ",".join(f"{kind}{equals}{_placed(model)}" for kind, equals, model in parts)


def read_encoder_specs(preset_or_path: str | Path) -> tuple[EncoderSpec, ...]:
    """Return what a preset, named models, a TOML file or a folder ask for, without importing any. Raises UsageError."""
    if str(preset_or_path) in PRESETS:
        return PRESETS[str(preset_or_path)]
    path = _file(preset_or_path)
    if path is None:
        if "=" in str(preset_or_path):
            return tuple(_hub_spec(part) for part in str(preset_or_path).split(","))
        held = f" that holds {ENCODERS_FILE}" if Path(preset_or_path).is_dir() else ""
        held += ", but its folder encoders does" if (Path(preset_or_path) / "encoders" / ENCODERS_FILE).exists() else ""
        raise UsageError(
            f"There is no encoder preset or TOML file {str(preset_or_path)!r}{held}. Presets: {', '.join(PRESETS)}; or "
            f"name a file, a folder with {ENCODERS_FILE}, or models of a hub as in text=owner/name."
        )
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    tables = content.pop("encoders", None)
    if content:
        raise UsageError(f"{path} has the unknown keys {', '.join(sorted(content))}. Allowed: [[encoders]] tables.")
    if not isinstance(tables, list) or not tables:
        raise UsageError(
            f'{path} names no encoder. Write at least one [[encoders]] table with factory = "module.Name".'
        )
    return tuple(_spec(table, path) for table in tables)


def spaces_by_name(encoders: Iterable[Encoder]) -> dict[str, Space]:
    """Return all spaces that the encoders fill. Raises EncoderError if two encoders fill a space of one name."""
    found: dict[str, Space] = {}
    for encoder in encoders:
        own = {space.name: space for spaces in encoder.spaces.values() for space in spaces}
        if taken := sorted(own.keys() & found.keys()):
            raise EncoderError(
                f"Two encoders fill the space {taken[0]!r}. Keep one of them, or give the other's space another name."
            )
        found |= own
    return found


def _file(preset_or_path: str | Path) -> Path | None:
    """The TOML file that is named, or that a named folder holds."""
    path = Path(preset_or_path)
    if str(preset_or_path) in PRESETS:
        return None
    found = path / ENCODERS_FILE if path.is_dir() else path
    return found if found.is_file() else None


def _placed(model: str) -> str:
    folder = Path(model.strip()).expanduser()
    return str(folder.resolve()) if model.strip() and folder.is_dir() else model


def _hub_spec(part: str) -> EncoderSpec:
    kind, _, model = (word.strip() for word in part.partition("="))
    if kind not in HUB_KINDS or not model:
        raise UsageError(
            f"{part!r} names no encoder. Write kind=model, as in text=owner/name or image=DIRECTORY, several joined by "
            f"commas; kinds: {', '.join(HUB_KINDS)}."
        )
    factory, setting = HUB_KINDS[kind]
    return EncoderSpec(factory, {setting: model})


def _spec(table: object, path: Path) -> EncoderSpec:
    if not isinstance(table, dict):
        raise UsageError(f"{path}: `encoders` must be [[encoders]] tables, and holds {table!r}.")
    factory, settings = table.get("factory"), {key: value for key, value in table.items() if key != "factory"}
    if not isinstance(factory, str) or "." not in factory:
        raise UsageError(f'{path}: an [[encoders]] table needs factory = "module.Name", and has {factory!r}.')
    if reserved := sorted(settings.keys() & {"device", "dtype", "trust_code"}):
        flag = reserved[0].replace("_", "-")
        raise UsageError(f"{path}: {reserved[0]} is not set for each encoder but for all, by --{flag}.")
    return EncoderSpec(factory, with_absolute_paths(settings, path.resolve().parent))
