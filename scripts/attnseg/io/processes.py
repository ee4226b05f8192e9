"""Work shared by several processes, which end with their program however it ends.

Each has a pipe of its own, so whatever kills a process, at whatever moment, is seen as the end of its pipe;
and the program has no thread or lock for them, which SIGTERM could leave behind in an error. So nothing is
waited for for ever, as can happen in multiprocessing.Pool and concurrent.futures.
"""

import itertools
import multiprocessing
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any, TypeVar

from attnseg.errors import TemporaryError

Job = TypeVar("Job")
Result = TypeVar("Result")
WAITING = 4  # jobs of each process that are sent ahead


class Pool:
    """Processes that do jobs. One that is asked for later may be done before."""

    def __init__(self, connections: list[Connection]) -> None:
        self.sent: dict[Connection, deque[int]] = {each: deque() for each in connections}
        self.results: dict[int, tuple[Any, Exception | None]] = {}
        self.number = itertools.count()

    def submit(self, work: Callable, job: object) -> int:
        """Send `work(job)` to the process that has the least to do; return the job's number."""
        connection = min(self.sent, key=lambda each: len(self.sent[each]))
        number = next(self.number)
        with _killed():
            connection.send((work, job))
        self.sent[connection].append(number)
        return number

    def done(self, number: int) -> bool:
        """Whether a job is done."""
        self._take(0)
        return number in self.results

    def result(self, number: int) -> Any:
        """Wait for a job, and return its result once.

        Raises:
            TemporaryError: if a process was killed.
            Exception: what the job raised.
        """
        while number not in self.results:
            self._take(None)
        result, error = self.results.pop(number)
        if error is not None:
            raise error
        return result

    def _take(self, timeout: float | None) -> None:
        busy = [connection for connection, numbers in self.sent.items() if numbers]
        for connection in wait(busy, timeout):
            assert isinstance(connection, Connection)
            with _killed():
                self.results[self.sent[connection][0]] = connection.recv()
            self.sent[connection].popleft()


@contextmanager
def _killed() -> Iterator[None]:
    """Say what the end of a pipe means."""
    try:
        yield
    except (EOFError, ConnectionError):
        raise TemporaryError(
            "a process that shared the work was killed, perhaps because the memory was used up; run the same "
            "command again, with fewer --processes or more memory: finished work is kept"
        ) from None


@contextmanager
def pool(processes: int, method: str, begin: Callable[[], object] = int) -> Iterator[Pool]:
    """Processes for a block. When it ends, also by an error or SIGTERM, what each has at work is finished, and
    nothing new begun.

    Args:
        method: "fork" spares them the imports; "spawn" where torch may have threads or a GPU, as a fork of
            these may hang.
        begin: called by each process first, as to take one thread where it uses torch.
    """
    context = multiprocessing.get_context(method)
    started = []
    try:
        for _ in range(processes):
            here, there = context.Pipe()
            process = context.Process(  # type: ignore[attr-defined]
                target=_serve, args=(here, there, begin), daemon=True
            )
            process.start()
            there.close()
            started.append((process, here))
        yield Pool([here for _, here in started])
    finally:
        for _, here in started:  # all before any is waited for: a fork holds those of earlier ones
            here.close()
        for process, _ in started:
            process.join()


def _serve(here: Connection, there: Connection, begin: Callable[[], object]) -> None:
    """Do jobs until the other end is closed."""
    here.close()
    # not the program's handlers: in Python, they miss a signal that comes as a wait begins
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    begin()
    jobs: SimpleQueue[tuple[Callable, object] | None] = SimpleQueue()
    # what is sent ahead is read at once: the program must not wait until a job is done
    threading.Thread(target=_read, args=(there, jobs), daemon=True).start()
    with suppress(ConnectionError):
        while (job := jobs.get()) is not None:
            there.send(_answer(*job))


def _read(there: Connection, jobs: SimpleQueue) -> None:
    try:
        while True:
            jobs.put(there.recv())
    except (EOFError, OSError):
        jobs.put(None)


def _answer(work: Callable, job: object) -> tuple[Any, Exception | None]:
    try:
        return work(job), None
    except Exception as error:
        error.add_note(traceback.format_exc())  # its traceback does not pass
        return None, error


def results(
    work: Callable[[Job], Result],
    jobs: Iterable[Job],
    processes: int,
    method: str,
    *,
    begin: Callable[[], object] = int,
    chunk: int = 1,
) -> Generator[Result]:
    """Yield `work(job)` of each job, in order; jobs are read as they are needed.

    Args:
        processes, method, begin: as of `pool`.
        chunk: jobs that a process takes at a time: more of those that take less than a millisecond.

    Raises:
        TemporaryError: if a process was killed.
    """
    jobs = iter(jobs)
    waiting: deque[int] = deque()
    with pool(processes, method, begin) as workers:
        while some := list(itertools.islice(jobs, chunk)):
            waiting.append(workers.submit(partial(_each, work), some))
            while len(waiting) > WAITING * processes or (waiting and workers.done(waiting[0])):
                yield from workers.result(waiting.popleft())
        while waiting:
            yield from workers.result(waiting.popleft())


def _each(work: Callable[[Job], Result], jobs: list[Job]) -> list[Result]:
    return [work(job) for job in jobs]
