"""A catalog to a JSON Lines file."""

import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

__all__ = ["write_jsonl"]


def write_jsonl(records: Iterable[Mapping[str, object]], out: Path) -> Path:
    """Write one object a line, atomically; folders above are made. Returns `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    draft = out.with_name(f".{out.name}.{os.getpid()}")
    try:
        with draft.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(record, ensure_ascii=False) + "\n" for record in records)
            file.flush()
            os.fsync(file.fileno())
        draft.replace(out)
    finally:
        draft.unlink(missing_ok=True)
    return out
