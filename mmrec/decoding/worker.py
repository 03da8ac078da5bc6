"""One decoding process as seen from the process that uses it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import asdict
from typing import Final

from mmrec.catalog.limits import Limits
from mmrec.decoding.process import standstill
from mmrec.decoding.wire import content_of, receive, send
from mmrec.errors import DecodingError, MediaError
from mmrec.items import Content
from mmrec.modality import Modality

__all__ = ["Died", "Worker"]

# Not multiprocessing: it would import the main script again, and unpickle what a hostile picture may have written.
_PROGRAM: Final = (
    "import json, sys; sys.path[:] = json.loads(sys.argv[1]);"
    "from mmrec.decoding.process import serve; serve(int(sys.argv[2]))"
)
_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_START_SECONDS: Final = 60.0
_GRACE_SECONDS: Final = 5.0
_BYTES_A_PIXEL, _BYTES_A_SAMPLE, _HIGHEST_RATE = 4, 4, 768_000


class Died(Exception):  # noqa: N818 -- an outcome, not an error
    """The process has ended without an answer.

    Attributes:
        status: Its exit status; the negative number of the signal that ended it.

    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Worker:
    """A process that decodes one content at a time. Used by one thread at a time."""

    def __init__(self) -> None:
        """Start it. Raises DecodingError where it does not come up."""
        self._link, theirs = socket.socketpair()
        try:
            with theirs:
                self._process = subprocess.Popen(  # noqa: S603 -- this very interpreter
                    [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=os.environ | _ONE_THREAD,
                    pass_fds=[theirs.fileno()],
                )
        except OSError as error:
            self._link.close()
            raise DecodingError(_cannot_start(str(error))) from error
        self._await_start()

    @property
    def is_alive(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def decode(self, modality: Modality, data: bytes, limits: Limits) -> Content:
        """Have one content decoded. Raises MediaError where it is refused, Died where the process ends of it."""
        try:
            self._link.settimeout(standstill(limits.max_decoding_seconds) + _GRACE_SECONDS)
            send(self._link, {"modality": modality, "limits": asdict(limits)}, data)
            answer = receive(self._link, _largest_answer(limits))
            if answer is not None and answer[0].get("kind") != "refused":
                return content_of(*answer)
        except OSError:
            answer = None
        if answer is None:
            raise Died(self.end(_GRACE_SECONDS))
        raise MediaError(str(answer[0].get("reason")))

    def end(self, patience: float = 0.0) -> int:
        """Close the socket, wait, kill where waiting does not help. Returns the exit status."""
        self._link.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(patience)
        self._process.send_signal(signal.SIGKILL)
        return self._process.wait()

    def forget(self) -> None:
        """Let go of a process that belongs to another process: the one this one was forked from."""
        self._link.close()
        self._process.returncode = 0

    def _await_start(self) -> None:
        """Wait until it says that it is ready, and have its own words where it never does."""
        said = self._process.stderr
        assert said is not None  # noqa: S101
        with said:
            self._link.settimeout(_START_SECONDS)
            try:
                ready = receive(self._link, 0)
            except OSError:
                ready = None
            if ready is None:
                self.end(_GRACE_SECONDS)
                raise DecodingError(_cannot_start(said.read(100_000).decode(errors="replace").strip()))


def _cannot_start(words: str) -> str:
    last = (words.splitlines() or ["it said nothing"])[-1][:200]
    return (
        f"The process that decodes pictures and sounds cannot be started ({last}). It runs {sys.executable}, which "
        "must be able to import mmrec, pillow, soundfile, av and resvg_py; and the system must allow another process."
    )


def _largest_answer(limits: Limits) -> int:
    """Bytes: what an honest process may answer at most."""
    return max(limits.max_pixels * _BYTES_A_PIXEL, int(limits.max_seconds * _HIGHEST_RATE) * _BYTES_A_SAMPLE, 1 << 20)
