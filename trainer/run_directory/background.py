"""Writing while the training goes on."""

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor


class BackgroundWriter:
    """Calls one function at a time in a thread of its own; a context that ends when all is done.

    An error of the function is raised by whichever method here is called next.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="writer")
        self._pending: Future[None] | None = None

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._thread.shutdown()
        if kind is None:
            self.wait()

    @property
    def is_busy(self) -> bool:
        """Whether something is being written."""
        return self._pending is not None and not self._pending.done()

    def start(self, write: Callable[[], None]) -> None:
        """Begins to write, once what was begun before is done."""
        self.wait()
        self._pending = self._thread.submit(write)

    def wait(self) -> None:
        """Waits until nothing is being written."""
        pending, self._pending = self._pending, None
        if pending:
            pending.result()
