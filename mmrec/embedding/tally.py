"""What a run counts."""

from collections import Counter
from dataclasses import dataclass, field

__all__ = ["Tally"]


@dataclass
class Tally:
    """What a run has done so far.

    Attributes:
        seen: Source rows taken.
        added: Items that are new.
        changed: Items whose contents, places or metadata changed.
        removed: Items that the source no longer has.
        read: Contents read from where they lie.
        encoded: Contents encoded, by modality.
        truncated: Contents cut to their model's limit, by modality.
        quarantined: Contents and rows left out.

    """

    seen: int = 0
    added: int = 0
    changed: int = 0
    removed: int = 0
    read: int = 0
    encoded: Counter[str] = field(default_factory=Counter)
    truncated: Counter[str] = field(default_factory=Counter)
    quarantined: int = 0
