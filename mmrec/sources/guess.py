"""Guess the columns of a source: id, text, images, audio and metadata, from names, types and first values."""

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Final

import pyarrow as pa

from mmrec.errors import UsageError
from mmrec.sources.assemble import BadValueError, id_of
from mmrec.sources.columns import ColumnSpec, listed_columns, plain_name
from mmrec.sources.folder_rows import FolderReader
from mmrec.sources.hub_rows import ROW, HubReader
from mmrec.sources.rows import Reader, Row, modality_of_bytes, modality_of_name
from mmrec.sources.scalars import is_bytes
from mmrec.sources.source import open_reader
from mmrec.sources.tar_rows import KEY, TarReader
from mmrec.types import Modality

_SAMPLE: Final = 200
_MOSTLY: Final = 0.8
_IDS: Final = "id item_id product_id article_id sku asin gtin ean isbn uuid guid key"
_TEXTS: Final = (
    "title name headline subject subtitle caption summary abstract description text body content overview plot lyrics "
    "transcript alt product_name product_description txt"
)
_ID_NAMES, _TEXT_NAMES = _IDS.split(), _TEXTS.split()
_NOT_ITEMS: Final = re.compile(r"(user|customer|session|parent|category|brand|store|seller|author|artist|album)_?id$")


def guess_columns(path: str | Path, id_column: str | None = None, encoding: str | None = None) -> ColumnSpec:
    """Guess the id, the contents and, of all the rest that can be, the metadata of a source, from its first 200 rows.

    The id, unless it is given, is the first column with an id's name (or the only one that ends in ``_id``) whose
    values differ; images and audio are columns of bytes, of ``{bytes, path}``, or of paths with such suffixes; texts
    go by name. Of an archive or a folder, keys and file names are the ids. Web addresses are metadata. Raises
    UsageError, listing the columns, where no id or no content can be found.
    """
    reader = open_reader(path, encoding)
    sample = [row for row in islice(reader.rows(tuple(reader.types)), _SAMPLE) if isinstance(row, Row)]
    if isinstance(reader, FolderReader):
        found = _guess(reader, [*sample, _FULL], id_column or "id")
        text, image, audio = (
            (own, *(name for name in getattr(found, own) if name != own)) for own in ("text", "image", "audio")
        )
        return replace(found, text=text, image=image, audio=audio)
    return _guess(reader, sample, id_column or (KEY if isinstance(reader, TarReader) else None))


_FULL: Final = Row(0, {"id": "x", "text": "x", "image": ["x.png"], "audio": ["x.wav"]}, "")
"""A row with all of a folder's own columns: they count, whatever the first files have."""


def _guess(reader: Reader, sample: Sequence[Row], id_column: str | None) -> ColumnSpec:
    names = tuple(reader.types)
    media = {name: found for name in names if (found := _media_of(name, reader.types[name], sample)) is not None}
    item_id = id_column or _id_column([name for name in names if name not in media], sample)
    plain = [name for name in names if name not in media and name != item_id]
    text = sorted((n for n in plain if plain_name(n) in _TEXT_NAMES), key=lambda n: _TEXT_NAMES.index(plain_name(n)))
    text = [name for name in text if _holds_text(name, sample)]
    listed = listed_columns(names)
    if not sample and (item_id is None or not (text or media)):
        raise UsageError(
            f"The source has no rows to guess from, only the columns {listed}. Give one with rows, or name the columns."
        )
    if item_id is None:
        hub = isinstance(reader, HubReader)
        hint = f" Without ids, --id {ROW} takes row numbers, which hold for one revision." if hub else ""
        raise UsageError(f"No column of ids can be guessed; name one with --id. The columns are {listed}.{hint}")
    if not text and not media:
        raise UsageError(
            f"No content can be guessed; name columns with --text, --image or --audio. The columns are {listed}."
        )
    others = (name for name in plain if name not in set(text) and not name.startswith("__"))
    rest = [name for name in others if not _is_nested_bytes(reader.types[name])]
    image = tuple(name for name, modality in media.items() if modality is Modality.IMAGE)
    audio = tuple(name for name, modality in media.items() if modality is Modality.AUDIO)
    return ColumnSpec(item_id, tuple(text), image, audio, tuple(rest))


def _id_column(names: Sequence[str], sample: Sequence[Row]) -> str | None:
    by_name = sorted((n for n in names if plain_name(n) in _ID_NAMES), key=lambda n: _ID_NAMES.index(plain_name(n)))
    by_ending = [
        n for n in names if plain_name(n).endswith("_id") and not _NOT_ITEMS.search(plain_name(n)) and n not in by_name
    ]
    candidates = by_name + (by_ending if len(by_ending) == 1 else [])
    return next((name for name in candidates if _is_mostly_unique(name, sample)), None)


def _is_mostly_unique(name: str, sample: Sequence[Row]) -> bool:
    ids: set[str] = set()
    for row in sample:
        with suppress(BadValueError):
            ids.add(id_of(row.values.get(name)))
    # Some rows may lack an id or repeat one; those are rejected one by one later.
    return len(ids) >= _MOSTLY * len(sample)


def _media_of(name: str, dtype: pa.DataType, sample: Sequence[Row]) -> Modality | None:
    if pa.types.is_binary(dtype) and (by_name := modality_of_name(f"x.{name}")) is not None:
        return by_name  # a member of archives
    values = [value for row in sample if (value := row.values.get(name)) not in (None, "", b"", [])]
    votes = [_vote(value) for value in values]
    for modality in (Modality.IMAGE, Modality.AUDIO):
        if votes and votes.count(modality) >= _MOSTLY * len(votes):
            return modality
    if not votes and _is_nested_bytes(dtype):
        return (
            Modality.AUDIO if re.search("audio|sound|voice|speech|song|music", name, re.IGNORECASE) else Modality.IMAGE
        )
    return None


def _vote(value: object) -> Modality | None:
    if isinstance(value, list) and value:
        value = value[0]
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if isinstance(value, bytes):
        return modality_of_bytes(value)
    if isinstance(value, str) and "\n" not in value and not value.startswith(("http://", "https://")):
        return modality_of_name(value)
    return None


def _holds_text(name: str, sample: Sequence[Row]) -> bool:
    values = [value for row in sample if (value := row.values.get(name)) is not None]
    return not values or any(isinstance(value, str | list) for value in values)


def _is_nested_bytes(dtype: pa.DataType) -> bool:
    if pa.types.is_struct(dtype):
        return {field.name for field in dtype} == {"bytes", "path"}
    return is_bytes(dtype)
