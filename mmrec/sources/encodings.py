"""Encodings of text files: UTF-8 unless a person says otherwise, UTF-16 where its byte order mark is there."""

import codecs
import re
from typing import BinaryIO, Final

from charset_normalizer import from_bytes

from mmrec.errors import UsageError

__all__ = ["chosen_encoding", "not_utf8", "wrong_encoding"]

_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SAMPLE: Final = 256 * 1024
_ACCENTS: Final = re.compile(r"[^\x00-\x7f\s]+")
_IN_A_ROW: Final = 0.3


def chosen_encoding(file: BinaryIO, given: str | None) -> str:
    """Return how a file is read: as given, else by its byte order mark, else as UTF-8. The file is read from.

    Raises UsageError where no encoding is called so.
    """
    if given is not None:
        try:
            "".encode(given)
        except LookupError as error:
            raise UsageError(
                f"There is no encoding {given!r}; name one such as utf-8, windows-1252, utf-16."
            ) from error
        return given
    head = file.read(4)
    return next((name for mark, name in _MARKS if head.startswith(mark)), "utf-8-sig")


def not_utf8(file: BinaryIO) -> str:
    """Say why lines of a file cannot be read as UTF-8, and which encoding would read them. The file is read from."""
    likely = _likely(file.read(_SAMPLE))
    hint = "" if likely is None else f" It can be read as {likely}: add --encoding {likely}."
    return f"The line is not UTF-8.{hint}"


def wrong_encoding(encoding: str) -> str:
    """Say that a line is not of the encoding that a person named."""
    return f"The line is not {encoding}. Name the right encoding with --encoding."


def _likely(sample: bytes) -> str | None:
    # Western languages have accents here and there among plain letters; every other script has them in a row.
    western = sample.decode("cp1252", "replace")
    accents = [found[0] for found in _ACCENTS.finditer(western)]
    rows = sum(len(row) for row in accents if len(row) > 2)
    if accents and "\ufffd" not in western and rows <= _IN_A_ROW * sum(map(len, accents)):
        return "windows-1252"
    found = from_bytes(sample).best()
    return None if found is None or found.encoding in {"utf_8", "ascii"} else found.encoding.replace("_", "-")
