"""What was found out about models, kept on disk: seconds of work that every process would repeat.

Losing a note costs only that work. A note is named by all that decides its content, so none grows stale.
"""

import contextlib
import json
import os
from collections.abc import Callable
from pathlib import Path

from indexers.atomic import write_atomically
from mmrec.encoders.fingerprints import fingerprint

__all__ = ["noted"]


def noted(make: Callable[[], dict[str, int | str]], **named_by: object) -> dict[str, int | str]:
    """Return the note named by some parts, made and kept if there is none or it cannot be read."""
    location = _folder() / f"{fingerprint(**named_by)}.json"
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(location.read_bytes())
        if isinstance(found, dict):
            return found
    made = make()
    with contextlib.suppress(OSError):
        location.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(location, json.dumps(made).encode())
    return made


def _folder() -> Path:
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "mmrec" / "models"
