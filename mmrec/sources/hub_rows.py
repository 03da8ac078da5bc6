"""Rows of data sets of the Hugging Face hub, streamed, or of a local directory that `load_dataset` can read.

    hf:owner/name                                 the only configuration and split
    hf:owner/name?config=en&split=train&revision=1a2b3c
    hf:./directory?split=train                    Parquet, CSV, JSON, or images in folders by class

Images and audio stay the bytes they are, classes become their names, and no code of the data set is run.
"""

import importlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode

import pyarrow as pa

from mmrec.errors import SourceError, UsageError
from mmrec.sources.arrow_files import BATCH, rows_of_batch
from mmrec.sources.places import Place
from mmrec.sources.rows import Row
from mmrec.sources.storage import first_line
from mmrec.types import Reject

ROW: Final = "__row__"
"""The column of row numbers, from 1, for data sets that have no ids; they hold for one revision alone."""

_OPTIONS: Final = ("config", "split", "revision")


@dataclass(frozen=True, slots=True)
class HubReader:
    """Rows of one split."""

    address: str
    folder: Place
    types: Mapping[str, pa.DataType]
    count: int | None
    dataset: Any = field(repr=False)

    def rows(self, names: Sequence[str]) -> Iterator[Row | Reject]:
        """Stream these columns. Raises SourceError if the stream breaks off."""
        own = [name for name in names if name != ROW]
        dataset = self.dataset.select_columns(own or [next(name for name in self.types if name != ROW)])
        classes = _classes(dataset)
        first = 0
        tables = dataset.iter(BATCH)
        while (table := self._next(tables)) is not None:
            for row in rows_of_batch(table, first + 1, (self.address, self.address), first):
                yield _with_class_names(row, classes)
            first += table.num_rows

    def _next(self, tables: Iterator[pa.Table]) -> pa.Table | None:
        try:
            return next(tables, None)
        except Exception as error:
            raise SourceError(
                f"Reading {self.address} stopped: {first_line(error)}. What was encoded is kept: run the same "
                "command again."
            ) from error


def is_hub(address: str) -> bool:
    """Whether an address names a hub data set."""
    return address.startswith("hf:")


def open_hub(address: str) -> HubReader:
    """Open one split of a data set. Raises UsageError if it, its configuration or its split is not there."""
    name, options = _parsed(address)
    split, dataset = _split_of(_loaded(address), address, options.get("split"))
    schema = _schema_of(dataset, address)
    classes = _classes(dataset)
    types = {n: pa.string() if n in classes else t for n, t in zip(schema.names, schema.types, strict=True)}
    revision = f"@{options['revision']}" if "revision" in options else ""
    folder = Place(str(Path(name).absolute())) if _is_path(name) else Place(f"hf://datasets/{name}{revision}")
    about = (dataset.info.splits or {}).get(split)
    shown = urlencode({**options, "split": split})
    given = str(folder) if _is_path(name) else name
    return HubReader(
        f"hf:{given}?{shown}",
        folder,
        {ROW: pa.int64(), **types},
        getattr(about, "num_examples", None) or None,
        dataset,
    )


def cell_of_hub(address: str, row: int, column: str) -> object:
    """Return one cell; `row` counts from 0. Streams past the rows before it. Raises IndexError if there is none."""
    _, dataset = _split_of(_loaded(address), address, _parsed(address)[1].get("split"))
    for table in dataset.select_columns([column]).skip(row).iter(1):
        return table.column(column)[0].as_py()
    raise IndexError(row)


@lru_cache(maxsize=4)
def _loaded(address: str) -> Any:  # noqa: ANN401 - the library has no types
    name, options = _parsed(address)
    datasets = importlib.import_module("datasets")
    try:
        return datasets.load_dataset(
            str(Path(name).absolute()) if _is_path(name) else name,
            options.get("config"),
            revision=options.get("revision"),
            streaming=True,
        )
    except Exception as error:
        raise UsageError(f"The data set {address} cannot be opened: {first_line(error)}.") from error


def _split_of(splits: Any, address: str, wanted: str | None) -> tuple[str, Any]:  # noqa: ANN401
    if wanted is None and len(splits) == 1:
        wanted = next(iter(splits))
    if wanted is None or wanted not in splits:
        trouble = "has several splits" if wanted is None else f"has no split {wanted!r}"
        joint = "&" if "?" in address else "?"
        example = address.partition("split=")[0].rstrip("?&") if wanted else address
        raise UsageError(
            f"{address} {trouble}: choose {', '.join(splits)}, as in {example}{joint}split={next(iter(splits))}."
        )
    return wanted, _undecoded(splits[wanted]).with_format("arrow")


def _undecoded(dataset: Any) -> Any:  # noqa: ANN401
    datasets = importlib.import_module("datasets")
    for name, feature in (dataset.features or {}).items():
        if isinstance(feature, datasets.Image | datasets.Audio | datasets.Video):
            dataset = dataset.cast_column(name, type(feature)(decode=False))
    return dataset


def _schema_of(dataset: Any, address: str) -> pa.Schema:  # noqa: ANN401
    try:
        if dataset.features is not None:
            return dataset.features.arrow_schema
        first = next(iter(dataset.iter(1000)), None)
    except Exception as error:
        raise UsageError(f"The data set {address} cannot be read: {first_line(error)}.") from error
    if first is None:
        raise UsageError(f"The data set {address} has no rows.")
    return first.schema


def _classes(dataset: Any) -> dict[str, list[str]]:  # noqa: ANN401
    return {name: list(kind.names) for name, kind in (dataset.features or {}).items() if getattr(kind, "names", None)}


def _with_class_names(row: Row, classes: Mapping[str, Sequence[str]]) -> Row:
    values = dict(row.values)
    for name, names in classes.items():
        number = values.get(name)
        if isinstance(number, int):
            values[name] = names[number] if 0 <= number < len(names) else None
    return replace(row, values={ROW: row.number, **values})


def _parsed(address: str) -> tuple[str, dict[str, str]]:
    name, _, query = address.removeprefix("hf:").removeprefix("//datasets/").partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = [key for key in options if key not in _OPTIONS]
    if unknown or not name or not all(options.values()):
        trouble = f"the option {unknown[0]!r}" if unknown else "no name" if not name else "an option without a value"
        raise UsageError(
            f"{address} has {trouble}; write hf:OWNER/NAME, and after it ?config=...&split=...&revision=... as needed."
        )
    return name, options


def _is_path(name: str) -> bool:
    return name.startswith(("/", "./", "../"))
