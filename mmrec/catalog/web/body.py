"""The body of an answer, whole and within bounds, or not at all."""

import io
import zlib
from typing import Final

import httpcore

from mmrec.errors import MediaError

__all__ = ["header", "read_body"]

_GZIP: Final = 16 + zlib.MAX_WBITS


def header(response: httpcore.Response, name: str) -> str:
    """The value of a header, or an empty text. Several of one name are joined as HTTP says."""
    values = [value for key, value in response.headers if key.lower() == name.encode()]
    joined = b", ".join(values).strip()
    try:
        return joined.decode()
    except UnicodeDecodeError:
        return joined.decode("latin-1")


def read_body(response: httpcore.Response, max_bytes: int) -> bytes:
    """Read an answer's body. Raises MediaError where it is larger than allowed, packed oddly or damaged.

    httpcore raises RemoteProtocolError where the body ends before the length that was announced.
    """
    announced = header(response, "content-length")
    if announced.isdecimal() and int(announced) > max_bytes:
        raise _too_large(max_bytes)
    coding = header(response, "content-encoding").lower()
    if coding not in {"", "identity", "gzip", "x-gzip"}:
        raise MediaError("The web server packed the content in a way that it was not asked for.")
    unpack = zlib.decompressobj(_GZIP) if coding.endswith("gzip") else None
    out = io.BytesIO()
    sent = 0
    for piece in response.iter_stream():
        sent += len(piece)
        room = max_bytes - out.tell()
        out.write(piece if unpack is None else _unpacked(unpack, piece, room + 1))
        if max(sent, out.tell()) > max_bytes:
            raise _too_large(max_bytes)
    if unpack is not None and sent and (not unpack.eof or unpack.unused_data):
        raise MediaError("The content from the web is damaged.")
    return out.getvalue()


def _unpacked(unpack: "zlib._Decompress", piece: bytes, most: int) -> bytes:
    try:
        return unpack.decompress(piece, most)
    except zlib.error as error:
        raise MediaError("The content from the web is damaged.") from error


def _too_large(max_bytes: int) -> MediaError:
    return MediaError(f"The content from the web is larger than the limit of {max_bytes:,} bytes.")
