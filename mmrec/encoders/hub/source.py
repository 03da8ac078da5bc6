"""Model files on this machine or from the hub: found by id or directory, pinned by commit or content digest."""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import TypeVar

from indexers.atomic import write_atomically
from mmrec.encoders.hub.vetting import vet_model_files
from mmrec.encoders.protocol import fingerprint
from mmrec.errors import EncoderError, UsageError

Parsed = TypeVar("Parsed")


def cached_json(make: Callable[[], dict[str, int | str]], **named_by: object) -> dict[str, int | str]:
    """Return a JSON object that is cached on disk under some key parts; it is made if it is missing or damaged."""
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


_DESCRIBING_SUFFIXES = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".vocab"}
_WEIGHT_SUFFIXES = {".safetensors", ".bin", ".pt", ".pth", ".npz"}
# What training leaves behind, and what other programs keep beside a model.
_LEFT_OUT = {"trainer_state.json", "training_args.bin", "optimizer.pt", "scheduler.pt", "rng_state.pth", "scaler.pt"}
_OTHER_FORMATS = {"onnx", "openvino", "coreml"}


def directory_digest(folder: Path) -> str:
    """Return the digest of a directory's configuration, tokenizer, preprocessor and weights.

    Weights count in whatever format they are: which of several a library reads is its own choice. Raises EncoderError
    for a directory without any such file, or one that cannot be read.
    """
    try:
        files = {str(path.relative_to(folder)): file_digest(path) for path in sorted(_deciding(folder))}
    except OSError as error:
        raise EncoderError(
            f"The model in {folder} cannot be read ({error.strerror}). Check its permissions."
        ) from error
    if not files:
        raise EncoderError(f"{folder} holds no model: neither a configuration nor weights. Name a model's directory.")
    return fingerprint(files=files)


def describing_files(folder: Path) -> list[Path]:
    """Return a directory's files of configuration, tokenizer and preprocessor: all that decides but the weights."""
    return [path for path in sorted(_deciding(folder)) if path.suffix in _DESCRIBING_SUFFIXES]


def file_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file, cached by device, inode, size and times."""

    def read() -> dict[str, int | str]:
        with path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    state = path.stat()
    stamp = [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    return str(cached_json(read, file=str(path.resolve()), stamp=stamp)["sha256"])


def _deciding(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.name not in _OTHER_FORMATS and not path.name.startswith("checkpoint-"):
                yield from _deciding(path)
        elif path.suffix in _DESCRIBING_SUFFIXES | _WEIGHT_SUFFIXES and path.name not in _LEFT_OUT:
            yield path


HUB_TIMEOUT_SECONDS = 10.0
_DESCRIBING = ("*.json", "*.txt", "*.model", "*.jinja", "*.tiktoken", "*.spm", "[0-9]_*/*")
_WEIGHTS = (("*.safetensors",), ("*.bin",), ("*.pt", "*.pth"))
_NOT_READ = ("onnx/*", "openvino/*", "coreml/*", "*.msgpack", "*.h5", "*.ot", "*.onnx", "training_args.bin")
_REPOSITORY = re.compile(r"[\w.-]+(/[\w.-]+)?")
_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_OFFLINE = "put its files into a directory and name that instead, or download it where there is a network"


@dataclass(frozen=True, slots=True)
class ModelFiles:
    """A model whose describing files are on this machine, from a repository of the hub or a directory.

    `pin` identifies exactly these files: the hub's commit, or the digest of a directory.
    """

    folder: Path
    pin: str
    repository: str | None = None

    def with_weights(self, kinds: Sequence[Sequence[str]] = _WEIGHTS) -> Path:
        """Return the folder with weights in it, fetched from the hub where they are not here yet.

        `kinds` are groups of patterns; the first group that matches a file is taken. Raises EncoderError.
        """
        for patterns in kinds:
            if _complete(self.folder, patterns):
                return self.folder
        if self.repository is None:
            shown = ", ".join(pattern for patterns in kinds for pattern in patterns)
            raise EncoderError(f"{self.folder} holds no whole weights ({shown}). Copy them there again.")
        for patterns in kinds:
            folder = _download(self.repository, self.pin, (*_DESCRIBING, *patterns))
            if _complete(folder, patterns):
                return folder
        raise EncoderError(f"{self.repository} has no weights that are read here: safetensors, or torch's own files.")


def find_model(model: str, revision: str | None) -> ModelFiles:
    """Return the files of a model: `model` is a directory, or a repository's id on the hub, as in ``owner/name``.

    Raises EncoderError if there is no such directory, the hub does not give the model, or its files ask for what they
    may not (`mmrec.encoders.hub.vetting`); UsageError for a revision of a directory, or a name that can be neither.
    """
    folder = Path(model).expanduser()
    if folder.is_dir():
        if revision is not None:
            raise UsageError(f"{model} is a directory, which has no revision {revision!r}. Leave revision out.")
        vet_model_files(folder.resolve())
        return ModelFiles(folder.resolve(), directory_digest(folder.resolve()))
    if not _REPOSITORY.fullmatch(model) or model.startswith("."):
        raise EncoderError(f"There is no directory {model!r}. Name a model's directory, or a hub's id as owner/name.")
    found = _on_this_machine(model, revision) or _download(model, revision, _DESCRIBING)
    vet_model_files(found)
    return ModelFiles(found, found.name, model)


def space_name(model: str, given: str | None) -> str:
    """Return the name of a model's space: as given, or made of its own. Raises UsageError for one that cannot be."""
    name = given if given is not None else re.sub(r"[^a-z0-9]+", "-", Path(model).name.lower()).strip("-")
    if not _NAME.fullmatch(name):
        raise UsageError(f"The space cannot be called {name!r}. Set name to lower case letters, digits and single '-'.")
    return name


