"""Which encoders may be loaded because a store's manifest names them: a store can be copied, and its manifest forged.

Presets, and models of a hub by their ids, may. A folder may once this user has named it for this store, which is kept
in the user's own state directory (``$XDG_STATE_HOME/mmrec/encoders``): a record of the store's path, the folder's path
and the digest of its files. Nothing is loaded from inside a store, or by a path that is relative or has links in it.
"""

import hashlib
import json
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeAlias

from mmrec.encoders.hub.source import directory_digest, file_digest
from mmrec.encoders.presets import (
    ENCODERS_FILE,
    PRESETS,
    foreign_factories,
    local_paths,
    read_encoder_specs,
    recorded_source,
)
from mmrec.encoders.protocol import fingerprint
from mmrec.errors import MmrecError, StoreError, UsageError
from mmrec.files import write_atomically
from mmrec.storage.layout import Layout

Confirm: TypeAlias = Callable[[str], bool]
"""Asks the user a question, and returns whether the answer was yes."""

_SYSTEM: Final = frozenset({"proc", "dev", "sys"})
_NAME_THEM: Final = "name the encoders that it was made with: --encoders (encoders= in Python)"


def check_encoders(layout: Layout, made_with: str, confirm: Confirm | None = None) -> None:
    """Return if the encoders that a store's manifest names (`made_with`) may be loaded.

    `confirm` is asked about a folder that the user has not named for this store; None says no. Raises StoreError if the
    user has to name the encoders, EncoderError for files that cannot be read.
    """
    if (reason := _refusal_reason(layout, made_with)) is not None:
        raise StoreError(f"{layout.root} says that it was made with the encoders of {made_with!r}. {reason}")
    if (paths := _folders(made_with)) and not _is_recorded(layout, made_with):
        shown = ", ".join(map(str, paths))
        if confirm is None or not confirm(
            f"{layout.root} was made with the encoders in {shown}. Are they yours, and to be used for it from now on"
        ):
            raise StoreError(
                f"{layout.root} was made with the encoders in {shown}, which you have not named for this store, or "
                "which changed since. If they are yours, name that folder once with --encoders (encoders= in Python): "
                "from then on it is used."
            )
        _record(layout, made_with)


def is_consented(layout: Layout, made_with: str) -> bool:
    """Return whether `check_encoders` would let the encoders be loaded without a question. Raises EncoderError."""
    if _refusal_reason(layout, made_with) is not None:
        return False
    return not _folders(made_with) or _is_recorded(layout, made_with)


def check_outside_store(layout: Layout, given: str | Path) -> None:
    """Raise UsageError for encoders that a user names and that lie inside the store they are for."""
    reason = location_fault(layout, recorded_source(given))
    if reason is not None:
        raise UsageError(f"The encoders {str(given)!r} cannot be used for {layout.root}: {reason}")


def record_consent(layout: Layout, given: str | Path) -> None:
    """Record that the user named these folders of encoders for this store. Raises as `check_outside_store`."""
    check_outside_store(layout, given)
    source = recorded_source(given)
    if not Path(source).is_file() and (paths := _folders(source)):
        if paths == [Path(source)] and not (paths[0] / ENCODERS_FILE).is_file():
            return  # only a label for imported vectors: without encoders.toml nothing is loaded from it
        _record(layout, source)


def location_fault(layout: Layout, made_with: str) -> str | None:
    """Return why encoders are where a store's never are, so that a manifest that names them is forged; else None."""
    if made_with in PRESETS:
        return None
    try:
        return _location_fault(layout, made_with)
    except (OSError, ValueError) as error:
        return f"That cannot be looked at ({getattr(error, 'strerror', None) or error})."


def _location_fault(layout: Layout, made_with: str) -> str | None:
    for path in (*_as_paths(made_with), *_inner_paths(made_with)):
        places = [path]
        if not path.is_absolute():
            near = (path.absolute(), layout.root / path, layout.root.parent / path)
            places = [place for place in near if place.exists()]
        if any(_is_within(place, layout.root) for place in places):
            return "They lie inside the store; encoders are never loaded from there. Keep them elsewhere."
        if path.is_absolute() and path.parts[1:2] and path.parts[1] in _SYSTEM:
            return f"{path} is a path of the operating system's own; name the folder by its plain path."
        if not path.is_absolute() and path.is_dir():
            return "A folder of encoders is recorded by its absolute path, and this path is relative."
    return None


