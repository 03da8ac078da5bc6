"""How contents travel between processes: a head in JSON, then raw bytes. Nothing that is received is ever run.

A message that is not as described here is an OSError: its sender can no longer be trusted.
"""

import json
import socket
import struct
from collections.abc import Mapping
from typing import Any, Final, TypeAlias

import numpy as np
from PIL import Image

from mmrec.types import Content, Waveform

__all__ = ["Head", "content_of", "message_of", "receive", "send"]

Head: TypeAlias = Mapping[str, Any]

_LENGTHS: Final = struct.Struct("!IQ")
_LONGEST_HEAD: Final = 64 * 1024


def send(link: socket.socket, head: Head, body: bytes | memoryview = b"") -> None:
    """Send one message. Raises OSError where the other side is gone."""
    encoded = json.dumps(head).encode()
    link.sendall(_LENGTHS.pack(len(encoded), len(body)) + encoded)
    if len(body):
        link.sendall(body)


def receive(link: socket.socket, most: int) -> tuple[Head, bytearray] | None:
    """Return one message with a body of at most `most` bytes, or None where the other side has closed.

    Raises OSError for a message that breaks off or is larger than it may be.
    """
    lengths = _exactly(link, _LENGTHS.size)
    if lengths is None:
        return None
    head_length, body_length = _LENGTHS.unpack(lengths)
    if head_length > _LONGEST_HEAD or body_length > most:
        raise OSError(f"a message of {head_length} + {body_length} bytes")
    head, body = _exactly(link, head_length), _exactly(link, body_length)
    if head is None or body is None:
        raise OSError("a message that breaks off")
    try:
        decoded = json.loads(head)
    except ValueError as error:
        raise OSError("a message whose head is no JSON") from error
    if not isinstance(decoded, dict):
        raise OSError("a message whose head is no table")
    return decoded, body


def message_of(content: Content) -> tuple[Head, bytes | memoryview]:
    """Return the head and the body that `content_of` turns back into the content."""
    if isinstance(content, Image.Image):
        # Four bytes a pixel, as Pillow keeps them: packing them into three takes longer than sending the fourth.
        return {"kind": "picture", "size": content.size}, content.tobytes("raw", "RGBX")
    if isinstance(content, Waveform):
        return {"kind": "sound", "rate": content.rate}, content.samples.tobytes()
    return {"kind": "text"}, content.encode("utf-8", "surrogatepass")


def content_of(head: Head, body: bytearray) -> Content:
    """Return the content of a message. Raises OSError where head and body do not agree."""
    try:
        if head["kind"] == "picture":
            width, height = head["size"]
            # The array is of the body's size, or an error: nothing is allocated at a stranger's word.
            pixels = np.frombuffer(body, dtype=np.uint8).reshape(int(height), int(width), 4)
            return Image.frombytes("RGB", (pixels.shape[1], pixels.shape[0]), memoryview(body), "raw", "RGBX")
        if head["kind"] == "sound":
            return Waveform(np.frombuffer(body, dtype=np.float32), int(head["rate"]))
        return body.decode("utf-8", "surrogatepass")
    except (KeyError, TypeError, ValueError) as error:
        raise OSError(f"a message whose head and body do not agree: {head}") from error


def _exactly(link: socket.socket, length: int) -> bytearray | None:
    """Return so many bytes, or None where there is not a single one left."""
    data = bytearray(length)
    rest = memoryview(data)
    while rest:
        got = link.recv_into(rest)
        if not got:
            if len(rest) == length:
                return None
            raise OSError("a message that breaks off")
        rest = rest[got:]
    return data
