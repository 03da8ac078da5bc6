"""The process that decodes: takes one content after the other from its socket, and may die of any of them.

It loads no torch and holds no lock, and whatever it is given it can neither outlive its maker nor take more
time or memory than it is granted: the kernel sees to that, whatever a decoder does.
"""

import os
import resource
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from mmrec.decoding.decode import decode, decoder_of
from mmrec.decoding.limits import Limits
from mmrec.decoding.wire import Head, message_of, receive, send
from mmrec.errors import MediaError
from mmrec.heap import keep_freed_memory
from mmrec.types import Modality

__all__ = ["serve", "standstill"]

_STANDSTILL: Final = 10
_LEAST_STANDSTILL: Final = 30.0
_IDLE_SECONDS: Final = 60.0
_NICE: Final = 5
_LARGEST_REQUEST: Final = 1 << 40


def serve(descriptor: int) -> None:
    """Decode what comes over a socket until it closes or nothing has come for a minute."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the job, which then closes the socket
    for timer in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(timer, signal.SIG_DFL)
    _step_back()
    keep_freed_memory()
    with socket.socket(fileno=descriptor) as link:
        send(link, {"kind": "ready"})
        _be_quiet()
        link.settimeout(_IDLE_SECONDS)
        try:
            while request := receive(link, _LARGEST_REQUEST):
                send(link, *_answer(*request))
        except OSError:
            return  # idle, or the other side is gone


def standstill(granted: float) -> float:
    """How many seconds may pass on the clock before a decoder that is granted so much processor time stands still."""
    return max(granted * _STANDSTILL, _LEAST_STANDSTILL)


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
    signal.setitimer(signal.ITIMER_REAL, standstill(seconds))
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


def _step_back() -> None:
    """Let the encoders have the cores first, and should the machine run out of memory, let it end this process."""
    os.nice(_NICE)
    with suppress(OSError):  # not Linux
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def _be_quiet() -> None:
    """Throw away what decoders print: reasons travel over the socket."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    os.close(nothing)