def read_json(path: Path) -> dict[str, object]:
    """Return a JSON file's object, empty if there is no file. Raises EncoderError for one that is damaged."""
    return _parsed(path, dict)


def read_json_list(path: Path) -> list[object]:
    """Return a JSON file's list, empty if there is no file. Raises EncoderError for one that is damaged."""
    return _parsed(path, list)


def _parsed(path: Path, kind: type[Parsed]) -> Parsed:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return kind()
    except (OSError, ValueError) as error:
        raise EncoderError(f"{path} cannot be read ({error}). Copy or download the model again.") from error
    if not isinstance(content, kind):
        raise EncoderError(
            f"{path} holds no JSON {'object' if kind is dict else 'list'}. Copy or download the model again."
        )
    return content


def _on_this_machine(repository: str, revision: str | None) -> Path | None:
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (only for models from a hub)

    try:
        found = snapshot_download(repository, revision=revision, local_files_only=True, allow_patterns=["*.json"])
    except (OSError, ValueError):
        return None
    return Path(found) if any(Path(found).glob("*.json")) else None


def _download(repository: str, revision: str | None, patterns: Sequence[str]) -> Path:
    import httpx  # noqa: PLC0415
    from huggingface_hub import snapshot_download  # noqa: PLC0415

    try:
        found = snapshot_download(
            repository,
            revision=revision,
            allow_patterns=list(patterns),
            ignore_patterns=list(_NOT_READ),
            etag_timeout=HUB_TIMEOUT_SECONDS,
        )
    except (OSError, ValueError, httpx.HTTPError) as error:
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        at = f" at revision {revision}" if revision else ""
        raise EncoderError(f"The hub did not give the model {repository}{at}: {why} To go on, {_OFFLINE}.") from error
    return Path(found)


def _complete(folder: Path, patterns: Sequence[str]) -> bool:
    there = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    names = {name for name in there if not any(fnmatch(name, pattern) for pattern in _NOT_READ)}
    if not any(fnmatch(name, pattern) for name in names for pattern in patterns):
        return False
    indexes = [folder / name for name in names if name.endswith(".index.json")]
    shards = [read_json(path).get("weight_map") for path in indexes]
    needed = {str(shard) for one in shards if isinstance(one, dict) for shard in one.values()}
    return all(name in there for name in needed if any(fnmatch(name, pattern) for pattern in patterns))
