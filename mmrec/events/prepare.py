"""Validate rows of an event file: events with stable 16-byte ids, and rejected rows with their reason."""

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool, Int64

from mmrec.errors import UsageError
from mmrec.events.event import SCHEMA, Column, Event, EventColumns, RawEvents, RefusedRow
from mmrec.events.kinds import Kinds
from mmrec.events.times import TimeRule
from mmrec.sources.assemble import BadValueError, id_of

_HEX: Final = re.compile(r"[0-9a-f]{32}")
_ERA: Final = 2**39  # makes the seconds of every year from 1 to 9999 positive, in 5 bytes


def given_id(text: str) -> bytes:
    """Return the id of an event that its source has named.

    32 lower-case hex digits are those 16 bytes, as exports write them; any other text is hashed.
    """
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    return blake2b(text.encode(), digest_size=16, person=b"mmrec given id").digest()


def derived_ids(events: pa.Table) -> Sequence[bytes]:
    """Return ids derived from all parts of the events; equal events have equal ids.

    The first 5 bytes are the event's second, so that a log that grows in time order grows its index of ids at one end;
    11 bytes of BLAKE2b distinguish the events of one second.
    """
    times = _chunk(events["time"]).cast(pa.int64())
    bits = _chunk(events["value"]).to_numpy(zero_copy_only=False).astype(np.float64)
    bits = np.where(bits == 0, 0.0, bits).view(np.int64)  # -0.0 equals 0.0
    values = pa.array(bits, mask=np.asarray(_chunk(events["value"]).is_null()))
    parts = [_chunk(events[name]) for name in ("user", "item", "kind")]
    parts += [times.cast(pa.string()), values.cast(pa.string()), _chunk(events["context"])]
    whole = pc.binary_join_element_wise(*(_framed(part) for part in parts), "").to_pylist()
    seconds = np.floor_divide(times.to_numpy(), 1_000_000) + _ERA
    prefixes = seconds.astype(">u8").view(np.uint8).reshape(-1, 8)[:, 3:].tobytes()
    return [
        prefixes[5 * place : 5 * place + 5] + blake2b(text.encode(), digest_size=11).digest()
        for place, text in enumerate(whole)
    ]


def _framed(part: pa.Array) -> pa.Array:
    """Each text behind its length, so that joined rows are unambiguous; a null is a dash."""
    length = pc.binary_length(part).cast(pa.string())
    return pc.binary_join_element_wise(length, part, ":").fill_null("-")


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column


LONGEST_ID: Final = 512
"""Bytes of a user's or an item's id: what every database can keep in an index."""
_LONGEST_CONTEXT: Final = 65_536


@dataclass(frozen=True, slots=True, eq=False)
class PreparedEvents:
    """Events ready for the log, columns as in `mmrec.events.event.SCHEMA`; `rows` are their source rows.

    `named` marks events with an id of their own, `refused` are the invalid rows.
    """

    events: pa.Table
    rows: Int64[np.ndarray, " n"]
    named: Bool[np.ndarray, " n"]
    refused: tuple[RefusedRow, ...] = ()


@dataclass(slots=True)
class _Faults:
    """The first fault of each invalid row."""

    first: dict[int, tuple[str, str]] = field(default_factory=dict)

    def of(self, column: str) -> Callable[[int, str], None]:
        def add(place: int, reason: str) -> None:
            self.first.setdefault(place, (column, reason))

        return add


