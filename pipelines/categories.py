"""A metadata column as categories: what share each has in each item."""

import numpy as np
from jaxtyping import Float32, Int64

from mmrec.errors import UsageError
from mmrec.store.items import ItemTable

__all__ = ["category_shares"]


def category_shares(
    items: ItemTable, column: str, rows: Int64[np.ndarray, " items"]
) -> Float32[np.ndarray, "items categories"]:
    """Read a column; a text with commas, or a list, is several categories in equal shares. Rows must be ascending.

    Raises UsageError where there is no such column.
    """
    names = items.metadata_schema.names
    if column not in names:
        raise UsageError(f"There is no metadata column {column!r}; there are {', '.join(names) or 'none'}.")
    found: dict[str, int] = {}
    lines, columns, shares = [], [], []
    for batch in items.scan():
        places = np.searchsorted(rows, batch["_rowid"].to_numpy().astype(np.int64))
        for place, value in zip(places.tolist(), batch[column].to_pylist(), strict=True):
            several = sorted(set(_several(value)))
            lines += [place] * len(several)
            columns += [found.setdefault(one, len(found)) for one in several]
            shares += [1 / len(several)] * len(several)
    made = np.zeros((len(rows), len(found)), dtype=np.float32)
    made[lines, columns] = shares
    return made


def _several(value: object) -> list[str]:
    values = value if isinstance(value, list) else [] if value is None else str(value).split(",")
    return [text for one in values if (text := str(one).strip())]
