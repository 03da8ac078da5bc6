"""The 16 bytes by which the log knows an event again."""

import re
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["derived_ids", "given_id"]

_HEX: Final = re.compile(r"[0-9a-f]{32}")
_ERA: Final = 2**39  # makes the seconds of every year from 1 to 9999 positive, in 5 bytes


def given_id(text: str) -> bytes:
    """Return the id of an event that its source has named.

    32 lower-case hex digits are those 16 bytes, which is how an export spells ids; any other text is hashed.
    """
    if _HEX.fullmatch(text):
        return bytes.fromhex(text)
    return blake2b(text.encode(), digest_size=16, person=b"mmrec given id").digest()


def derived_ids(events: pa.Table) -> Sequence[bytes]:
    """Return ids made of all that the events are; equal events have equal ids, whatever brought them.

    The first 5 bytes are the event's second, so that a log that grows in the order of time grows its index of ids at
    one end and not all over; 11 bytes of BLAKE2b tell the events of one second apart.
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
    """Each text behind its length, so that no two rows of texts read alike when joined; a null is a dash."""
    length = pc.binary_length(part).cast(pa.string())
    return pc.binary_join_element_wise(length, part, ":").fill_null("-")


def _chunk(column: pa.ChunkedArray) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
