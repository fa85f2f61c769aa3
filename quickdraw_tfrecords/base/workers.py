"""Worker processes that end cleanly, whatever ends the run: a pool, or one for each generator."""

import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

from quickdraw_tfrecords.base.errors import DataError

T = TypeVar("T")

_context = multiprocessing.get_context("spawn")  # a fork would copy our threads' locks


@contextlib.contextmanager
def pool(count: int) -> Iterator[futures.Executor]:
    """`count` processes; on an error, jobs not yet begun are dropped.

    Raises:
      DataError: A worker process died.
    """
    executor = futures.ProcessPoolExecutor(
        count,
        mp_context=_context,
        initializer=_start_worker,
    )
    with _sigint_ignored():  # by the workers too, which inherit it: the parent ends the pool
        for _ in range(count):  # a job each starts them now, beside what the caller does first
            executor.submit(os.getpid)
    try:
        yield executor
        _kill(executor)
    except BrokenProcessPool:
        raise DataError(
            "a worker process died, perhaps for want of memory; run the same command again "
            "with fewer --workers, it goes on where it stopped"
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _kill(executor: futures.Executor) -> None:
    """Ends workers that have no work left.

    To let them end by themselves may take forever: if one of them has been killed, it may
    have held the lock under which the others wait for work.
    """
    for process in list(executor._processes.values()):
        process.kill()


def count(executor: futures.Executor) -> int:
    """How many processes a pool has."""
    return executor._max_workers


def bounded_map(
    executor: futures.Executor, function: Callable[[Any], T], items: Iterable[Any]
) -> Iterator[T]:
    """Results as they come; only a few items are drawn and held ahead of the workers."""
    limit = 2 * count(executor)
    pending: set[futures.Future] = set()
    for item in items:
        pending.add(executor.submit(function, item))
        if len(pending) == limit:
            done, pending = futures.wait(pending, return_when=futures.FIRST_COMPLETED)
            yield from (future.result() for future in done)
    yield from (future.result() for future in futures.as_completed(pending))


class RemoteGenerator:
    """A generator in a process of its own, paused at each value until it may go on.

    Several can be waited for with `multiprocessing.connection.wait`.
    """

    def __init__(self, function: Callable[..., Iterator[Any]], *args: object) -> None:
        """Starts a process that runs `function(*args)` up to its first value."""
        self._pipe, pipe = _context.Pipe()
        self._process = _context.Process(target=_generate, args=(pipe, function, args))
        with _sigint_ignored():  # by the process too, which its parent kills
            self._process.start()
        pipe.close()

    def fileno(self) -> int:
        """What is ready to be read when there is something to receive."""
        return self._pipe.fileno()

    def receive(self) -> Any:
        """The next value; None at the end.

        Raises:
          Exception: What the generator raised.
          DataError: The process died.
        """
        try:
            value = self._pipe.recv()
        except (EOFError, ConnectionError):
            raise DataError(
                "a worker process died, perhaps for want of memory; run the same command "
                "again, it goes on where it stopped"
            ) from None
        if isinstance(value, Exception):
            raise value
        return value

    def go_on(self) -> None:
        """Lets the generator run to its next value."""
        with contextlib.suppress(ConnectionError):  # If it died, `receive` will say so.
            self._pipe.send(None)

    def kill(self) -> None:
        """Ends the process wherever it is."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _generate(
    pipe: connection.Connection, function: Callable[..., Iterator[Any]], args: tuple
) -> None:
    _start_worker()
    try:
        for value in function(*args):
            pipe.send(value)
            pipe.recv()
        pipe.send(None)
    except Exception as error:  # whatever it is, the parent raises it
        pipe.send(error)


@contextlib.contextmanager
def _sigint_ignored() -> Iterator[None]:
    handler = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


def _start_worker() -> None:
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """A worker whose parent is killed would wait for work forever."""
    connection.wait([multiprocessing.parent_process().sentinel])
    os._exit(1)
