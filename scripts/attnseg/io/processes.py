"""Work shared by several processes, which end with their program however it ends.

Each has a pipe of its own, so whatever kills a process, at whatever moment, is seen as the end of its pipe;
and the program has no thread or lock for them, which SIGTERM could leave behind in an error. So nothing is
waited for for ever, as can happen in multiprocessing.Pool and concurrent.futures.
"""

import itertools
import multiprocessing
import pickle
import signal
import threading
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection, wait
from queue import SimpleQueue
from typing import Any, TypeVar

from attnseg.errors import Ended, TemporaryError

Job = TypeVar("Job")
Result = TypeVar("Result")
WAITING = 4  # jobs of each process that are sent ahead


# this program's ends of all pipes: a fork holds them, too, and closes them
ENDS: set[Connection] = set()


class Pool:
    """Processes that do jobs. One that is asked for later may be done before."""

    def __init__(self, processes: Sequence[tuple[Any, Connection]]) -> None:
        self.processes = {connection: process for process, connection in processes}
        self.sent: dict[Connection, deque[int]] = {each: deque() for each in self.processes}
        self.results: dict[int, tuple[Any, Exception | None]] = {}
        self.number = itertools.count()

    def submit(self, work: Callable, job: object) -> int:
        """Send `work(job)` to the process that has the least to do; return the job's number.

        Raises:
            TemporaryError: if that process was killed.
        """
        connection = min(self.sent, key=lambda each: len(self.sent[each]))
        number, message = next(self.number), pickle.dumps((work, job))
        with self._ended(connection):
            connection.send_bytes(message)
        self.sent[connection].append(number)
        return number

    def done(self, number: int) -> bool:
        """Whether a job is done."""
        self._take(0)
        return number in self.results

    def result(self, number: int) -> Any:
        """Wait for a job, and return its result, once.

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
        """Read the results that are there, or wait for one."""
        busy = [connection for connection, numbers in self.sent.items() if numbers]
        assert busy or timeout is not None, "no such job"
        for connection in wait(busy, timeout):
            assert isinstance(connection, Connection)
            with self._ended(connection):
                message = connection.recv_bytes()
            self.results[self.sent[connection].popleft()] = pickle.loads(message)

    @contextmanager
    def _ended(self, connection: Connection) -> Iterator[None]:
        """Say what the end of a process's pipe means."""
        try:
            yield
        except (EOFError, OSError):
            process = self.processes[connection]
            process.join(5)
            if process.exitcode == -signal.SIGTERM:  # the program gets it, too, if it has not yet
                raise Ended from None
            if process.exitcode == -signal.SIGKILL:
                what = "was killed, perhaps because the memory was used up"
                advice = "with fewer --processes or more memory"
            else:
                what = f"ended with status {process.exitcode}"
                advice = "when what it said above is mended"
            raise TemporaryError(
                f"a process that shared the work {what}; run the same command again, {advice}: finished work is kept"
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
    started: list[tuple[Any, Connection]] = []
    ends: list[Connection] = []  # also of one that SIGTERM finds between its start and the list
    try:
        for _ in range(processes):
            here, there = context.Pipe()
            ends.append(here)
            ENDS.add(here)
            process = context.Process(target=_serve, args=(there, begin), daemon=True)  # type: ignore[attr-defined]
            process.start()
            there.close()
            started.append((process, here))
        yield Pool(started)
    finally:
        for here in ends:
            here.close()
            ENDS.discard(here)
        for process, _ in started:
            process.join()


def _serve(there: Connection, begin: Callable[[], object]) -> None:
    """Do jobs until the other end is closed."""
    for end in ENDS:  # of a fork: else it would keep them open
        end.close()
    # not the program's handlers: in Python, they miss a signal that comes as a wait begins
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    begin()
    jobs: SimpleQueue[tuple[Callable, object] | None] = SimpleQueue()
    # what is sent ahead is read at once: the program must not wait until a job is done
    threading.Thread(target=_read, args=(there, jobs), daemon=True).start()
    with suppress(ConnectionError):
        while (job := jobs.get()) is not None:
            there.send_bytes(_answer(*job))


def _read(there: Connection, jobs: SimpleQueue) -> None:
    """Put the jobs that come into a queue, and None at the end."""
    try:
        while True:
            message = there.recv_bytes()
            try:
                jobs.put(pickle.loads(message))
            except Exception as error:
                jobs.put((_refuse, error))
    except (EOFError, OSError):
        jobs.put(None)


def _refuse(error: Exception) -> None:
    raise error


def _answer(work: Callable, job: object) -> bytes:
    """The pickle of (result, None), or of (None, error)."""
    try:
        return pickle.dumps((work(job), None))
    except Exception as error:
        said = traceback.format_exc()
        error.add_note(said)  # its traceback does not pass
        try:
            message = pickle.dumps((None, error))
            pickle.loads(message)
        except Exception:  # some errors cannot be sent
            return pickle.dumps((None, RuntimeError(said)))
        return message


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
