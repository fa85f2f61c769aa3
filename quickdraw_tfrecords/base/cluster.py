"""Workers elsewhere: those of a Dask cluster, in place of the processes of `workers.pool`.

A task whose worker dies is given to another one. A worker that was only thought to be dead may
still be at it, so whatever runs here may run twice, even at the same time, and even when the
command that sent it has ended: it must do no harm then.
"""

import contextlib
import ctypes
import functools
import logging
import pickle
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from quickdraw_tfrecords.base import cli
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.lazy_imports import keep_to_their_thread
from quickdraw_tfrecords.base.version import __version__

if TYPE_CHECKING:
    from distributed import Client

_CONNECT_SECS = 10
_LOOK_SECS = 1.0
_PATIENCE_SECS = 10.0  # without a worker, before that is said
_RESUMES = "run the same command again, it resumes where it stopped"
_PACKAGE = "quickdraw_tfrecords"
# The bytes of a data set follow from both: NumPy's random numbers may change with its version.
_VERSIONS = {_PACKAGE: __version__, "numpy": np.__version__}

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h


@contextlib.contextmanager
def pool(address: str) -> "Iterator[ClusterPool]":
    """The workers of a cluster; when it ends, tasks that have not begun are dropped.

    Args:
      address: Of its scheduler, such as tcp://host:8786.

    Raises:
      UsageError: There is no scheduler, or what speaks to it is not installed.
      DataError: The scheduler has gone away, one task has ended several workers, or a worker
        has other versions than this process.
    """
    keep_to_their_thread()  # since answers come to others
    client = _connect(address)
    from distributed.client import ClosedClientError
    from distributed.scheduler import KilledWorker

    executor = ClusterPool(client, address)
    try:
        yield executor
    except (futures.CancelledError, ClosedClientError):
        raise DataError(f"--scheduler={address}: it went away; {_RESUMES}") from None
    except KilledWorker as error:
        raise DataError(
            f"{error.allowed_failures + 1} workers died of the same work, the last was "
            f"{error.last_worker.address}: perhaps memory ran out; {_RESUMES}"
        ) from None
    except ImportError as error:
        if error.name != _PACKAGE:
            raise
        raise DataError(str(error)) from None
    finally:
        executor.shutdown()


def _connect(address: str) -> "Client":
    try:
        from distributed import Client
    except ImportError:
        raise UsageError(
            f"--scheduler={address}: needs Dask: pip install 'quickdraw-tfrecords[dask]'"
        ) from None
    # What matters is said in one line, by us.
    for name in ("distributed", "distributed.client", "tornado.application"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        return Client(address, timeout=_CONNECT_SECS, set_as_default=False)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"--scheduler={address}: no Dask scheduler there: {reason}") from None


class ClusterPool(futures.Executor):
    """Gives tasks to the workers of a cluster, and counts these, since some come and some go."""

    def __init__(self, client: "Client", address: str) -> None:
        """Waits for nothing: if there are no workers yet, work begins when there are."""
        self._client, self._address = client, address
        self._executor = client.get_executor(pure=False)  # equal tasks are not one task
        self._launch = _launcher()
        self._max_workers = 1  # as `workers.count` asks
        self._ended = threading.Event()
        self._watcher = threading.Thread(target=self._watch, daemon=True)
        self._count_workers()
        self._watcher.start()

    def submit(
        self, function: Callable[..., Any], /, *args: Any, **kwargs: Any
    ) -> futures.Future[Any]:
        """See `futures.Executor.submit`."""
        task = pickle.dumps((function, args, kwargs))
        future: futures.Future[Any] = self._executor.submit(self._launch, _VERSIONS, task)
        return future

    def listen(self, topic: str, handler: Callable[[Any], None]) -> None:
        """Calls a function, in another thread, with what workers `tell`, as long as this lasts."""
        self._client.subscribe_topic(topic, lambda event: handler(event[1]))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Leaves the cluster; tasks that have begun run to their end there."""
        self._ended.set()
        self._watcher.join()
        self._client.close(timeout=_CONNECT_SECS)

    def _watch(self) -> None:
        secs_without, is_said = 0.0, False
        while not self._ended.wait(_LOOK_SECS):
            with contextlib.suppress(Exception):  # of a scheduler that is gone, others will tell
                secs_without = 0 if self._count_workers() else secs_without + _LOOK_SECS
            is_said = is_said and secs_without > 0
            if secs_without >= _PATIENCE_SECS and not is_said:
                print(f"--scheduler={self._address}: waiting for workers", file=sys.stderr)
                is_said = True

    def _count_workers(self) -> int:
        workers = sum(self._client.nthreads().values())
        self._max_workers = max(1, workers)
        return workers


def _launcher() -> Callable[[dict[str, str], bytes], Any]:
    """What runs a task in a worker of the same versions.

    It is sent as code, since it is not a module's own function. So the scheduler needs nothing
    of ours, and a worker without this package can say so.
    """

    def quickdraw(versions: dict[str, str], task: bytes) -> Any:
        import importlib

        found = {}
        for name in versions:
            try:
                found[name] = importlib.import_module(name).__version__
            except ImportError:
                found[name] = "none"
        if found != versions:
            import distributed

            differences = ", ".join(
                f"{name} {found[name]} (here it is {wanted})"
                for name, wanted in versions.items()
                if found[name] != wanted
            )
            raise ImportError(
                f"the worker {distributed.get_worker().address} has {differences}: install the "
                "same version everywhere",
                name="quickdraw_tfrecords",
            )
        return importlib.import_module("quickdraw_tfrecords.base.cluster").run(task)

    return quickdraw


def run(task: bytes) -> Any:
    """Does a task, in a worker; an error's line says of which.

    Raises:
      DataError: A file is missing, or is another one than the command sees; and others.
      UsageError: As the task does.
    """
    _keep_memory()
    try:
        function, args, kwargs = pickle.loads(task)
        return function(*args, **kwargs)
    except OSError as error:
        raise DataError(f"{cli.describe_os_error(error)} ({_here()})") from None
    except (DataError, UsageError) as error:
        raise type(error)(f"{error} ({_here()})") from None


@functools.cache
def _keep_memory() -> None:
    """Lets the C library keep freed memory for the next array, as it does by default.

    Dask tells its workers to give it back at once, which may take three quarters of their time.
    """
    with contextlib.suppress(OSError, AttributeError):  # a C library that is not GNU's
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, 32 * 2**20)
        mallopt(_M_TRIM_THRESHOLD, 64 * 2**20)


def tell(topic: str, value: float) -> None:
    """Lets who listens know something; called by a task, in a worker."""
    from distributed import get_worker

    get_worker().log_event(topic, value)


def scratch_dir() -> Path:
    """The folder that a worker was given for its files; called by a task, in the worker."""
    from distributed import get_worker

    return Path(get_worker().local_directory)


def _here() -> str:
    from distributed import get_worker

    return f"says the worker {get_worker().address} on {socket.gethostname()}"
