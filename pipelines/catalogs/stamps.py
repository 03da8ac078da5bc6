"""Tux Paint's stamps: 961 pictures with English texts, sound effects and spoken descriptions, from a Debian package.

The package is fetched by apt, which checks its signature, without root and without touching the machine's own state.
"""

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from mmrec.errors import MmrecError
from pipelines.catalogs.writing import write_jsonl

__all__ = ["StampsUnavailableError", "fetch_stamps", "write_catalog"]

_PACKAGE: Final = "tuxpaint-stamps-default"
_ROOT: Final = Path("usr/share/tuxpaint/stamps")
_DEFAULT_CACHE: Final = Path(".cache/stamps")
_PATIENCE_S: Final = 600


class StampsUnavailableError(MmrecError):
    """The package cannot be had on this machine: no apt, no network, or no such package."""


def fetch_stamps(cache: Path = _DEFAULT_CACHE) -> Path:
    """Return the folder of stamps under `cache`, downloading 161 MB and unpacking it the first time.

    Where the machine's package lists do not know the package, fresh ones are fetched into a private folder.
    Raises StampsUnavailableError.
    """
    root = cache / _ROOT
    if root.is_dir():
        return root
    absent = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if absent:
        raise StampsUnavailableError(
            f"{' and '.join(absent)} not found: the stamps come from a Debian or Ubuntu machine."
        )
    cache.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=cache) as name:
        scratch = Path(name).absolute()
        package = _download(scratch)
        unpacked = scratch / "unpacked"
        _run(["dpkg-deb", "-x", str(package), str(unpacked)], scratch)
        if not (unpacked / _ROOT).is_dir():
            raise StampsUnavailableError(f"{package.name} holds no {_ROOT}.")
        try:
            (unpacked / "usr").rename(cache / "usr")
        except OSError:
            # Another process may have put it there meanwhile; a rename never leaves half of it.
            if not root.is_dir():
                raise
    return root


def _download(scratch: Path) -> Path:
    lists, archives = scratch / "lists" / "partial", scratch / "cache" / "archives" / "partial"
    lists.mkdir(parents=True)
    archives.mkdir(parents=True)
    # apt would drop to the user _apt when run by root, who cannot write here.
    apt = ["apt-get", "-qq", "-o", f"Dir::Cache={scratch / 'cache'}", "-o", "APT::Sandbox::User=root"]
    private = [*apt, "-o", f"Dir::State::Lists={scratch / 'lists'}"]
    try:
        _run([*apt, "download", _PACKAGE], scratch)
    except StampsUnavailableError:
        _run([*private, "update"], scratch)
        _run([*private, "download", _PACKAGE], scratch)
    packages = sorted(scratch.glob(f"{_PACKAGE}_*.deb"))
    if not packages:
        raise StampsUnavailableError(f"apt-get said it downloaded {_PACKAGE}, and left no file.")
    return packages[0]


def _run(command: Sequence[str], folder: Path) -> None:
    environment = {**os.environ, "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        done = subprocess.run(  # noqa: S603 - fixed commands
            command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_PATIENCE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StampsUnavailableError(f"{command[0]} did not finish: {error}.") from error
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise StampsUnavailableError(f"{command[0]} could not get {_PACKAGE}: {reason}")


def write_catalog(root: Path, out: Path) -> Path:
    """Write the stamps under `root` as JSON Lines, paths absolute. Returns `out`.

    Columns: id (``animals/birds/owl``), picture (PNG where there is one, else SVG), text (English), sound (the effect),
    spoken (the English description read aloud), category and subcategory (the two upper folders).
    Raises MmrecError where there are no stamps.
    """
    root = root.absolute()
    records = list(_stamps(root))
    if not records:
        raise MmrecError(f"There are no stamps under {root}; fetch_stamps says where they are.")
    return write_jsonl(records, out)


def _stamps(root: Path) -> Iterator[dict[str, object]]:
    pictures = {path.with_suffix("") for suffix in ("png", "svg") for path in root.rglob(f"*.{suffix}")}
    for stem in sorted(pictures):
        item_id = stem.relative_to(root).as_posix()
        folders = item_id.split("/")[:-1]
        yield {
            "id": item_id,
            "picture": _first(f"{stem}.png", f"{stem}.svg"),
            "text": _english(Path(f"{stem}.txt")),
            "sound": _first(f"{stem}.ogg", f"{stem}.wav"),
            "spoken": _first(f"{stem}_desc.ogg", f"{stem}_desc.wav"),
            "category": folders[0] if folders else None,
            "subcategory": folders[1] if len(folders) > 1 else None,
        }


def _first(*paths: str) -> str | None:
    return next((path for path in paths if Path(path).is_file()), None)


def _english(path: Path) -> str | None:
    """The first line is English; each later one begins with its language."""
    if not path.is_file():
        return None
    with path.open(encoding="utf-8-sig", errors="replace") as file:
        return file.readline().strip() or None
