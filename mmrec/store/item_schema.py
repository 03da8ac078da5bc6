"""Columns of the table of items."""

import pyarrow as pa

from mmrec.errors import UsageError

__all__ = ["OWN_COLUMNS", "RESERVED", "item_schema"]

FIELD_TYPE = pa.struct(
    [
        ("modality", pa.string()),
        ("column", pa.string()),
        ("hash", pa.binary(16)),
        ("uri", pa.string()),
        ("size", pa.int64()),
        ("mtime_ns", pa.int64()),
    ]
)
OWN_COLUMNS = [
    pa.field("id", pa.string(), nullable=False),
    pa.field("mmrec_digest", pa.binary(16)),
    pa.field("mmrec_text", pa.string()),
    pa.field("mmrec_fields", pa.list_(FIELD_TYPE)),
]
RESERVED = frozenset(column.name for column in OWN_COLUMNS)
"""Column names that metadata cannot have."""


def item_schema(metadata: pa.Schema) -> pa.Schema:
    """Columns of the table for a catalog's metadata. Raises UsageError for a name that the table cannot have."""
    odd = [name for name in metadata.names if not _is_fit(name)]
    if odd:
        raise UsageError(
            f"metadata column {odd[0]!r} cannot be stored: a name must not be 'id' or blank, begin with _row or mmrec_,"
            " or have a dot, a backtick or a control character in it; rename it in the source or leave it out"
        )
    return pa.schema([*OWN_COLUMNS, *metadata])


def _is_fit(name: str) -> bool:
    reserved = name in RESERVED or name.startswith(("_row", "mmrec_"))
    return bool(name.strip()) and name.isprintable() and not reserved and not set(name) & {".", "`"}
