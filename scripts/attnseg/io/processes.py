"""Work shared by several processes, which end with their program however it ends.

Each has a pipe of its own and a thread here that waits for it. So whatever kills a process, at whatever
moment, is seen as the end of its pipe: nothing is waited for for ever, as in multiprocessing.Pool, and in
concurrent.futures if one is killed while it sends a long result.
"""

import itertools
import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing.connection import Connection
from queue import SimpleQueue
from typing import TypeVar

from attnseg.errors import TemporaryError

Job = TypeVar("Job")
Result = TypeVar("Result")
WAITING = 4  # results of each process that wait to be taken


@contextmanager
def pool(
    processes: int, method: str, begin: Callable[[], object] = int
) -> Iterator[Callable[..., Future]]:
    """Processes for a block, which is given `submit(work, job)`, as of an executor.

    When the block ends, also by an error or SIGTERM, what is at work is finished, and nothing new begun.

    Args:
        method: "fork" spares them the imports; "spawn" where torch may have threads or a GPU, as a fork of
            these may hang.
        begin: called by each process first, as to take one thread where it uses torch.

    Raises:
        TemporaryError: as the result of a job whose process was killed.
    """
    context = multiprocessing.get_context(method)
    started, idle = [], SimpleQueue[Connection]()
    for _ in range(processes):
        here, there = context.Pipe()
        process = context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(here, there, begin), daemon=True
        )
        process.start()
        there.close()
        started.append((process, here))
        idle.put(here)
    threads = ThreadPoolExecutor(processes)
    try:
        yield lambda work, job: threads.submit(_ask, idle, work, job)
    finally:
        threads.shutdown(cancel_futures=True)
        for _, here in started:  # all before any is waited for: a fork holds those of earlier ones
            here.close()
        for process, _ in started:
            process.join()


def _ask(idle: SimpleQueue, work: Callable[[Job], Result], job: Job) -> Result:
    """Let a process that is idle do a job."""
    connection = idle.get()
    try:
        connection.send((work, job))
        result, error = connection.recv()
    except (EOFError, OSError):
        raise TemporaryError(
            "a process that shared the work was killed, perhaps because the memory was used up; run the same "
            "command again, with fewer --processes or more memory: finished work is kept"
        ) from None
    finally:
        idle.put(connection)
    if error is not None:
        raise error
    return result


def _serve(here: Connection, there: Connection, begin: Callable[[], object]) -> None:
    """Do jobs until the other end is closed."""
    here.close()
    # not the program's handlers: in Python, they miss a signal that comes as a wait begins
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    begin()
    with suppress(EOFError, ConnectionError):
        while True:
            there.send(_answer(*there.recv()))


def _answer(
    work: Callable[[Job], Result], job: Job
) -> tuple[Result, None] | tuple[None, Exception]:
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
    waiting: deque[Future] = deque()
    with pool(processes, method, begin) as submit:
        while some := list(itertools.islice(jobs, chunk)):
            waiting.append(submit(partial(_each, work), some))
            while len(waiting) > WAITING * processes or (waiting and waiting[0].done()):
                yield from waiting.popleft().result()
        while waiting:
            yield from waiting.popleft().result()


def _each(work: Callable[[Job], Result], jobs: list[Job]) -> list[Result]:
    return [work(job) for job in jobs]
