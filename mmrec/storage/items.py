"""The item table and its SQL filters. A row's Lance row id is its row number in indexes; updates keep it."""

import re
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64, UInt64

from mmrec.errors import DamagedError, UsageError
from mmrec.storage.damage import reason_of
from mmrec.storage.stored_item import RESERVED, StoredField, StoredItem, as_fields, as_item
from mmrec.storage.tables import open_table, quoted, value_filters
from mmrec.storage.vectors import key_column
from mmrec.types import Modality

_TOKEN: Final = re.compile(
    r"""(?P<text>'(?:[^']|'')*')|(?P<double>"(?:[^"]|"")*")|(?P<name>`[^`]*`)"""
    r"""|(?P<comment>--|/\*|\#)|(?P<end>;)|(?P<open>\()|(?P<close>\))|(?P<quote>['"`])|(?P<place>[$?])""",
)
_REASONS: Final = {
    "end": "a ; ends it, and what follows would be left out. Write one condition",
    "comment": "a comment begins with {token}, and what follows would be left out",
    "quote": "the quote {token} is opened and not closed; write texts as 'O''Neil'",
    "place": "{token} stands for a value that is not given; write the value itself",
}
_COMPARED: Final = (
    r"(?P<how>=|!=|<>|<=|>=|<|>|(?:not\s+)?in\s*\(|(?:not\s+)?i?like\b|between\b)\s*"
    r"(?P<value>'(?:[^']|'')*'|\d[\d.]*|true\b|false\b)"
)
_MOST_NAMED: Final = 30
_NUMBERS: Final = ("whole numbers", "numbers")
_KINDS: Final = (
    (pa.types.is_boolean, "true or false", "= true"),
    (pa.types.is_integer, "whole numbers", "= 1"),
    (pa.types.is_floating, "numbers", "= 2.5"),
    (pa.types.is_timestamp, "times", "= timestamp '2024-01-31 12:00:00'"),
    (pa.types.is_date, "dates", "= date '2024-01-31'"),
    (pa.types.is_list, "lists", "array_has({name}, 'drama')"),
    (pa.types.is_string, "texts", "= 'drama'"),
)


def as_condition(where: str, columns: Sequence[str]) -> str:
    """Return a condition for the tables, in brackets.

    Raises UsageError, with the reason, where it is more than one condition, or part of it would be ignored.
    """
    depth = 0
    for found in _TOKEN.finditer(where):
        what, token = found.lastgroup or "", found[0]
        if what in _REASONS:
            raise _refused(where, _REASONS[what].format(token=token))
        if what == "double" and token[1:-1] in columns:
            raise _refused(where, f"{token} is a text, not the column; write the column as `{token[1:-1]}`")
        depth += (what == "open") - (what == "close")
        if depth < 0:
            break
    if depth:
        raise _refused(where, f"a bracket is {'opened and not closed' if depth > 0 else 'closed that was not opened'}")
    return f"({where})"


def typed_names(schema: pa.Schema) -> str:
    """List columns with their types."""
    some = ", ".join(f"{name} ({_kind(schema.field(name).type)[0]})" for name in schema.names[:_MOST_NAMED])
    return some if len(schema) <= _MOST_NAMED else f"{some} and {len(schema) - _MOST_NAMED:,} more"


def mismatch(where: str, schema: pa.Schema) -> str | None:
    """Say which column is compared with a value of another type, and how to write it; None where there is none."""
    for name in sorted(schema.names, key=len, reverse=True):
        dtype = schema.field(name).type
        plain = rf"|(?<![\w`']){re.escape(name)}(?![\w`'])" if name.isidentifier() else ""
        found = re.search(rf"(?:`{re.escape(name)}`{plain})\s*{_COMPARED}", where, re.IGNORECASE)
        if found is None or found["value"].startswith("'") == bool(pa.types.is_string(dtype)):
            continue
        (kind, example), value = _kind(dtype), found["value"]
        shown = name if name.isidentifier() else f"`{name}`"
        example = example.format(name=shown) if "{name}" in example else f"{shown} {example}"
        bare = value.strip("'")
        if kind in _NUMBERS and found["how"][0] in "=!<>" and re.fullmatch(r"-?\d+(\.\d+)?", bare):
            example = f"{shown} {found['how']} {bare}"
        return f"column {name!r} holds {kind}, and {value} is {_value_kind(value)}; write it as in: {example}"
    return None


def _refused(where: str, reason: str) -> UsageError:
    return UsageError(f"the filter {where!r} cannot be used: {reason}")


