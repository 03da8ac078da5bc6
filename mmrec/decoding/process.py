"""The decoder process: its protocol over pipes, its limits, and its end with its parent."""

import json
import os
import resource
import signal
import socket
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
from PIL import Image

from mmrec.compute import keep_freed_memory
from mmrec.decoding.decode import decode, decoder_of
from mmrec.decoding.limits import Limits
from mmrec.errors import MediaError
from mmrec.types import Content, Modality, Waveform

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
    lengths = _read_exactly(link, _LENGTHS.size)
    if lengths is None:
        return None
    head_length, body_length = _LENGTHS.unpack(lengths)
    if head_length > _LONGEST_HEAD or body_length > most:
        raise OSError(f"a message of {head_length} + {body_length} bytes")
    head, body = _read_exactly(link, head_length), _read_exactly(link, body_length)
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
        return {"kind": "image", "size": content.size}, content.tobytes("raw", "RGBX")
    if isinstance(content, Waveform):
        return {"kind": "audio", "rate": content.rate}, content.samples.tobytes()
    return {"kind": "text"}, content.encode("utf-8", "surrogatepass")


def content_of(head: Head, body: bytearray) -> Content:
    """Return the content of a message. Raises OSError where head and body do not agree."""
    try:
        if head["kind"] == "image":
            width, height = head["size"]
            # Sizes come from the received body, not from the untrusted head: a forged one cannot allocate memory.
            pixels = np.frombuffer(body, dtype=np.uint8).reshape(int(height), int(width), 4)
            return Image.frombytes("RGB", (pixels.shape[1], pixels.shape[0]), memoryview(body), "raw", "RGBX")
        if head["kind"] == "audio":
            return Waveform(np.frombuffer(body, dtype=np.float32), int(head["rate"]))
        return body.decode("utf-8", "surrogatepass")
    except (KeyError, TypeError, ValueError) as error:
        raise OSError(f"a message whose head and body do not agree: {head}") from error


def _read_exactly(link: socket.socket, length: int) -> bytearray | None:
    """Return `length` bytes, or None where the other side closed before the first."""
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


_WALL_PER_CPU_SECOND: Final = 10
_LEAST_WALL_SECONDS: Final = 30.0
_IDLE_SECONDS: Final = 60.0
_NICE: Final = 5
_LARGEST_REQUEST: Final = 1 << 40


def serve(descriptor: int) -> None:
    """Decode what comes over a socket until it closes or nothing has come for a minute."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the job, which then closes the socket
    for timer in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(timer, signal.SIG_DFL)
    _lower_priority()
    keep_freed_memory()
    with socket.socket(fileno=descriptor) as link:
        send(link, {"kind": "ready"})
        _silence_stderr()
        link.settimeout(_IDLE_SECONDS)
        try:
            while request := receive(link, _LARGEST_REQUEST):
                send(link, *_answer(*request))
        except OSError:
            return  # idle, or the other side is gone


def wall_clock_limit(granted: float) -> float:
    """Wall-clock seconds after which a decoder that may use so much processor time counts as hung."""
    return max(granted * _WALL_PER_CPU_SECOND, _LEAST_WALL_SECONDS)


def _answer(head: Head, data: bytearray) -> tuple[Head, bytes | memoryview]:
    limits, modality = Limits(**head["limits"]), Modality(head["modality"])
    decoder_of(modality)
    _bound_memory(limits.max_memory)
    try:
        with _timed(limits.max_decoding_seconds):
            return message_of(decode(modality, bytes(data), limits))
    except MediaError as error:
        return {"kind": "refused", "reason": str(error)}, b""
    except MemoryError:
        reason = f"Decoding it takes more than the limit of {limits.max_memory:,} bytes of memory."
        return {"kind": "refused", "reason": reason}, b""


@contextmanager
def _timed(seconds: float) -> Iterator[None]:
    """Die of a signal when the time is up, whatever is being done then: nothing has to wake up or take a lock.

    The processor's time is what is limited, so that a content is not refused because the machine was busy.
    """
    signal.setitimer(signal.ITIMER_PROF, seconds)
    signal.setitimer(signal.ITIMER_REAL, wall_clock_limit(seconds))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _bound_memory(most: int) -> None:
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_DATA):
        _, hard = resource.getrlimit(kind)
        soft = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (soft, hard))


def _lower_priority() -> None:
    """Give the encoders the cores first; short of memory, the system ends this process before others."""
    os.nice(_NICE)
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _silence_stderr() -> None:
    """Throw away what decoders print: reasons travel over the socket."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