def _refusal_reason(layout: Layout, made_with: str) -> str | None:
    """Why a manifest's encoders may not be loaded whatever the user answers; None where they may."""
    if made_with in PRESETS:
        hidden = local_paths(PRESETS[made_with])
        named = "would be read in place of the hub's model of that name. Run this in another directory."
        return f"The folder {hidden[0]} of the working directory {named}" if hidden else None
    if (reason := location_fault(layout, made_with)) is not None:
        return f"{reason} If you know better, {_NAME_THEM}."
    if _as_models(made_with) is None and not (Path(made_with).is_absolute() and Path(made_with).is_dir()):
        return f"A store may not choose code to run: {_NAME_THEM}."
    specs = read_encoder_specs(made_with)
    for path in (*_as_paths(made_with), *local_paths(specs)):
        if path.exists() and os.path.realpath(path) != str(path):
            return f"{path} goes through links, or is relative: {_NAME_THEM}."
    if foreign := foreign_factories(specs):
        return f"They are made by code of their own ({foreign[0]!r}), which a store may not choose: {_NAME_THEM}."
    return None


def _as_models(made_with: str) -> list[str] | None:
    """The models of ``kind=model,kind=model``; None where it is not of that form."""
    if "=" not in made_with or Path(made_with).exists():
        return None
    return [part.partition("=")[2].strip() for part in made_with.split(",")]


def _as_paths(made_with: str) -> list[Path]:
    """The named paths, whether they exist or not."""
    models = _as_models(made_with)
    return [Path(name).expanduser() for name in ([made_with] if models is None else models) if name]


def _folders(made_with: str) -> list[Path]:
    """The named paths on this machine; none for presets and models of a hub."""
    return [] if made_with in PRESETS else [path for path in _as_paths(made_with) if path.exists()]


def _inner_paths(made_with: str) -> list[Path]:
    """What the named encoders are read from; nothing if that is unknown."""
    try:
        return local_paths(read_encoder_specs(made_with))
    except (MmrecError, OSError):
        return []


def _is_within(path: Path, root: Path) -> bool:
    """Whether a path, links resolved, is a folder or in it. By file numbers: a folder can have several names."""
    real = Path(os.path.realpath(path))
    return root.exists() and any(place.samefile(root) for place in (real, *real.parents) if place.exists())


def _digest(made_with: str) -> str:
    found = {}
    for path in (*_as_paths(made_with), *local_paths(read_encoder_specs(made_with))):
        listed = path / ENCODERS_FILE
        if listed.is_file():
            found[str(listed)] = file_digest(listed)
        else:
            found[str(path)] = file_digest(path) if path.is_file() else directory_digest(path)
    return fingerprint(files=found, version=1)


def _record_place(layout: Layout, made_with: str) -> tuple[Path, dict[str, str]]:
    """Where the user's consent to encoders is recorded, and what it is for."""
    key = {"store": os.path.realpath(layout.root), "encoders": made_with}
    root = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    named = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return root / "mmrec" / "encoders" / f"{named}.json", key


def _is_recorded(layout: Layout, made_with: str) -> bool:
    place, key = _record_place(layout, made_with)
    try:
        kept = json.loads(place.read_bytes())
    except (OSError, ValueError):
        return False
    return bool(kept == {**key, "digest": _digest(made_with)})


def _record(layout: Layout, made_with: str) -> None:
    place, key = _record_place(layout, made_with)
    record = json.dumps({**key, "digest": _digest(made_with)}).encode()
    try:
        place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(place, record)
    except OSError as error:
        logging.getLogger(__name__).warning(
            "That the encoders in %s are yours could not be kept in %s (%s): they have to be named again next time.",
            made_with,
            place.parent,
            error.strerror,
        )