def _kind(dtype: pa.DataType) -> tuple[str, str]:
    return next(((kind, example) for is_it, kind, example in _KINDS if is_it(dtype)), (str(dtype), "is not null"))


def _value_kind(value: str) -> str:
    return "a text" if value.startswith("'") else "true or false" if value.lower() in {"true", "false"} else "a number"


class ItemTable:
    """A snapshot of the items; later commits are not seen until it is opened again."""

    def __init__(self, path: Path, version: int | None = None) -> None:
        self._table = open_table(path, version)

    @property
    def version(self) -> int:
        """Version of the snapshot, 0 before the first commit."""
        return self._table.version if self._table is not None else 0

    @property
    def latest_version(self) -> int:
        """Version of the newest commit by anyone."""
        return self._table.latest_version if self._table is not None else 0

    def __len__(self) -> int:
        """Number of items."""
        return self._table.count_rows() if self._table is not None else 0

    @property
    def metadata_schema(self) -> pa.Schema:
        """The columns that `where` can name beside ``id``."""
        return pa.schema([f for f in self._table.schema if f.name not in RESERVED] if self._table is not None else [])

    def scan(
        self,
        where: str | None = None,
        size: int | None = 4096,
        limit: int | None = None,
        columns: list[str] | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Columns, by default all, of all items or of those that a SQL condition selects, with ``_rowid``, in batches.

        Raises UsageError where the condition cannot be used.
        """
        if self._table is None:
            return
        condition = None if where is None else as_condition(where, ["id", *self.metadata_schema.names])
        options = {"columns": columns, "filter": condition, "batch_size": size, "limit": limit}
        try:
            yield from self._table.scanner(**options, with_row_id=True).to_batches()
        except DamagedError as error:
            self._check_filter(where, error)
            raise

    def rows(self, where: str | None = None) -> Int64[np.ndarray, " n"]:
        """Row numbers, ascending, of all items or of those that a SQL condition selects. Raises UsageError."""
        found = [_row_numbers(batch) for batch in self.scan(where, None, columns=[])]
        # They mostly come in order, which a stable sort makes use of: ten times as fast for a million.
        return np.sort(np.concatenate([np.empty(0, dtype=np.int64), *found]), kind="stable")

    def changed_since(self, version: int) -> Int64[np.ndarray, " n"]:
        """Row numbers of items added or edited after a version."""
        return self.rows(_after(version))

    def by_id(self, ids: Sequence[str]) -> dict[str, StoredItem]:
        """The items of these ids, as far as they exist."""
        return {row["id"]: as_item(row) for row in self._with_values("id", ids)}

    def rows_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Row numbers of these ids, as far as they exist."""
        return {row["id"]: row["_rowid"] for row in self._with_values("id", ids, ["id"])}

    def by_row(self, rows: Sequence[int]) -> dict[int, StoredItem]:
        """The items of these row numbers, as far as they exist."""
        return {row["_rowid"]: as_item(row) for row in self._with_values("_rowid", [int(row) for row in rows])}

    def modalities(self) -> frozenset[Modality]:
        """The modalities of which any item has a content that is not in quarantine."""
        there: set[str] = set()
        for batch in self.scan(size=None, columns=["mmrec_fields"]):
            fields = batch.column("mmrec_fields").flatten()
            there.update(fields.field("modality").filter(fields.field("hash").is_valid()).unique().to_pylist())
        return frozenset(Modality(name) for name in there)

    def batches(
        self, wanted: Callable[[Int64[np.ndarray, " n"]], Bool[np.ndarray, " n"]] | None = None, size: int = 4096
    ) -> Iterator[tuple[Int64[np.ndarray, " m"], list[tuple[StoredField, ...]]]]:
        """Row numbers and fields of all items, or of those whose row numbers are `wanted`, in batches."""
        for batch in self.scan(size=size, columns=["mmrec_fields"]):
            rows = _row_numbers(batch)
            chosen = np.ones(len(rows), dtype=bool) if wanted is None else wanted(rows)
            if chosen.any():
                yield rows[chosen], _fields(batch, chosen)

    def content_keys(
        self, modality: Modality, size: int = 65536
    ) -> Iterator[tuple[Int64[np.ndarray, " c"], UInt64[np.ndarray, "c 2"]]]:
        """Row number and key of each content of a modality that is not in quarantine, in batches."""
        for batch in self.scan(size=size, columns=["mmrec_fields"]):
            column = batch.column("mmrec_fields")
            fields = column.flatten()
            hashes = fields.field("hash")
            wanted = pc.and_(hashes.is_valid(), pc.equal(fields.field("modality"), str(modality)))
            owners = pc.list_parent_indices(column).filter(wanted).to_numpy()
            yield _row_numbers(batch)[owners], key_column(hashes.filter(wanted))

    def fields_of_ids(
        self, wanted: Callable[[list[str]], Bool[np.ndarray, " n"]], size: int = 4096
    ) -> Iterator[list[tuple[StoredField, ...]]]:
        """Fields of the items whose ids are `wanted`, in batches."""
        for batch in self.scan(size=size, columns=["id", "mmrec_fields"]):
            yield _fields(batch, wanted(batch.column("id").to_pylist()))

    def ids(self, where: str | None = None, size: int = 65536, limit: int | None = None) -> Iterator[list[str]]:
        """All ids, or those of the items that a SQL condition selects, in batches."""
        for batch in self.scan(where, size, limit, ["id"]):
            yield batch.column("id").to_pylist()

    def id_rows(self, size: int = 65536) -> Iterator[pa.RecordBatch]:
        """Columns ``id`` and ``_rowid`` of all items, in batches."""
        return self.scan(size=size, columns=["id"])

    def ids_changed_since(self, version: int) -> set[str]:
        """Ids of items added or edited after a version."""
        return {name for batch in self.ids(_after(version)) for name in batch}

    def digests_changed_since(self, version: int) -> Iterator[dict[str, bytes]]:
        """Digests of items added or edited after a version, by id, in batches."""
        for batch in self.scan(_after(version), columns=["id", "mmrec_digest"]):
            yield dict(zip(batch.column(0).to_pylist(), batch.column(1).to_pylist(), strict=True))

    def _with_values(
        self, column: str, values: Sequence[Any], columns: list[str] | None = None
    ) -> Iterator[dict[str, Any]]:
        if self._table is not None:
            for wanted in value_filters(column, values):
                found = self._table.scanner(columns=columns, filter=wanted, with_row_id=True)
                yield from found.to_table().to_pylist()

    def _check_filter(self, where: str | None, error: DamagedError) -> None:
        """Raise UsageError where a scan failed only because of its filter."""
        if where is None or self._table is None:
            return
        schema = pa.schema([("id", pa.string()), *self.metadata_schema])
        try:
            for _ in self._table.scanner(columns=schema.names).to_batches():
                pass
        except DamagedError:
            return
        # Lance's own words, without the names of the store's inner columns.
        reason = reason_of(error.__cause__ or error).split(" Valid fields")[0].rsplit("error: ", 1)[-1].rstrip(". ")
        raise UsageError(
            f"the filter {where!r} cannot be used: {mismatch(where, schema) or reason}. Columns: {typed_names(schema)}."
            " Write texts as 'O''Neil', dates as "
            "date '2024-01-31', times as timestamp '2024-01-31 12:00:00', and names with spaces as `unit price`"
        ) from error


def _row_numbers(batch: pa.RecordBatch) -> Int64[np.ndarray, " n"]:
    return batch.column("_rowid").to_numpy().astype(np.int64)


def _fields(batch: pa.RecordBatch, chosen: Bool[np.ndarray, " n"]) -> list[tuple[StoredField, ...]]:
    return [as_fields(entry) for entry in batch.column("mmrec_fields").filter(pa.array(chosen)).to_pylist()]


def _after(version: int) -> str:
    return f"_row_last_updated_at_version > {int(version)}"


MOST_CANDIDATES = 300
"""Compared letter by letter; the table finds them by their beginning or end, so the cost is that of reading the ids."""


def near_ids(items: ItemTable, wanted: str) -> list[str]:
    """At most three existing ids similar to one that does not exist, the most similar first."""
    half = max(1, len(wanted) // 2)
    spelling, start, end = (quoted([text]) for text in (wanted.lower(), wanted[:half], wanted[-half:]))
    filters = (f"lower(id) = {spelling}", f"starts_with(id, {start})", f"ends_with(id, {end})")
    found = [name for where in filters for name in next(items.ids(where, limit=MOST_CANDIDATES), [])]
    if not found:
        found = next(items.ids(limit=MOST_CANDIDATES), [])
    lowered = {name.lower(): name for name in found}
    return [lowered[name] for name in get_close_matches(wanted.lower(), list(lowered), n=3, cutoff=0.6)]