def prepare(raw: RawEvents, columns: EventColumns, kinds: Kinds, times: TimeRule) -> PreparedEvents:
    """Validate a chunk of rows and convert it to the log's columns; of a row with several faults the first is kept."""
    count = len(raw.rows)
    if not count:
        return PreparedEvents(SCHEMA.empty_table(), raw.rows, np.zeros(0, dtype=bool), raw.refused)
    faults = _Faults()
    users = _ids(raw.columns[columns.user], "user", faults.of(columns.user))
    items = _ids(raw.columns[columns.item], "item", faults.of(columns.item))
    named = None if columns.id is None else _texts(raw.columns[columns.id], "id", faults.of(columns.id))
    table = pa.table(
        {
            "user": users,
            "item": items,
            "kind": _kinds(raw, columns, kinds, faults),
            "time": pa.array(times.moments(raw.columns[columns.time], faults.of(columns.time))),
            "value": _values(raw, columns, faults),
            "context": _contexts(raw, columns, faults),
        }
    )
    good = np.ones(count, dtype=bool)
    good[list(faults.first)] = False
    refused = [
        RefusedRow(int(raw.rows[place]), column, reason, users[place].as_py())
        for place, (column, reason) in sorted(faults.first.items())
    ]
    kept = table.filter(pa.array(good))
    own = pa.nulls(kept.num_rows, pa.string()) if named is None else named.filter(pa.array(good))
    return PreparedEvents(_with_ids(kept, own), raw.rows[good], ~np.asarray(own.is_null()), (*raw.refused, *refused))


def prepare_events(events: Sequence[Event], kinds: Kinds) -> PreparedEvents:
    """Convert events to the log's columns. Raises UsageError, with the event's number, where one is invalid."""
    parts = ("user", "item", "time", "kind", "value", "context", "id")
    columns: dict[str, Column] = {name: [getattr(event, name) for event in events] for name in parts}
    for number, event in enumerate(events, 1):
        if event.time.tzinfo is None:
            raise UsageError(f"Event {number}: its time {event.time} has no time zone; add one, such as datetime.UTC.")
    given = EventColumns("user", "item", "time", "kind", "value", ("context",), "id")
    prepared = prepare(RawEvents(np.arange(1, len(events) + 1), columns), given, kinds, TimeRule())
    if prepared.refused:
        worst = prepared.refused[0]
        raise UsageError(f"Event {worst.row}: {worst.reason} No event was recorded.")
    return prepared


def _with_ids(table: pa.Table, own: pa.Array) -> pa.Table:
    derived = derived_ids(table)
    names = own.to_pylist() if own.null_count < len(own) else [None] * len(own)
    ids = [known if name is None else given_id(name) for known, name in zip(derived, names, strict=True)]
    return table.add_column(0, "id", pa.array(ids, pa.binary(16))).cast(SCHEMA)


def _texts(column: Column, part: str, fault: Callable[[int, str], None]) -> pa.Array:
    """Ids as texts, numbers as they are written; null where missing or invalid."""
    plain = _plain_texts(column)
    if plain is None:
        plain = pa.array([_text(value, place, part, fault) for place, value in enumerate(_listed(column))], pa.string())
    size = pc.binary_length(plain).fill_null(0)
    blank = pc.equal(pc.binary_length(pc.utf8_trim_whitespace(plain)), 0)
    broken = pc.or_(pc.greater(size, LONGEST_ID), pc.match_substring(plain, "\0").fill_null(False))
    for place in np.flatnonzero(np.asarray(broken)).tolist():
        fault(place, f"The {part} is longer than {LONGEST_ID} bytes, or has a null character in it.")
    unfit = pc.or_(broken, blank.fill_null(True))
    return pc.if_else(unfit, pa.scalar(None, pa.string()), plain)


def _ids(column: Column, part: str, fault: Callable[[int, str], None]) -> pa.Array:
    texts = _texts(column, part, fault)
    for place in np.flatnonzero(np.asarray(texts.is_null())).tolist():
        fault(place, f"The {part} is missing.")
    return texts


def _text(value: object, place: int, part: str, fault: Callable[[int, str], None]) -> str | None:
    if value is None or value != value:  # noqa: PLR0124 - true for NaN, which is a null
        return None
    try:
        text = id_of(value)
        text.encode()
    except BadValueError as error:
        fault(place, str(error).replace("The id", f"The {part}"))
    except UnicodeEncodeError:
        fault(place, f"The {part} is not valid text: it has half a character in it.")
    else:
        return text
    return None


def _plain_texts(column: Column) -> pa.Array | None:
    """A column of texts or whole numbers as texts; None where it holds something else."""
    try:
        if isinstance(column, list):
            return pa.array(column, pa.string())
        if pa.types.is_dictionary(column.type):
            column = column.cast(column.type.value_type)
        if not (pa.types.is_integer(column.type) or _is_text(column.type)):
            return None
        plain = column.cast(pa.string())
        plain.validate(full=True)  # Parquet files do not promise that their texts are UTF-8
    except (pa.ArrowException, TypeError, ValueError):
        return None
    return plain


