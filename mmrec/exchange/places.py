"""Where an export goes: written beside its place and renamed into it, and never over what is not an export."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmrec.errors import UsageError
from mmrec.output import is_irregular
from mmrec.store.files import sync_directory, sync_tree

__all__ = ["check_place", "placed"]

OURS = ("part-*.parquet", "data-*.arrow", "state.json", "dataset_info.json")
"""What an export to a directory is made of."""


def check_place(out: Path, store: Path, *, overwrite: bool) -> None:
    """Raise UsageError unless an export may be written to `out`: a directory is replaced only if it is an export."""
    if out.resolve().is_relative_to(store.resolve()):
        raise UsageError(f"{out} is inside the store {store}; export to another place")
    if not out.parent.is_dir():
        raise UsageError(f"there is no directory {out.parent}; make it first, or export to another place")
    if not out.exists() and not out.is_symlink():
        return
    if not overwrite:
        raise UsageError(f"{out} exists; add --overwrite to replace it, or name another place")
    foreign = _foreign(out)
    if foreign is not None:
        raise UsageError(f"{out} holds {foreign}, which no export wrote, so it is not replaced; name another place")


@contextmanager
def placed(out: Path, store: Path, *, overwrite: bool) -> Iterator[Path]:
    """Give a path beside `out`; what is there at the end takes its place, what is there after an error is removed."""
    check_place(out, store, overwrite=overwrite)
    made = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.new")
    try:
        yield made
        sync_tree(made)
        check_place(out, store, overwrite=overwrite)  # an hour may have passed
        old = out.with_name(f".{out.name}.{uuid.uuid4().hex[:8]}.old")
        if out.is_dir():  # a directory cannot be renamed over another that holds something
            out.rename(old)
        made.rename(out)
        sync_directory(out.parent)
        shutil.rmtree(old, ignore_errors=True)
    finally:
        _remove(made)


def _foreign(out: Path) -> str | None:
    """Something at `out` that no export wrote; None where there is nothing of the kind."""
    if is_irregular(out):
        return "a link or a device"
    if out.is_file():
        return None
    odd = next((path.name for path in sorted(out.iterdir()) if not any(path.match(name) for name in OURS)), None)
    return None if odd is None else repr(odd)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
