"""Parse option values: weighted query parts, column lists, ids, types, modality weights."""

import csv
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from mmrec.errors import UsageError
from mmrec.query import Part, PartKind
from mmrec.types import Modality

_NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_WEIGHTED = re.compile(rf"(?P<value>.+)\^(?P<weight>{_NUMBER})", re.DOTALL)
_MODALITIES = ", ".join(Modality)


def parse_weighted(given: str) -> tuple[str, float]:
    """Split ``red boat^0.7`` into its value and weight.

    What follows the last ``^`` is a weight only if it is a number; otherwise all of it is the value, with weight 1.
    A value that itself ends in ``^`` and a number is written with ``^1`` after it. Raises UsageError where nothing is
    left to search for, or the weight is beyond the range of floats.
    """
    match = _WEIGHTED.fullmatch(given)
    value, weight = (match["value"], float(match["weight"])) if match else (given, 1.0)
    if not value.strip():
        raise UsageError(f"Nothing to search for in {given!r}: write a value, with a weight after ^ if it needs one.")
    if not math.isfinite(weight):
        raise UsageError(f"The weight of {given!r} is too large: give a number such as 0.7 or -1.")
    return value, weight


def parse_weights(given: str) -> Mapping[Modality, float]:
    """Read ``text=1,image=.5``; a modality that is not named has weight 1. Raises UsageError.

    ``auto`` gives an empty mapping: weights are then measured from the agreement with the texts.
    """
    if given.strip() == "auto":
        return {}
    weights = dict.fromkeys(Modality, 1.0)
    seen: set[Modality] = set()
    for entry in given.split(","):
        name, _, number = (part.strip() for part in entry.partition("="))
        modality = _modality(name, given)
        if modality in seen:
            raise UsageError(f"{modality} has two weights in {given!r}: name each modality once.")
        seen.add(modality)
        weights[modality] = _weight(number, entry)
    if not any(weights.values()):
        raise UsageError(f"All weights in {given!r} are 0, so nothing would be indexed: give one modality a weight.")
    return weights


def parse_against(given: str | None) -> frozenset[Modality] | None:
    """Read ``text,image``: the modalities of the items that count; None means all. Raises UsageError."""
    if given is None:
        return None
    return frozenset(_modality(name.strip(), given) for name in given.split(","))


def parse_columns(given: Sequence[str]) -> tuple[str, ...]:
    """Read columns, each given alone or in a list ``title,description``, in the order given. Raises UsageError."""
    columns = [name.strip() for entry in given for name in entry.split(",")]
    if not all(columns):
        raise UsageError(f"A column without a name in {','.join(given)!r}: write them as title,description.")
    doubled = sorted({name for name in columns if columns.count(name) > 1})
    if doubled:
        raise UsageError(f"Column {doubled[0]!r} is named twice for one purpose: name it once.")
    return tuple(columns)


def parse_ids(given: Sequence[str]) -> tuple[str, ...]:
    """Read ids, each given alone or in a list ``id1,id2``; one with a comma in it goes in quotes. Raises UsageError."""
    ids = [name.strip() for entry in given for name in next(csv.reader([entry], skipinitialspace=True), [""])]
    if not all(ids):
        raise UsageError(f"An id is missing in {','.join(given)!r}: write them as id1,id2.")
    return tuple(ids)


def parse_modality(given: str | None) -> Modality | None:
    """Read one modality; None where none is given. Raises UsageError."""
    return None if given is None else _modality(given.strip(), given)


def parse_types(given: Sequence[str]) -> Mapping[str, str]:
    """Read ``year=integer,price=number``: the type of each column. Raises UsageError."""
    types: dict[str, str] = {}
    for entry in (one for several in given for one in several.split(",")):
        column, _, kind = (part.strip() for part in entry.rpartition("="))
        if not column or not kind:
            raise UsageError(f"{entry!r} gives no column a type: write --types year=integer,price=number.")
        if column in types:
            raise UsageError(f"Column {column!r} has two types: give it one.")
        types[column] = kind
    return types


def parse_vector_format(given: str) -> Literal["float16", "float32"]:
    """Read the number format of exported vectors. Raises UsageError."""
    if given not in {"float16", "float32"}:
        raise UsageError(f"Vectors are not stored as {given!r}: choose float16 or float32.")
    return "float32" if given == "float32" else "float16"


def _modality(name: str, given: str) -> Modality:
    if name not in set(Modality):
        raise UsageError(f"{name!r} in {given!r} is no modality: choose among {_MODALITIES}.")
    return Modality(name)


def _weight(number: str, entry: str) -> float:
    weight = float(number) if re.fullmatch(_NUMBER, number) else math.nan
    if not 0 <= weight < math.inf:
        raise UsageError(f"{entry.strip()!r} needs a weight of 0 or more after =, as in text=1,image=.5.")
    return weight


def parse_parts(given: Mapping[PartKind, Sequence[str] | None]) -> tuple[Part, ...]:
    """Read the parts of a query. Raises UsageError where there are none, or an image or audio file does not exist."""
    parts = tuple(Part(kind, *parse_weighted(value)) for kind, values in given.items() for value in values or ())
    if not parts:
        raise UsageError("Nothing to search for: give --text, --image, --audio or --item, each as often as you like.")
    for part in parts:
        path = str(part.value)
        is_path = part.kind in {"image", "audio"} and "://" not in path and "#" not in path
        if is_path and not Path(path).is_file():
            raise UsageError(f"--{part.kind}: there is no file {part.value!r}. Give the path of a file.")
    return parts
