"""Load networks of hub models: once, without remote code, with a library's errors explained."""

import contextlib
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from threading import RLock
from typing import Any, TypeVar

import torch

from mmrec.encoders.hub.source import read_json
from mmrec.errors import EncoderError, MmrecError

T = TypeVar("T")

# One lock for all: what is made here imports large packages, which two threads must not do at a time.
_MAKING = RLock()


class once(cached_property[T]):  # noqa: N801 -- a decorator, named as those are
    """`functools.cached_property` that decoding threads may share."""

    def __get__(self, instance: Any, owner: type[Any] | None = None) -> Any:  # noqa: ANN401
        """Return the attribute. Called until it is made; from then on it is an attribute like any other."""
        with _MAKING:
            return super().__get__(instance, owner)


@contextlib.contextmanager
def explain_errors(what: str, advice: str) -> Iterator[None]:
    """Raise EncoderError if a library raises: "`what` cannot be loaded", its first line, and the advice."""
    try:
        yield
    except (MmrecError, MemoryError):
        raise
    except Exception as error:
        # Damaged files raise many library-specific exception types.
        raise EncoderError(f"{what} cannot be loaded: {_first_line(error)} {advice}") from error


def _first_line(error: Exception) -> str:
    if type(error).__name__ == "UnpicklingError":  # its own words advise to run the code in the file
        return "the file holds more than tensors, or is damaged; code in it is never run."
    line = (str(error).strip().splitlines() or [""])[0][:300].strip()
    return f"{line or type(error).__name__}{'' if line.endswith(('.', '!', ':')) else '.'}"


# Unused heads: `pooling` chooses what pools the states.
_UNUSED = ("pooler.", "embeddings.mask_token", "mask_token", "masked_spec_embed")


def load_config(folder: Path) -> Any:  # noqa: ANN401
    """Return the transformers configuration of a model. Raises EncoderError if it cannot be used."""
    from transformers import AutoConfig  # noqa: PLC0415 (takes seconds)

    found = read_json(folder / "config.json")
    if not found:
        raise EncoderError(f"{folder} has no config.json, so it is no transformers model. Name another encoder for it.")
    return load_part(AutoConfig, folder)


def load_part(kind: Any, folder: Path, **settings: object) -> Any:  # noqa: ANN401
    """Return what `kind` (AutoTokenizer, AutoImageProcessor) reads from a folder. Raises EncoderError."""
    with _reading(folder):
        return kind.from_pretrained(folder, **{**settings, "trust_remote_code": False, "local_files_only": True})


def load_network(
    kind: Any,  # noqa: ANN401
    folder: Path,
    device: torch.device,
    dtype: torch.dtype,
) -> torch.nn.Module:
    """Return the network that `kind` (AutoModel and its like) reads from a folder, ready to encode.

    Raises EncoderError if files or weights are missing, or if the model would need code of its own.
    """
    with quiet(), _reading(folder):
        network, found = kind.from_pretrained(
            folder,
            trust_remote_code=False,
            local_files_only=True,
            weights_only=True,
            dtype=torch.float32,
            output_loading_info=True,
        )
    missing = sorted(name for name in found["missing_keys"] if not any(part in name for part in _UNUSED))
    if missing:
        raise EncoderError(
            f"The weights in {folder} lack {len(missing)} of the network's tensors, {missing[0]} first. They belong to "
            "another kind of model, or are damaged: copy them again, or name the encoder that fits them."
        )
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if name in found["missing_keys"]:
                value.zero_()  # unused and random; a network that is saved again must be reproducible
    loaded: torch.nn.Module = network.to(device, dtype).eval()
    return loaded


def features_of(found: Any) -> torch.Tensor:  # noqa: ANN401
    """Return the vectors of what a network's ``get_..._features`` gave: themselves, or an output that holds them."""
    vectors: torch.Tensor = found if isinstance(found, torch.Tensor) else found.pooler_output
    return vectors


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep transformers' progress bars and reports of loading off the terminal."""
    import transformers  # noqa: PLC0415

    logging: Any = transformers.utils.logging
    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def _reading(folder: Path) -> contextlib.AbstractContextManager[None]:
    return explain_errors(
        f"The model in {folder}",
        "See that the directory holds all of the model's files and that this transformers knows its kind; a model that "
        "needs code of its own is never run.",
    )
