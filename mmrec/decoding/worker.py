"""One decoding process as seen from the process that uses it."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import Future
from dataclasses import asdict
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Final

from mmrec.decoding.limits import Limits
from mmrec.decoding.process import content_of, receive, send, wall_clock_limit
from mmrec.errors import DecodingError, MediaError
from mmrec.types import Content, Modality

# Not multiprocessing: it would import the main script again, and unpickle what a hostile image may have written.
# Its first act, before it loads anything: on Linux the kernel ends it when the thread that started it ends. A parent
# that died before that is no longer its parent. Elsewhere it ends when it next looks at its socket.
_PROGRAM: Final = """
import contextlib, json, os, sys
if sys.platform == "linux":
    with contextlib.suppress(ImportError, OSError, AttributeError):
        import ctypes, signal
        PR_SET_PDEATHSIG = 1
        if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) == 0 and os.getppid() != int(sys.argv[3]):
            os._exit(0)
sys.path[:] = json.loads(sys.argv[1])
from mmrec.decoding.process import serve
serve(int(sys.argv[2]))
"""
_ONE_THREAD: Final = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
_START_SECONDS: Final = 60.0
_STARTS: Final = 5
_PAUSE_SECONDS: Final = 0.1
_GRACE_SECONDS: Final = 5.0
_BYTES_A_PIXEL, _BYTES_A_SAMPLE, _HIGHEST_RATE = 4, 4, 768_000


class WorkerDied(Exception):  # noqa: N818 -- an outcome, not an error
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
        """Start the process; try again if it is killed while starting, as decoders are first when memory is short.

        Raises DecodingError where it does not come up.
        """
        for number in range(1, _STARTS + 1):
            self._start()
            ended_by = self._await_start()
            if ended_by is None:
                return
            if number < _STARTS:
                time.sleep(_PAUSE_SECONDS * 2**number)
        raise DecodingError(
            f"The process that decodes images and audio was started {_STARTS} times, and ended by {ended_by} each "
            "time before it was ready; is the machine out of memory? Free some and run the same command again: what "
            "was encoded is kept."
        )

    def _start(self) -> None:
        self._link, theirs = socket.socketpair()
        command = [sys.executable, "-c", _PROGRAM, json.dumps(sys.path), str(theirs.fileno()), str(os.getpid())]
        try:
            with theirs:
                self._process = _STARTER.popen(command, theirs.fileno())
        except OSError as error:
            self._link.close()
            raise DecodingError(_cannot_start(str(error))) from error

    @property
    def is_alive(self) -> bool:
        """Whether the process is still there."""
        return self._process.poll() is None

    def decode(self, modality: Modality, data: bytes, limits: Limits) -> Content:
        """Have one content decoded. Raises MediaError where it is refused, WorkerDied where the process ends of it."""
        try:
            self._link.settimeout(wall_clock_limit(limits.max_decoding_seconds) + _GRACE_SECONDS)
            send(self._link, {"modality": modality, "limits": asdict(limits)}, data)
            answer = receive(self._link, _largest_answer(limits))
            if answer is not None and answer[0].get("kind") != "refused":
                return content_of(*answer)
        except OSError:
            answer = None
        if answer is None:
            raise WorkerDied(self.end(_GRACE_SECONDS))
        raise MediaError(str(answer[0].get("reason")))

    def end(self, patience: float = 0.0) -> int:
        """Close the socket, wait, kill where waiting does not help. Returns the exit status."""
        self._link.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            return self._process.wait(patience)
        self._process.send_signal(signal.SIGKILL)
        return self._process.wait()

    def reset_after_fork(self) -> None:
        """Let go of a process that belongs to another process: the one this one was forked from."""
        self._link.close()
        self._process.returncode = 0

    def _await_start(self) -> str | None:
        """Wait until it says that it is ready. Returns the name of the signal where one ended it before.

        Raises DecodingError, with what it printed, where it ended by itself or said nothing for a minute.
        """
        said = self._process.stderr
        assert said is not None  # noqa: S101
        with said:
            self._link.settimeout(_START_SECONDS)
            hangs = False
            try:
                ready = receive(self._link, 0)
            except OSError as error:
                ready, hangs = None, isinstance(error, TimeoutError)
            if ready is not None:
                return None
            status = self.end(_GRACE_SECONDS)
            if status < 0 and not hangs:
                return signal_name(status)
            raise DecodingError(_cannot_start(said.read(100_000).decode(errors="replace").strip()))


class _Starter:
    """Starts processes from one thread that lives as long as this process.

    The kernel takes the end of the thread that started a process for the end of its parent, and those that decode end.
    """

    def __init__(self) -> None:
        self.reset_after_fork()

    def reset_after_fork(self) -> None:
        """Begin anew, in a process forked from the one whose thread it was."""
        self._lock = Lock()
        self._asked: SimpleQueue[tuple[Future[subprocess.Popen[bytes]], list[str], int]] = SimpleQueue()
        self._thread: Thread | None = None

    def popen(self, command: list[str], descriptor: int) -> "subprocess.Popen[bytes]":
        """Start a decoder that inherits one file. Raises OSError where the system does not allow it."""
        started: Future[subprocess.Popen[bytes]] = Future()
        with self._lock:
            if self._thread is None:
                self._thread = Thread(target=self._serve, name="mmrec-start", daemon=True)
                self._thread.start()
        self._asked.put((started, command, descriptor))
        return started.result()

    def _serve(self) -> None:
        while True:
            started, command, descriptor = self._asked.get()
            try:
                process = subprocess.Popen(  # noqa: S603 -- this very interpreter
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.PIPE,
                    env=os.environ | _ONE_THREAD,
                    pass_fds=[descriptor],
                )
            except Exception as error:  # noqa: BLE001 -- for the one who asked
                started.set_exception(error)
            else:
                started.set_result(process)
                del process
            del started


_STARTER: Final = _Starter()
os.register_at_fork(after_in_child=_STARTER.reset_after_fork)


def signal_name(status: int) -> str:
    """Name the signal of the exit status of a process that one ended."""
    return signal.Signals(-status).name if -status in set(signal.Signals) else f"status {status}"


def _cannot_start(words: str) -> str:
    last = (words.splitlines() or ["it said nothing"])[-1][:200]
    return (
        f"The process that decodes images and audio cannot be started ({last}). It runs {sys.executable}, which "
        "must be able to import mmrec, pillow, soundfile, av and resvg_py; and the system must allow another process."
    )


def _largest_answer(limits: Limits) -> int:
    """Bytes: what an honest process may answer at most."""
    return max(limits.max_pixels * _BYTES_A_PIXEL, int(limits.max_seconds * _HIGHEST_RATE) * _BYTES_A_SAMPLE, 1 << 20)
