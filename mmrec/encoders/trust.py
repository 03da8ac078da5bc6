"""Which encoders a store may name by itself: those that run no code but mmrec's own."""

import json
import tomllib
from collections.abc import Iterator
from pathlib import Path

from mmrec.encoders.presets import PRESETS

__all__ = ["ENCODERS_FILE", "runs_only_own_code"]

ENCODERS_FILE = "encoders.toml"
"""What a folder of fine-tuned encoders lists them in."""

_OWN = "mmrec.encoders."


def runs_only_own_code(source: str) -> bool:
    """Whether encoders may be loaded because a store says so: a preset, or a folder of what `mmrec finetune` wrote.

    A folder's files name factories, which are code; here all must be mmrec's own, and all files lie in the folder.
    Models of a hub are not among them: a store may not make a machine fetch what it likes.
    """
    if source in PRESETS:
        return True
    folder = Path(source)
    try:
        listed = tomllib.loads((folder / ENCODERS_FILE).read_text(encoding="utf-8"))
        named = list(_told(listed))
        for path in folder.rglob("config.json"):
            named += _told(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return False
    factories = [value for key, value in named if key == "factory"]
    places = [value for key, value in named if key in {"folder", "model", "path"}]
    return all(name.startswith(_OWN) for name in factories) and all(_is_inside(folder, place) for place in places)


def _told(value: object) -> Iterator[tuple[str, str]]:
    """All keys with texts as their values, however deep."""
    if isinstance(value, dict):
        for key, inner in value.items():
            if isinstance(inner, str):
                yield key, inner
            yield from _told(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _told(inner)


def _is_inside(folder: Path, place: str) -> bool:
    return (folder / place).resolve().is_relative_to(folder.resolve())
