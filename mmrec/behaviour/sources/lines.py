"""Lines of a text file, as bytes, each of bounded length."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import BinaryIO, Final, TextIO

__all__ = ["LONGEST_LINE", "LineTooLong", "line_chunks"]

LONGEST_LINE: Final = 1024 * 1024
_BOM: Final = b"\xef\xbb\xbf"


class LineTooLong(bytes):
    """The beginning of a line that is longer than any event; the rest of it has been passed over."""

    __slots__ = ()


def line_chunks(path: Path, size: int, encoding: str = "utf-8-sig") -> Iterator[list[bytes]]:
    """Read lines with their ends, `size` at a time, in UTF-8 whatever `encoding` they are in; without their mark.

    A line that is not of that encoding is not UTF-8 either when it is given.
    """
    if encoding not in {"utf-8-sig", "utf-8"}:
        with path.open(encoding=encoding, errors="surrogateescape", newline="") as text:
            lines = _recoded(text)
            while chunk := list(islice(lines, size)):
                yield chunk
        return
    with path.open("rb") as file:
        if file.peek(3)[:3] == _BOM:
            file.seek(3)
        lines = _lines(file)
        while chunk := list(islice(lines, size)):
            yield chunk


def _recoded(file: TextIO) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE):
        data = line.encode("utf-8", "surrogateescape")
        if len(line) < LONGEST_LINE or line.endswith("\n"):
            yield data
            continue
        while (rest := file.readline(LONGEST_LINE)) and not rest.endswith("\n"):
            pass
        yield LineTooLong(data[:64])


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LONGEST_LINE):
        if len(line) < LONGEST_LINE or line.endswith(b"\n"):
            yield line
            continue
        while (rest := file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
            pass
        yield LineTooLong(line[:64])
