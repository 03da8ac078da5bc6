"""A catalog described in a TOML file instead of flags: ``mmrec index catalog.toml my-store``.

    source = "s3://shop/catalog.parquet"   # relative paths start from this file

    [columns]                              # as the flags of the same names; guessed where there are none
    id = "sku"
    text = ["title", "description"]
    image = "front"

    [types]                                # what metadata columns hold; values that are none of it are left out
    year = "integer"

    [weights]
    text = 2

    [storage.s3]                           # handed to s3fs; credentials are better kept in the environment
    endpoint_url = "http://localhost:9000"

What concerns a single run, such as ``--prune``, is no part of it. Flags win over the file. Code that is not mmrec's own
is run for encoders that the file names only with ``--trust-code``: a catalog may come from anyone.
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from mmrec.encoders.presets import PRESETS
from mmrec.errors import UsageError
from mmrec.modality import Modality
from pipelines.grammar import parse_device
from pipelines.index_types import Columns, IndexOptions

__all__ = ["CatalogSpec", "read_spec", "with_spec"]

Name = Annotated[str, Field(min_length=1)]
Names = Annotated[tuple[Name, ...], BeforeValidator(lambda given: [given] if isinstance(given, str) else given)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ColumnTable(_Strict):
    """Which columns are what; a list, or a name alone."""

    id: Name | None = None
    text: Names = ()
    image: Names = ()
    audio: Names = ()
    metadata: Names = ()
    deleted: Name | None = None


class CatalogSpec(_Strict):
    """What a file may say, each key as the flag of its name."""

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
    """Fill in from the file, where the source is one, what was not given as a flag. Raises UsageError.

    Args:
        options: As the flags and their defaults have them.
        given: Names of the flags that a person wrote.

    """
    if options.source is None or Path(options.source).suffix.lower() != ".toml":
        return options
    spec = read_spec(Path(options.source))
    said = {name: getattr(spec, name) for name in spec.model_fields_set if name not in {*given, "columns", "source"}}
    if spec.weights is not None and "weights" in said:
        said["weights"] = {modality: spec.weights.get(modality, 1.0) for modality in Modality}
    said["encoders_from_file"] = "encoders" in said
    columns = {
        part.name: getattr(options.columns, part.name) or getattr(spec.columns, part.name) for part in fields(Columns)
    }
    return replace(options, source=spec.source, columns=Columns(**columns), **said)


def read_spec(path: Path) -> CatalogSpec:
    """Read a file, relative paths made absolute. Raises UsageError that names each wrong key and what is allowed."""
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}.") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not valid TOML: {error}.") from error
    try:
        spec = CatalogSpec.model_validate(content)
    except ValidationError as error:
        raise UsageError(f"{path}: {'; '.join(map(_told, error.errors()))}.") from error
    parse_device(spec.device)
    paths = {"source": _from(path, spec.source)}
    if spec.encoders is not None and spec.encoders not in PRESETS:
        paths["encoders"] = _from(path, spec.encoders)
    if spec.media_root is not None:
        paths["media_root"] = _from(path, spec.media_root)
    return spec.model_copy(update=paths)


def _from(file: Path, given: str) -> str:
    """Return a path as it is reached from a file; URLs stay."""
    if given.startswith("hf:"):
        rest = given.removeprefix("hf:")
        return f"hf:{file.absolute().parent / rest}" if rest.startswith(("./", "../")) else given
    return given if "://" in given else str(file.absolute().parent / given)


def _told(error: Mapping[str, Any]) -> str:
    where = tuple(str(part) for part in error["loc"] if part != "[key]")
    key = ".".join(where)
    match error["type"]:
        case "extra_forbidden":
            return f"there is no key {key}; allowed here are {', '.join(_keys(where))}"
        case "missing":
            return f"the key {key} is missing"
        case "literal_error" | "enum":
            return f"{key} is {error['input']!r}; allowed are {error['ctx']['expected']}"
        case _:
            return f"{key} is {error['input']!r}: {error['msg'][:1].lower()}{error['msg'][1:]}"


def _keys(where: tuple[str, ...]) -> Collection[str]:
    table = ColumnTable if where[:1] == ("columns",) and len(where) > 1 else CatalogSpec
    return table.model_fields
