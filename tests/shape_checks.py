"""The type checker that `--jaxtyping-packages` in pyproject.toml applies to every function while tests run."""

from collections.abc import Callable
from typing import Any, BinaryIO, Self

from beartype import BeartypeConf, beartype

__all__ = ["checker"]

# An int is welcome where a float is annotated, as it is for mypy.
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def checker(function: Callable[..., Any]) -> Callable[..., Any]:
    """Check arguments and results of a function at each call, shapes included.

    Self is let through: methods are checked one by one, and beartype knows what Self is only for a class as a whole.
    BinaryIO is let through as well: beartype remembers its verdict by class, and a BufferedReader over bytes in memory,
    which has no name, would have it refuse those over files too.
    """
    hints = function.__annotations__
    function.__annotations__ = {name: Any if hint in {Self, BinaryIO} else hint for name, hint in hints.items()}
    return _check(function)
