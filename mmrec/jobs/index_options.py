"""Options of an index job, and catalogs described in a TOML file."""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mmrec.compute import check_device
from mmrec.encoders.presets import PRESETS
from mmrec.errors import UsageError
from mmrec.sources.columns import ColumnSpec
from mmrec.types import Modality

Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True)
class IndexOptions:
    """Options of ``mmrec index``.

    Attributes:
        source: Path or URL of a catalog; see `mmrec.sources.source.open_source`. None: the store's own items.
        store: The store's directory, created if missing.
        columns: Columns to index; if none is named, a guess is shown and needs consent.
        types: Types of metadata columns, by name: ``integer``, ``number``, ``text``, ``boolean``, ``date``, ``time``.
        encoding: Text encoding of a CSV file; None for UTF-8, or as its byte order mark says.
        encoders: A preset, models by modality (``text=owner/name``), or a TOML file; None keeps those of the store.
        weights: Weight of each modality in an item's vector; None keeps those of the store, an empty mapping has them
            measured.
        keep_missing: Keep items that are no longer in the source.
        add: The source holds only changes: other items stay as they are.
        prune: Allow the removal of more than half of the items.
        refit: Fit centring and projection again.
        index: FAISS factory string of the index, or ``auto``; None keeps that of the store.
        index_memory: Most gigabytes of an index chosen automatically; None keeps the store's limit.
        dtype: Number format of the encoders: ``fp32``, or on a GPU ``bf16`` or ``fp16``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
        media_root: Folder, or URL, outside which no media are read; None: no bounds.
        allow_fetch: Fetch media from public web addresses.
        yes: Consent beforehand.
        force: Use encoders although fine-tuning made them worse.
        trust_code: Run code that is not this package's own where a folder of encoders names it.
        encoders_from_file: Whether a catalog file, which may come from anyone, named the encoders.
        storage: Options of object stores, by scheme, s3 or gs.

    """

    source: str | Path | None
    store: Path
    columns: ColumnSpec = field(default_factory=ColumnSpec)
    types: Mapping[str, str] = field(default_factory=dict)
    encoding: str | None = None
    encoders: str | Path | None = None
    weights: Mapping[Modality, float] | None = None
    keep_missing: bool = False
    add: bool = False
    prune: bool = False
    refit: bool = False
    index: str | None = None
    index_memory: float | None = None
    device: str = "auto"
    dtype: str = "fp32"
    media_root: str | None = None
    allow_fetch: bool = False
    yes: bool = False
    force: bool = False
    trust_code: bool = False
    encoders_from_file: bool = False
    storage: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class IndexSummary:
    """Result of one run of ``mmrec index``.

    Attributes:
        items: Items now in the store.
        added: New items.
        changed: Items whose contents or metadata changed.
        removed: Items that are no longer in the source.
        read: Contents read from their addresses.
        encoded: Contents encoded in this run, by modality.
        truncated: Contents cut to their model's limit, by modality.
        quarantined: Rows and fields that could not be used, kept with their reasons.
        generation: Number of the current generation.
        seconds: Time the run took.

    """

    items: int
    added: int
    changed: int
    removed: int
    read: int
    encoded: Mapping[str, int]
    truncated: Mapping[str, int]
    quarantined: int
    generation: int
    seconds: float


class ColumnTable(BaseModel):
    """Columns by their role; a list, or a name alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Name = ""
    text: Names = ()
    image: Names = ()
    audio: Names = ()
    metadata: Names = ()
    deleted: Name | None = None


class CatalogSpec(BaseModel):
    """Keys of a catalog file, each like the flag of its name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: Name
    columns: ColumnTable = ColumnTable()
    types: Mapping[Name, Name] = {}
    encoding: Name | None = None
    encoders: Name | None = None
    weights: Mapping[Modality, Weight] | None = None
    keep_missing: bool = False
    add: bool = False
    media_root: Name | None = None
    allow_fetch: bool = False
    device: Name = "auto"
    dtype: Literal["fp32", "bf16", "fp16"] = "fp32"
    storage: Mapping[Literal["s3", "gs"], Mapping[str, Any]] = {}


def with_spec(options: IndexOptions, given: Collection[str]) -> IndexOptions:
    """Fill in from a catalog file, where the source is one, the options that are not `given` explicitly.

    Raises UsageError.
    """
    if options.source is None or Path(options.source).suffix.lower() != ".toml":
        return options
    spec = read_spec(Path(options.source))
    from_file = {name: getattr(spec, name) for name in spec.model_fields_set - {*given, "columns", "source"}}
    if spec.weights is not None and "weights" in from_file:
        from_file["weights"] = {modality: spec.weights.get(modality, 1.0) for modality in Modality}
    from_file["encoders_from_file"] = "encoders" in from_file
    columns = {
        part.name: getattr(options.columns, part.name) or getattr(spec.columns, part.name)
        for part in fields(ColumnSpec)
    }
    return replace(options, source=spec.source, columns=ColumnSpec(**columns), **from_file)


def read_spec(path: Path) -> CatalogSpec:
    """Read a catalog file, relative paths made absolute.

    Raises UsageError that names each wrong key and what is allowed.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    try:
        spec = CatalogSpec.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {'; '.join(map(_validation_message, error.errors()))}.") from error
    check_device(spec.device)
    paths = {"source": _relative_to(path, spec.source)}
    if spec.encoders is not None and spec.encoders not in PRESETS:
        paths["encoders"] = _relative_to(path, spec.encoders)
    if spec.media_root is not None:
        paths["media_root"] = _relative_to(path, spec.media_root)
    return spec.model_copy(update=paths)


def _relative_to(file: Path, given: str) -> str:
    """Resolve a path relative to the file that names it; URLs stay."""
    if given.startswith("hf:"):
        rest = given.removeprefix("hf:")
        return f"hf:{file.absolute().parent / rest}" if rest.startswith(("./", "../")) else given
    return given if "://" in given else str(file.absolute().parent / given)


def _validation_message(error: Mapping[str, Any]) -> str:
    where = tuple(str(part) for part in error["loc"] if part != "[key]")
    key = ".".join(where)
    match error["type"]:
        case "extra_forbidden":
            table = ColumnTable if where[:1] == ("columns",) and len(where) > 1 else CatalogSpec
            return f"there is no key {key}; allowed here are {', '.join(table.model_fields)}"
        case "missing":
            return f"the key {key} is missing"
        case "literal_error" | "enum":
            return f"{key} is {error['input']!r}; allowed are {error['ctx']['expected']}"
        case _:
            return f"{key} is {error['input']!r}: {error['msg'][:1].lower()}{error['msg'][1:]}"
