"""Which code and which files encoders are made of, told without importing or building any of them."""

from collections.abc import Iterable, Iterator
from pathlib import Path

from mmrec.encoders.factories import OWN_FACTORIES, TUNED, EncoderSpec
from mmrec.encoders.tuned_config import read_tuned_config
from mmrec.errors import EncoderError

__all__ = ["foreign_factories", "local_paths", "with_parents"]

_PATHS = ("model", "checkpoint", "folder")
_DEEPEST = 8


def with_parents(spec: EncoderSpec) -> Iterator[EncoderSpec]:
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
    """Return the factories that are no encoders of this package, parents included. Raises as `with_parents`."""
    return [one.factory for spec in specs for one in with_parents(spec) if one.factory not in OWN_FACTORIES]


def local_paths(specs: Iterable[EncoderSpec]) -> list[Path]:
    """Return the files and folders on this machine that encoders are read from, as written. As `with_parents`."""
    named = [one.settings.get(key) for spec in specs for one in with_parents(spec) for key in _PATHS]
    return [path for value in named if isinstance(value, str) and (path := Path(value).expanduser()).exists()]
