"""The digest of a model's directory: over every file that decides a vector, whatever it is called by."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from mmrec.encoders.fingerprints import fingerprint
from mmrec.encoders.hub.notes import noted
from mmrec.errors import EncoderError

__all__ = ["describing_files", "directory_digest", "file_digest"]

_DESCRIBING = {".json", ".txt", ".model", ".jinja", ".tiktoken", ".spm", ".vocab"}
_WEIGHTS = {".safetensors", ".bin", ".pt", ".pth", ".npz"}
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
    return [path for path in sorted(_deciding(folder)) if path.suffix in _DESCRIBING]


def file_digest(path: Path) -> str:
    """Return the hex SHA-256 of a file, read again only if its size, number or a time of change is another."""

    def read() -> dict[str, int | str]:
        with path.open("rb") as file:
            return {"sha256": hashlib.file_digest(file, "sha256").hexdigest()}

    state = path.stat()
    stamp = [state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns]
    return str(noted(read, file=str(path.resolve()), stamp=stamp)["sha256"])


def _deciding(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.name.startswith("."):
            continue
        if path.is_dir():
            if path.name not in _OTHER_FORMATS and not path.name.startswith("checkpoint-"):
                yield from _deciding(path)
        elif path.suffix in _DESCRIBING | _WEIGHTS and path.name not in _LEFT_OUT:
            yield path