def _is_text(dtype: pa.DataType) -> bool:
    return bool(pa.types.is_string(dtype) or pa.types.is_large_string(dtype) or pa.types.is_string_view(dtype))


def _listed(column: Column) -> list[object]:
    if isinstance(column, list):
        return column
    try:
        return list(column.to_pylist())
    except ValueError:  # not UTF-8, in one value at least
        return [_read(scalar) for scalar in column]


def _read(scalar: pa.Scalar) -> object:
    try:
        return scalar.as_py()
    except ValueError:
        return "\udcff"  # becomes a fault: broken text


def _kinds(raw: RawEvents, columns: EventColumns, kinds: Kinds, faults: _Faults) -> pa.Array:
    if columns.kind is None:
        kind = kinds.resolve(columns.one_kind)
        if kind is None:
            raise UsageError(kinds.unknown_message(columns.one_kind))
        return pa.repeat(pa.scalar(kind, pa.string()), len(raw.rows))
    fault = faults.of(columns.kind)
    coded = _ids(raw.columns[columns.kind], "kind", fault).dictionary_encode()
    words = coded.dictionary.to_pylist()
    resolved = [kinds.resolve(word) for word in words]
    for word, kind, code in zip(words, resolved, range(len(words)), strict=True):
        if kind is None:
            for place in np.flatnonzero(np.asarray(pc.equal(coded.indices, code).fill_null(False))).tolist():
                fault(place, kinds.unknown_message(word))
    return pa.array(resolved, pa.string()).take(coded.indices)


def _values(raw: RawEvents, columns: EventColumns, faults: _Faults) -> pa.Array:
    if columns.value is None:
        return pa.nulls(len(raw.rows), pa.float64())
    column, fault = raw.columns[columns.value], faults.of(columns.value)
    if isinstance(column, pa.Array) and (pa.types.is_integer(column.type) or pa.types.is_floating(column.type)):
        numbers = column.cast(pa.float64(), safe=False)
        if pc.all(pc.is_finite(numbers), min_count=0).as_py():
            return numbers
    return pa.array([_value(value, place, fault) for place, value in enumerate(_listed(column))], pa.float64())


def _value(value: object, place: int, fault: Callable[[int, str], None]) -> float | None:
    if value is None or value == "":
        return None
    try:
        number = float(value) if isinstance(value, int | float | str) else float(str(value))
    except (ValueError, OverflowError):
        fault(place, f"The value {str(value)[:40]!r} is not a number.")
        return None
    if math.isinf(number):
        fault(place, "The value is infinite.")
    return None if math.isnan(number) else number


def _contexts(raw: RawEvents, columns: EventColumns, faults: _Faults) -> pa.Array:
    if not columns.context:
        return pa.nulls(len(raw.rows), pa.string())
    lists = {name: _listed(raw.columns[name]) for name in columns.context}
    fault = faults.of(columns.context[0])
    texts: list[str | None] = []
    for place in range(len(raw.rows)):
        entries = {name: values[place] for name, values in lists.items()}
        try:
            texts.append(_context(entries))
        except ValueError as error:
            fault(place, f"The context cannot be kept: {error}.")
            texts.append(None)
    return pa.array(texts, pa.string())


def _context(entries: Mapping[str, object]) -> str | None:
    known = {name: value for name, value in entries.items() if value not in (None, "")}
    if len(entries) == 1 and known:
        (only,) = known.values()
        if isinstance(only, str) and only.lstrip().startswith("{"):
            only = json.loads(only)
        known = dict(only) if isinstance(only, Mapping) else known
    if not known:
        return None
    text = json.dumps(known, ensure_ascii=False, sort_keys=True, allow_nan=False, separators=(",", ":"), default=str)
    if len(text.encode()) > _LONGEST_CONTEXT or "\\u0000" in text:
        raise ValueError(f"it is longer than {_LONGEST_CONTEXT:,} bytes, or has a null character in it")
    return text
