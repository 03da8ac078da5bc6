"""Errors of libraries that read a stranger's files, in our words: what was read, what it said, what to do next."""

import contextlib
from collections.abc import Iterator

from mmrec.errors import EncoderError, MmrecError

__all__ = ["explained"]


@contextlib.contextmanager
def explained(what: str, advice: str) -> Iterator[None]:
    """Raise EncoderError where a library raises: "`what` cannot be loaded", its first line, and the advice."""
    try:
        yield
    except (MmrecError, MemoryError):
        raise
    except Exception as error:
        # Whatever it is: a damaged file makes libraries raise errors of their parsers, their archives and their own.
        raise EncoderError(f"{what} cannot be loaded: {_first_line(error)} {advice}") from error


def _first_line(error: Exception) -> str:
    if type(error).__name__ == "UnpicklingError":  # its own words advise to run the code in the file
        return "the file holds more than tensors, or is damaged; code in it is never run."
    said = (str(error).strip().splitlines() or [""])[0][:300].strip()
    return f"{said or type(error).__name__}{'' if said.endswith(('.', '!', ':')) else '.'}"
