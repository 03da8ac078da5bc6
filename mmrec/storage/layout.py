"""The files and folders of a store directory."""

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from mmrec.errors import MissingStoreError, StoreError, UsageError
from mmrec.files import write_atomically
from mmrec.storage.containment import check_no_links, is_plain_name, sweep_temporaries
from mmrec.storage.lock import file_lock
from mmrec.types import Space

FORMAT_VERSION = 1

EVENT_FILES = ("events.db", "events.db-wal", "events.db-shm", "events.db-journal")
"""The event log, and what SQLite keeps beside it."""

SET_ASIDE = re.compile(r".+\.[0-9a-f]{32}(\.keep)?", re.DOTALL)
"""Names of generations and tables in the folder `damaged`."""


class _Inside:
    """A path in a store's directory."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __get__(self, layout: "Layout", owner: type | None = None) -> Path:
        return layout.root / self._name


@dataclass(frozen=True, slots=True)
class Layout:
    """Paths of a store. Nothing is opened.

    `lock` is held around each commit, `job_lock` by the one job that indexes a catalog, `encode_lock` by an upsert
    while it encodes. The content of `staging`, what a running job has not committed, and of `damaged`, what a repair
    set aside, may be deleted. `events` is the event log, unless another database is used.
    """

    root: Path
    items = _Inside("items.lance")
    quarantine = _Inside("quarantine.lance")
    events = _Inside("events.db")
    generations = _Inside("generations")
    current = _Inside("CURRENT")
    lock = _Inside("commit.lock")
    job_lock = _Inside("job.lock")
    encode_lock = _Inside("encode.lock")
    staging = _Inside("staging")
    damaged = _Inside("damaged")
    _about = _Inside("store.json")

    def vectors(self, space: Space) -> Path:
        """Table of one space's vectors; a fine-tuned encoder gets a table of its own.

        Raises StoreError where a store names a space such that its table would lie elsewhere.
        """
        name = f"{space.name}-{space.fingerprint[:12]}.lance"
        if not is_plain_name(name):
            raise StoreError(
                f"{self.root} names a space {space.name!r}, which is no name of a table; do not use this store"
            )
        return self.root / "vectors" / name

    def create(self) -> None:
        """Make the directory a store, if it is none. Raises UsageError for a folder with other files."""
        if os.path.lexists(self._about):
            self.check()
            return
        if os.path.lexists(self.root) and (not self.root.is_dir() or not self._is_empty_or_abandoned()):
            msg = f"{self.root} exists and is not a mmrec store; name a new or empty directory"
            raise UsageError(msg)
        self.root.mkdir(parents=True, exist_ok=True)
        check_no_links(self.root)
        with file_lock(self.lock):
            if not self._about.exists():
                self.write_about()
            sweep_temporaries(self.root, self.root)

    def write_about(self) -> None:
        """Write that this is a store of this format. Hold the commit lock."""
        write_atomically(self._about, json.dumps({"format": FORMAT_VERSION}).encode())

    def check_links(self) -> None:
        """Raise LinkError where a link or special file lies in the store; other folders are not scanned."""
        if any(map(os.path.lexists, (self._about, self.items, self.generations))):
            check_no_links(self.root)

    def check(self) -> None:
        """Raise MissingStoreError without a store, LinkError for a link in it, StoreError for another version."""
        self.check_links()
        try:
            found = json.loads(self._about.read_bytes())["format"]
        except FileNotFoundError as error:
            msg = f"{self.root} is not a mmrec store; make one with `mmrec index SOURCE {self.root}`"
            raise MissingStoreError(msg) from error
        except NotADirectoryError as error:
            msg = f"{self.root} is a file, and a store is a directory; name another place"
            raise MissingStoreError(msg) from error
        except PermissionError as error:
            msg = f"{self._about} may not be read by this user; ask its owner for permission"
            raise StoreError(msg) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            msg = f"{self._about} cannot be read ({error}); restore it from a backup of the store"
            raise StoreError(msg) from error
        if found != FORMAT_VERSION:
            raise StoreError(
                f"{self.root} has store format {found}, this mmrec reads {FORMAT_VERSION}; {_upgrade_advice(found)}"
            )

    def _is_empty_or_abandoned(self) -> bool:
        """Whether the folder is empty, or was left by a process killed while creating the store."""
        return all(path == self.lock or path.name.startswith(f".{self._about.name}.") for path in self.root.iterdir())


def _upgrade_advice(found: object) -> str:
    """What to do with a store of another format; it is left as it is."""
    if type(found) is int and found > FORMAT_VERSION:
        return "it was written by a newer mmrec: install that one to read it. Nothing was changed"
    if type(found) is int and found > 0:
        return (
            "it was written by an older mmrec: index its source again into a new store, or export its vectors with the "
            "older one and bring them here with `mmrec import-vectors`. Nothing was changed"
        )
    return "that is no version: store.json is damaged, so restore it from a backup of the store"
