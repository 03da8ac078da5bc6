"""Prefetch in order: threads work ahead of the consumer within bounds of memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Condition
from typing import TypeVar

Task = TypeVar("Task")
Result = TypeVar("Result")

MOST_TASKS = 256
MOST_BYTES = 256 * 1024 * 1024


def prefetch_ordered(
    tasks: Iterable[tuple[Task, int]], work: Callable[[Task], tuple[Result, int]], workers: int
) -> Iterator[Result]:
    """Do `work` on tasks in threads and yield the results in the order of the tasks.

    Both come with their bytes. Tasks and results that wait hold about `MOST_BYTES` each, unless a single one is larger.
    """
    room = _Room()

    def do(number: int, task: Task) -> tuple[Result, int]:
        room.enter(number)
        result, size = work(task)
        room.fill(size)
        return result, size

    waiting: deque[tuple[Future[tuple[Result, int]], int]] = deque()
    in_hand = 0
    pool = ThreadPoolExecutor(workers, thread_name_prefix="mmrec-read")
    try:
        for number, (task, task_bytes) in enumerate(tasks):
            waiting.append((pool.submit(do, number, task), task_bytes))
            del task
            in_hand += task_bytes
            while len(waiting) >= MOST_TASKS or in_hand > MOST_BYTES:
                in_hand -= waiting[0][1]
                yield _take(waiting, room)
        while waiting:
            yield _take(waiting, room)
    finally:
        room.open()
        pool.shutdown(cancel_futures=True)


def _take(waiting: "deque[tuple[Future[tuple[Result, int]], int]]", room: "_Room") -> Result:
    result, size = waiting.popleft()[0].result()
    room.leave(size)
    return result


class _Room:
    """Bounds the bytes of waiting results. The oldest task may always start, or all would wait for each other."""

    def __init__(self) -> None:
        self._held = 0
        self._oldest = 0
        self._is_open = False
        self._changed = Condition()

    def enter(self, number: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._held < MOST_BYTES or number == self._oldest or self._is_open)

    def fill(self, size: int) -> None:
        with self._changed:
            self._held += size

    def leave(self, size: int) -> None:
        with self._changed:
            self._held -= size
            self._oldest += 1
            self._changed.notify_all()

    def open(self) -> None:
        """Let all tasks start: no more results are read."""
        with self._changed:
            self._is_open = True
            self._changed.notify_all()
