"""Whether encoders run code of this package alone, told without importing or building any of them."""

from collections.abc import Iterable
from pathlib import Path
from typing import Final

from mmrec.encoders.factories import EncoderSpec
from mmrec.encoders.tuned_config import read_tuned_config

__all__ = ["TUNED", "runs_own_code_only"]

TUNED: Final = "mmrec.encoders.tuned.Tuned"
_OWN: Final = ("mmrec.encoders.packaged.", "mmrec.encoders.hub.")


def runs_own_code_only(specs: Iterable[EncoderSpec]) -> bool:
    """Return whether all factories are encoders of this package, and so are the parents of those that were fine-tuned.

    Raises EncoderError for a fine-tuned encoder whose folder cannot be read.
    """
    return all(_is_own(spec) for spec in specs)


def _is_own(spec: EncoderSpec) -> bool:
    if spec.factory == TUNED:
        return _is_own(read_tuned_config(Path(str(spec.settings.get("folder")))).parent_spec)
    return spec.factory.startswith(_OWN)
