"""What models of two modalities share: one space for both, and which of them items are read by."""

from collections.abc import Mapping, Sequence

from mmrec.errors import UsageError
from mmrec.modality import Modality
from mmrec.spaces import Space

__all__ = ["check_items", "shared_space"]


def check_items(items: Sequence[str] | None, able: Sequence[Modality]) -> None:
    """Raise UsageError unless `items` names some of the modalities that a model is able to read."""
    if items is not None and (isinstance(items, str) or not items or not set(items) <= set(able)):
        raise UsageError(f"items = {items!r} was given; it must be a list of some of {', '.join(able)}.")


def shared_space(
    space: Space, able: Sequence[Modality], items: Sequence[str] | None = None
) -> Mapping[Modality, tuple[Space, ...]]:
    """Return one space for each of the modalities, or only for those in `items`."""
    return {modality: (space,) for modality in able if items is None or modality in items}
