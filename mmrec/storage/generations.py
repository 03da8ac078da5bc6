"""Numbered, immutable generations, and which one is current."""

import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from mmrec.errors import StoreError, UnreadableError, UsageError
from mmrec.files import sync_directory, sync_file, write_atomically
from mmrec.storage.containment import is_plain_name, move
from mmrec.storage.damage import store_error_for
from mmrec.storage.layout import FORMAT_VERSION, Layout

TOWER = "tower.safetensors"
"""A generation with this file has a user tower."""


class Manifest(BaseModel):
    """Description of a generation. Written last; a folder without it is not a generation.

    Attributes:
        format: Version of the store format.
        number: Its number, 0 before it is published.
        parent: The generation that was current when it was published.
        created: ISO time, UTC.
        items_version: Version of the items table it was built from.
        vector_versions: Version of each vector table it was built from, by file name.
        encoders: Preset or config file of the encoders, for the reader; never used to load code.
        weights: Weight of each modality.
        weights_given: Whether the user chose them; None where it was written before that was recorded.
        agreement: How far modalities agree with the texts, by modality and block: ``items``, ``rate``, ``low``,
            ``high`` and ``confidence`` (see `mmrec.fusion.agreement`).
        dim: Length of an item vector.
        items: Number of items in it.
        contents: Number of contents each block was fitted on, by block.
        kept_energy: Share of each block's squared length that projection kept.
        index_factory: Recipe of the index.
        index_search: Its search parameters.
        index_tuned: Whether these were measured, and are measured again for each generation.
        index_given: Whether the user chose the recipe; later generations keep it.
        index_memory: Most bytes of the index, if the user set a limit; kept alike.
        checks: Measurements before publishing: ``self_query`` and ``recall`` against exact search.
        warnings: Sentences for the user: an index below the target of recall.
        sha256: Checksum of each file, by name.
        digest: Checksum of the rest of the manifest; empty where it was written before there was one.

    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    format: int = FORMAT_VERSION
    number: int = 0
    parent: int | None = None
    created: str
    items_version: int
    vector_versions: dict[str, int]
    encoders: str
    weights: dict[str, float]
    weights_given: bool | None = None
    agreement: dict[str, dict[str, int | float]] = {}
    dim: int
    items: int
    contents: dict[str, int]
    kept_energy: dict[str, float]
    index_factory: str
    index_search: dict[str, int] = {}
    index_given: bool = False
    index_tuned: bool = False
    index_memory: int | None = None
    checks: dict[str, float]
    warnings: tuple[str, ...] = ()
    sha256: dict[str, str]
    digest: str = ""

    @property
    def chose_weights(self) -> bool:
        """Whether the user chose the weights."""
        if self.weights_given is None:
            return any(weight != 1 for weight in self.weights.values())
        return self.weights_given

    @property
    def has_tower(self) -> bool:
        """Whether it holds a user tower."""
        return TOWER in self.sha256

    def signed(self) -> "Manifest":
        """Return it with its digest."""
        return self.model_copy(update={"digest": _digest(self.model_dump())})


def _digest(written: Mapping[str, Any]) -> str:
    """Checksum of a manifest as it was written, so that fields of later versions do not change it."""
    signed = json.dumps({name: value for name, value in written.items() if name != "digest"}, sort_keys=True)
    return hashlib.sha256(signed.encode()).hexdigest()


def generation_numbers(layout: Layout) -> list[int]:
    """Numbers of all published generations, ascending."""
    folders = layout.generations.glob("*/manifest.json")
    return sorted(int(path.parent.name) for path in folders if path.parent.name.isdigit())


def generation_folders(layout: Layout) -> list[int]:
    """Numbers of all folders of generations, ascending, damaged ones too."""
    found = layout.generations.iterdir() if layout.generations.is_dir() else ()
    return sorted(int(path.name) for path in found if path.name.isdigit())


def current_number(layout: Layout) -> int | None:
    """Return the number of the current generation, None before the first is published."""
    try:
        return _parse_current(layout.current.read_text())
    except FileNotFoundError:
        return None
    except ValueError as error:
        msg = f"{layout.current} is damaged; write one of {generation_numbers(layout)} into it"
        raise StoreError(msg) from error


def _dump_current(number: int) -> bytes:
    """The number of a generation, and a checksum of it: one digit that changed would name another."""
    return f"{number} {_short_sum(str(number))}".encode()


def _parse_current(written: str) -> int:
    """Read what `_dump_current` wrote, or a number alone. Raises ValueError."""
    number, *check = written.split(" ")
    if check not in ([], [_short_sum(number)]):
        raise ValueError(written)
    return int(number)


def _short_sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_manifest(layout: Layout, number: int) -> Manifest:
    """Read a generation's manifest. Raises StoreError where it is missing, damaged or another generation's."""
    path = layout.generations / str(number) / "manifest.json"
    try:
        written = json.loads(path.read_bytes())
        found = Manifest.model_validate(written)
    except (OSError, ValueError) as error:
        unreadable = store_error_for(path, error)
        if isinstance(unreadable, UnreadableError):
            raise unreadable from error
        msg = f"{path} cannot be read ({error}); go back with `mmrec rollback {layout.root}`"
        raise StoreError(msg) from error
    if found.number != number:
        msg = f"{path} is the manifest of generation {found.number}; go back with `mmrec rollback {layout.root}`"
        raise StoreError(msg)
    if not all(is_plain_name(name) for name in found.sha256):
        msg = f"{path} names files outside its folder, as no manifest does; do not use this store"
        raise StoreError(msg)
    if found.digest and found.digest != _digest(written):
        msg = f"{path} is not the manifest that was published; go back with `mmrec rollback {layout.root}`"
        raise StoreError(msg)
    return found


def publish(layout: Layout, folder: Path, made: Manifest) -> Manifest:
    """Make a built folder the current generation, atomically. Hold the commit lock. Returns the final manifest."""
    layout.generations.mkdir(exist_ok=True)
    set_aside = layout.damaged.iterdir() if layout.damaged.is_dir() else ()
    named = (path.name.split(".")[0] for path in set_aside)
    number = max([0, *generation_folders(layout), *(int(name) for name in named if name.isdigit())]) + 1
    final = made.model_copy(update={"number": number, "parent": current_number(layout)}).signed()
    for path in folder.iterdir():
        sync_file(path)
    write_atomically(folder / "manifest.json", json.dumps(final.model_dump(), indent=1).encode())
    move(layout.root, folder, layout.generations / str(number))
    sync_directory(layout.generations)
    write_atomically(layout.current, _dump_current(number))
    return final


def roll_back(layout: Layout, number: int | None) -> int:
    """Make an earlier generation current: the given one, else the parent of the current. Hold the commit lock.

    Raises UsageError where there is no such generation.
    """
    now = current_number(layout)
    there = generation_numbers(layout)
    if number is None and now is not None:
        number = _parent(layout, now, there)
    if number is None or number not in there:
        msg = f"no generation {number if number is not None else 'before the current one'}; there are {there}"
        raise UsageError(msg)
    read_manifest(layout, number)
    write_atomically(layout.current, _dump_current(number))
    return number


def _parent(layout: Layout, number: int, there: list[int]) -> int | None:
    """The generation that a generation replaced; the one numbered before it where that is gone or unknown."""
    with suppress(StoreError):
        parent = read_manifest(layout, number).parent
        if parent in there:
            return parent
    return max((other for other in there if other < number), default=None)
