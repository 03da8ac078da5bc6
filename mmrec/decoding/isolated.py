"""Decode in worker processes: a crash, a hang or a memory bomb costs one content only."""

import atexit
import os
import signal
from collections.abc import Sequence
from threading import BoundedSemaphore, Lock
from typing import Final

from mmrec.compute import decoding_workers
from mmrec.decoding.decode import decode
from mmrec.decoding.limits import Limits
from mmrec.decoding.worker import Worker, WorkerDied, signal_name
from mmrec.errors import DecoderLostError, DecodingError, MediaError
from mmrec.types import Content, Modality

_DEFAULT: Final = Limits()
_IDLE_EXIT: Final = 0
_TRIES: Final = 2
_TIMEOUT_SIGNALS: Final = {-signal.SIGPROF, -signal.SIGALRM}


class Pool:
    """Decoding processes: as many as are in use at once, and those that wait for work."""

    def __init__(self, most: int) -> None:
        """Start nothing yet. `most` is how many there may be."""
        self._most = most
        self._room = BoundedSemaphore(most)
        self._lock = Lock()
        self._waiting: list[Worker] = []

    def decode(self, modality: Modality, data: bytes, limits: Limits) -> Content:
        """Decode as `mmrec.decoding.decode.decode` does, but apart.

        A process may crash because of an earlier content: a content is rejected only if a second, fresh one crashes
        on it too. Raises MediaError, DecoderLostError, and DecodingError where no process can be started.
        """
        with self._room:
            deaths: list[int] = []
            while True:
                worker = Worker() if deaths else self._take()
                try:
                    content = worker.decode(modality, data, limits)
                except WorkerDied as death:
                    deaths.append(death.status)
                    # The first may just have ended of idleness.
                    if (
                        len(deaths) == (_TRIES + 1 if deaths[0] == _IDLE_EXIT else _TRIES)
                        or death.status in _TIMEOUT_SIGNALS
                    ):
                        raise _error_for_exit_status(death.status, limits) from death
                except MediaError:
                    self._give_back(worker)
                    raise
                else:
                    self._give_back(worker)
                    return content

    def close(self) -> None:
        """End the processes that wait for work."""
        with self._lock:
            waiting, self._waiting = self._waiting, []
        for worker in waiting:
            worker.end(patience=1.0)

    def reset_after_fork(self) -> None:
        """Let go of all processes, in a process forked from the one that they belong to."""
        for worker in self._waiting:
            worker.reset_after_fork()
        self._room, self._lock, self._waiting = BoundedSemaphore(self._most), Lock(), []

    def _take(self) -> Worker:
        while True:
            with self._lock:
                worker = self._waiting.pop() if self._waiting else None
            if worker is None:
                return Worker()
            if worker.is_alive:
                return worker
            worker.end()

    def _give_back(self, worker: Worker) -> None:
        with self._lock:
            self._waiting.append(worker)


_POOL: Final = Pool(decoding_workers())
atexit.register(_POOL.close)
os.register_at_fork(after_in_child=_POOL.reset_after_fork)


def decode_isolated(modality: Modality, data: bytes, limits: Limits = _DEFAULT) -> Content:
    """Decode in a process of its own; texts, which no library decodes, right here.

    Same results as `mmrec.decoding.decode.decode`. Raises MediaError with the reason, DecoderLostError where the
    process was killed from outside, DecodingError where none can be started.
    """
    if modality is Modality.TEXT:
        return decode(modality, data, limits)
    return _POOL.decode(modality, data, limits)


def decode_all_isolated(
    contents: Sequence[tuple[Modality, bytes]], limits: Limits = _DEFAULT
) -> list[Content | Exception]:
    """Decode contents one after the other; what `decode_isolated` raises for one stands in its place.

    Raises DecodingError where no process can be started: no other content would fare better.
    """
    return [_decoded(modality, data, limits) for modality, data in contents]


def _decoded(modality: Modality, data: bytes, limits: Limits) -> Content | Exception:
    try:
        return decode_isolated(modality, data, limits)
    except DecodingError:
        raise
    except Exception as error:  # noqa: BLE001 -- the caller decides what it means
        return error


def _error_for_exit_status(status: int, limits: Limits) -> MediaError:
    if status == -signal.SIGPROF:
        return MediaError(f"Decoding it takes longer than the limit of {limits.max_decoding_seconds:g} seconds.")
    if status == -signal.SIGALRM:
        return DecoderLostError("The process that decoded it made no headway; was the machine too busy?")
    if status == -signal.SIGKILL:
        return DecoderLostError("The process that decoded it was killed, twice; was the machine out of memory?")
    return MediaError(f"The decoder crashes on it ({signal_name(status)}).")
