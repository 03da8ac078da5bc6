"""What repairing a store has set aside."""

import uuid
from pathlib import Path
from typing import Final

from mmrec.storage.containment import move
from mmrec.storage.layout import SET_ASIDE, Layout

__all__ = ["KEEP", "disposable", "kept_aside", "set_aside"]

KEEP: Final = ".keep"
"""Ending of what may hold more than could be saved of it: no one but its owner removes it."""


def set_aside(layout: Layout, path: Path, *, keep: bool = False) -> Path:
    """Move something damaged out of the way; ``mmrec gc`` removes it unless it is to be kept. Returns where it is."""
    layout.damaged.mkdir(exist_ok=True)
    aside = layout.damaged / f"{path.name}.{uuid.uuid4().hex}{KEEP if keep else ''}"
    move(layout.root, path, aside)
    return aside


def disposable(layout: Layout) -> list[Path]:
    """What was set aside and holds nothing that was not saved."""
    return [path for path in _aside(layout) if not path.name.endswith(KEEP)]


def kept_aside(layout: Layout) -> list[Path]:
    """What was set aside and may hold more than was saved."""
    return [path for path in _aside(layout) if path.name.endswith(KEEP)]


def _aside(layout: Layout) -> list[Path]:
    paths = layout.damaged.iterdir() if layout.damaged.is_dir() else ()
    return sorted(path for path in paths if SET_ASIDE.fullmatch(path.name))
