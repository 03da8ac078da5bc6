"""Real catalogs for the demo and the benchmarks: Tux Paint's stamps, and the films of MovieLens 100K."""

import csv
import json
import os
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from indexers.atomic import atomic_file
from mmrec.errors import MmrecError, UsageError


def write_jsonl(records: Iterable[Mapping[str, object]], out: Path) -> Path:
    """Write one object a line, atomically; folders above are made. Returns `out`."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(out) as file:
        file.writelines(json.dumps(record, ensure_ascii=False).encode() + b"\n" for record in records)
    return out


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


def write_stamps(root: Path, out: Path) -> Path:
    """Write the stamps under `root` as JSON Lines, paths absolute. Returns `out`.

    Columns: id (``animals/birds/owl``), picture (PNG where there is one, else SVG), text (English), sound (the effect),
    spoken (the English description read aloud), category and subcategory (the two upper folders).
    Raises MmrecError where there are no stamps.
    """
    root = root.absolute()
    records = list(_stamps(root))
    if not records:
        raise MmrecError(f"There are no stamps under {root}; run mmrec.fetch_stamps() first.")
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


_FOLDER: Final = Path("dataset_example/ml-100k")


def ml_100k_folder() -> Path:
    """Return the folder with ml-100k.item, .inter and .user. Raises UsageError where `recbole` is not installed."""
    package = find_spec("recbole")
    for place in (package.submodule_search_locations or []) if package else []:
        if (folder := Path(place) / _FOLDER).is_dir():
            return folder
    raise UsageError("ml-100k comes inside the package recbole 1.2.1: run `pip install --no-deps recbole==1.2.1`.")


def write_films(out: Path) -> Path:
    """Write the films as JSON Lines with columns id, title, year and genres. Returns `out`. Raises UsageError."""
    return write_jsonl(_films(ml_100k_folder() / "ml-100k.item"), out)


def _films(path: Path) -> Iterator[dict[str, object]]:
    with path.open(encoding="utf-8", newline="") as file:
        lines = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        next(lines)
        for item_id, title, year, genres in lines:
            yield {
                "id": item_id,
                "title": title,
                "year": int(year) if year.isdigit() else None,
                "genres": ", ".join(genres.split()),
            }
