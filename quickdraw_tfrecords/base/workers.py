"""Worker processes that end cleanly, however the run ends: a pool, or one per generator."""

import contextlib
import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent import futures
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import connection
from typing import Any, TypeVar

from quickdraw_tfrecords.base.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

_context = multiprocessing.get_context("spawn")  # a fork would copy our threads' locks


@contextlib.contextmanager
def pool(count: int) -> Iterator[futures.ProcessPoolExecutor]:
    """A pool of `count` processes; after an error, tasks that have not begun are dropped.

    Raises:
      DataError: A worker process died.
    """
    executor = futures.ProcessPoolExecutor(
        count,
        mp_context=_context,
        initializer=_start_worker,
    )
    with _sigint_ignored():  # by the workers too, which inherit it: the parent ends the pool
        for _ in range(count):  # a task each starts them now, while the caller gets ready
            executor.submit(os.getpid)
    try:
        yield executor
        _kill(executor)
    except BrokenProcessPool:
        raise DataError(
            "a worker process died, perhaps because memory ran out; run the same command again "
            "with fewer --workers, it resumes where it stopped"
        ) from None
    finally:
        executor.shutdown(wait=True, cancel_futures=True)


def _kill(executor: futures.ProcessPoolExecutor) -> None:
    """Ends workers that have no work left.

    Waiting for them to end by themselves may take forever: if one of them has been killed, it
    may have held the lock under which the others wait for work.
    """
    for process in list(executor._processes.values()):
        process.kill()


def count(executor: futures.Executor) -> int:
    """How many tasks a pool works on at the same time; of a cluster's, at this moment."""
    workers: int = executor._max_workers  # type: ignore[attr-defined]  # missing in typeshed
    return workers


def bounded_map(
    executor: futures.Executor,
    function: Callable[[Item], Result],
    items: Iterable[Item],
) -> Iterator[Result]:
    """Results as they come; only a few items are drawn and held ahead of the workers.

    What the function holds is unpickled once in each worker, not with every item.
    """
    pickled = pickle.dumps(function)
    pending: set[futures.Future[Result]] = set()
    for item in items:
        pending.add(executor.submit(_call, pickled, item))
        if len(pending) >= 2 * count(executor):  # one in work and one waiting for each worker
            done, pending = futures.wait(pending, return_when=futures.FIRST_COMPLETED)
            yield from (future.result() for future in done)
    yield from (future.result() for future in futures.as_completed(pending))


class _Unpickled(threading.local):
    """The function that a worker has last; a worker of a cluster may be a thread of a process."""

    pickled: bytes = b""
    function: Callable[[Any], Any]


_last = _Unpickled()


def _call(pickled: bytes, item: Any) -> Any:
    if _last.pickled != pickled:
        _last.pickled, _last.function = pickled, pickle.loads(pickled)
    return _last.function(item)


class RemoteGenerator:
    """A generator in a process of its own, paused at each value until it is resumed.

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
        """What becomes readable when there is something to receive."""
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
                "a worker process died, perhaps because memory ran out; run the same command "
                "again, it resumes where it stopped"
            ) from None
        if isinstance(value, Exception):
            raise value
        return value

    def resume(self) -> None:
        """Lets the generator run to its next value."""
        with contextlib.suppress(ConnectionError):  # if it died, `receive` will say so
            self._pipe.send(None)

    def kill(self) -> None:
        """Ends the process wherever it is."""
        self._process.kill()
        self._process.join()
        self._pipe.close()


def _generate(
    pipe: connection.Connection, function: Callable[..., Iterator[Any]], args: tuple[object, ...]
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
    # A thread, because the worker's main thread waits for tasks in a call that nothing interrupts.
    threading.Thread(target=_die_with_parent, daemon=True).start()


def _die_with_parent() -> None:
    """Ends this worker with its parent: if that is killed, no work would ever come."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        connection.wait([parent.sentinel])
        os._exit(1)
