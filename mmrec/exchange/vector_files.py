"""Read files of vectors and the space that they name."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from jaxtyping import Float32
from pydantic import BaseModel, ConfigDict, ValidationError

from mmrec.errors import UsageError
from mmrec.sources.arrow_files import saved_table
from mmrec.sources.places import place
from mmrec.sources.scalars import metadata_type, to_value
from mmrec.types import Value

METADATA_KEY = b"mmrec"
"""Key of a Parquet file's metadata under which its origin lies, as JSON."""


class Origin(BaseModel):
    """Where vectors come from. Vectors of two origins compare only where the fingerprints are equal.

    Attributes:
        kind: Item vectors, or the vectors of contents in one space.
        space: Name of the space; ``fused`` for item vectors.
        fingerprint: Hex digest over everything that decides a vector; of item vectors, that of the fusion.
        dim: Numbers of a vector.
        dtype: How a number is stored.
        encoders: Preset or config file that the store was made with.
        generation: The generation that the vectors belong to.
        blocks: Of item vectors: the parts that they are made of, in order, and how long each is.
        modalities: Which modalities the vectors are of.

    """

    model_config = ConfigDict(extra="ignore", frozen=True)

    kind: Literal["items", "contents"]
    space: str
    fingerprint: str
    dim: int
    dtype: Literal["float16", "float32"]
    encoders: str = ""
    generation: int = 0
    blocks: dict[str, int] = {}
    modalities: tuple[str, ...] = ()

    def dump(self) -> bytes:
        """As it lies in a file."""
        return json.dumps(self.model_dump()).encode()

    @classmethod
    def parse(cls, data: bytes, where: str) -> "Origin":
        """Read what `dump` wrote. Raises UsageError naming the file."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(
                f"what {where} says of its own vectors cannot be read ({first['msg']}); write the file again without "
                "the metadata key 'mmrec', and declare the space with --space"
            ) from error


ROWS_PER_BATCH = 1024


@dataclass(frozen=True, slots=True)
class VectorColumns:
    """Which columns of a file are what; one of `id` and `content` says whose a vector is.

    `content` holds hashes of contents: 16 bytes, or 32 hex digits. `metadata` become metadata of items made of rows.
    """

    id: str | None = "id"
    content: str | None = None
    vector: str = "vector"
    metadata: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, eq=False)
class VectorRow:
    """One row: whose vector it is, and the unit vector itself or why there is none."""

    row: int
    key: str | bytes | None
    vector: Float32[np.ndarray, " dim"] | None
    metadata: Mapping[str, Value]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class VectorFile:
    """An opened file: its columns, the types of its metadata columns, what it says of its vectors, and its rows.

    `dim` is the length of a vector: as declared by the column, else that of the first vector.
    """

    path: Path
    columns: VectorColumns
    dim: int
    schema: pa.Schema
    origin: Origin | None
    count: int
    _read: "Read"

    def batches(self) -> Iterator[list[VectorRow]]:
        """All rows in order, some at a time; each with what is wrong with its vector."""
        start = 0
        for batch in self._read():
            yield self._rows(batch, start)
            start += len(batch)

    def _rows(self, batch: pa.RecordBatch, start: int) -> list[VectorRow]:
        key = self.columns.content or self.columns.id or ""
        keys = [_key(value, is_hash=self.columns.content is not None) for value in batch.column(key).to_pylist()]
        vectors, reasons = _vectors(batch.column(self.columns.vector), self.dim)
        metadata = {
            field.name: [to_value(value, field.type) for value in _plain(batch.column(field.name), field.type)]
            for field in self.schema
        }
        return [
            VectorRow(
                start + n,
                keys[n],
                None if reasons[n] else vectors[n],
                {name: values[n] for name, values in metadata.items()},
                reasons[n],
            )
            for n in range(len(batch))
        ]


Read: TypeAlias = Callable[[], Iterable[pa.RecordBatch]]


def _read_parquet(files: Sequence[Path], columns: Sequence[str]) -> Iterator[pa.RecordBatch]:
    for path in files:
        with pq.ParquetFile(path) as file:
            yield from file.iter_batches(ROWS_PER_BATCH, columns=list(columns))


def open_vectors(path: Path, columns: VectorColumns) -> VectorFile:
    """Open a file of vectors. Raises UsageError if it is none, lacks a column, or has not a single vector."""
    if (columns.id is None) == (columns.content is None):
        raise UsageError(
            "Say whose the vectors are: name the column of ids with --id, or of content hashes with --hash."
        )
    key = columns.content or columns.id or ""
    wanted = tuple(dict.fromkeys((key, columns.vector, *columns.metadata)))
    try:
        schema, origin, read, count = _open(path, wanted)
        missing = [name for name in wanted if name not in schema.names]
        if missing:
            raise UsageError(f"{path} has no column {missing[0]!r}; it has {', '.join(schema.names)}.")
        kind = schema.field(columns.vector).type
        if not _is_vector(kind):
            raise UsageError(
                f"Column {columns.vector!r} of {path} holds {kind}, not lists of numbers: name it with --vector."
            )
        dim = kind.list_size if pa.types.is_fixed_size_list(kind) else _first_length(read, columns.vector)
    except (OSError, pa.ArrowException) as error:
        raise UsageError(f"{path} cannot be read as vectors: {(str(error).splitlines() or [''])[0][:160]}.") from error
    if not dim:
        raise UsageError(f"Column {columns.vector!r} of {path} has no vector in it.")
    metadata = pa.schema([(name, metadata_type(schema.field(name).type)) for name in columns.metadata])
    return VectorFile(path, columns, dim, metadata, origin, count, read)


def _open(path: Path, columns: tuple[str, ...]) -> tuple[pa.Schema, Origin | None, Read, int]:
    if (path / "state.json").exists():
        try:
            table = saved_table(place(path))
            about = json.loads((path / "dataset_info.json").read_bytes()).get("description") or ""
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise UsageError(f"{path} is not a `datasets` directory that can be opened: {error}.") from error
        origin = Origin.parse(about.encode(), str(path)) if about.startswith('{"kind"') else None
        return table.schema, origin, lambda: table.select(list(columns)).to_reader(ROWS_PER_BATCH), table.num_rows
    files = (path,) if path.is_file() else tuple(sorted(path.glob("*.parquet")))
    if not files:
        raise UsageError(f"There are no vectors at {path}: give a Parquet file, a directory of them, or a dataset.")
    schemas = [pq.read_schema(file) for file in files]
    odd = next((file for file, schema in zip(files, schemas, strict=True) if not schema.equals(schemas[0])), None)
    if odd is not None:
        raise UsageError(f"{odd.name} has other columns than {files[0].name}; import them one by one.")
    data = (schemas[0].metadata or {}).get(METADATA_KEY)
    count = sum(pq.read_metadata(file).num_rows for file in files)
    return schemas[0], Origin.parse(data, str(path)) if data else None, partial(_read_parquet, files, columns), count


def _first_length(read: Read, column: str) -> int:
    for batch in read():
        lengths = pc.list_value_length(batch.column(column)).drop_null()
        if len(lengths):
            return int(lengths[0].as_py())
    return 0


def _is_vector(kind: pa.DataType) -> bool:
    lists = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list)
    return any(test(kind) for test in lists) and (
        pa.types.is_floating(kind.value_type) or pa.types.is_integer(kind.value_type)
    )


def _vectors(column: pa.Array, dim: int) -> tuple[Float32[np.ndarray, "n dim"], list[str]]:
    """Unit vectors of a batch, zeros where a row has none, and what is wrong with each."""
    lengths = pc.fill_null(pc.list_value_length(column), 0).to_numpy(zero_copy_only=False).astype(np.int64)
    fit = lengths == dim
    vectors = np.zeros((len(column), dim), dtype=np.float32)
    flat = column.filter(pa.array(fit)).flatten().to_numpy(zero_copy_only=False)
    with np.errstate(over="ignore", invalid="ignore"):
        vectors[fit] = flat.reshape(-1, dim).astype(np.float32)
        norms = np.linalg.norm(vectors.astype(np.float64), axis=1)
    usable = np.isfinite(norms) & (norms > 0)
    reasons = [
        "" if good else _complaint(length, dim, norm)
        for good, length, norm in zip(usable.tolist(), lengths.tolist(), norms.tolist(), strict=True)
    ]
    vectors[usable] /= norms[usable, None].astype(np.float32)
    return vectors, reasons


def _complaint(length: int, dim: int, norm: float) -> str:
    if length == 0:
        return "There is no vector."
    if length != dim:
        return f"The vector has {length} numbers, and the space has {dim}."
    return "The vector is all zeros." if norm == 0 else "The vector has numbers that are missing or not finite."


def _key(value: object, *, is_hash: bool) -> str | bytes | None:
    if not is_hash:
        return None if value is None or value == "" else str(value)
    if isinstance(value, str):
        try:
            value = bytes.fromhex(value)
        except ValueError:
            return None
    return value if isinstance(value, bytes) and len(value) == 16 else None


def _plain(column: pa.Array, kind: pa.DataType) -> list[object]:
    if pa.types.is_temporal(kind):
        column = column.cast(kind, safe=False)
    return list(column.to_pylist())
