"""A catalog to a JSON Lines file."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from indexers.atomic import atomic_file

__all__ = ["write_jsonl"]


def write_jsonl(records: Iterable[Mapping[str, object]], out: Path) -> Path:
    """Write one object a line, atomically; folders above are made. Returns `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as file:
        file.writelines(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
    return out
