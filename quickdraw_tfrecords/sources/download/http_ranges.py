"""Byte ranges of files over HTTP, whatever happens on the way.

    client = RangeClient("https://host/folder")
    file, head = client.probe("https://host/folder/file.npy", 256)
    for piece in client.read(file, 80, [784, 784]):
        ...

A reset, a stall or a cut in mid-body costs only the piece it happens in: what is missing is
requested again. The standard library makes the requests. With urllib3 or requests on top of it,
each takes two to three times as long, which shows in ranges of 300 kB.
"""

import contextlib
import dataclasses
import http.client
import random
import threading
import time
from collections.abc import Generator, Iterator, Sequence

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.sources.download.http_deadline import Deadline
from quickdraw_tfrecords.sources.download.http_responses import (
    TransientError,
    changed,
    printable,
    read_content_range,
    read_piece,
    read_version,
    require_partial_content,
    require_range,
)
from quickdraw_tfrecords.sources.download.http_route import Route

_ATTEMPTS = 8
_FIRST_ATTEMPTS = 3  # at a server that has never answered: most likely it never will
_MAX_WAIT_SECS = 32.0
_STEP_STALLS = 10  # how many times `stall_secs` a step may take: a head, or a piece of 0.4 MB


@dataclasses.dataclass(frozen=True)
class RemoteFile:
    """One version of a file on a server.

    Attributes:
      url: Where it is.
      version: Its ETag, or its time of modification, or "" if the server names neither.
      size_bytes: Its size.
    """

    url: str
    version: str
    size_bytes: int


class RangeClient:
    """Reads byte ranges of the files of one server. Threads may share it.

    Each thread has its own connection, which is kept alive from request to request.

    Attributes:
      retries: How many requests have failed and been made again.
    """

    def __init__(
        self, base_url: str, *, stall_secs: float = 30.0, backoff_secs: float = 0.5
    ) -> None:
        """Makes a client; a connection is opened when it is first needed.

        Args:
          base_url: What the URLs of all files begin with. The environment names the proxy
            to it, if any: http_proxy, https_proxy, all_proxy, no_proxy.
          stall_secs: How long a server may be silent before the request is made again; it may
            take ten times as long to begin an answer, and to send a piece.
          backoff_secs: Longest wait before the first retry; doubles with each failure.

        Raises:
          UsageError: The URL, or the proxy's, is not an HTTP one.
        """
        self.retries = 0
        self._backoff_secs = backoff_secs
        self._step_secs = _STEP_STALLS * stall_secs
        self._route = Route(base_url, stall_secs)
        self._thread = threading.local()
        self._connections: list[http.client.HTTPConnection] = []
        self._answered = False
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the connections; no thread may be using one."""
        for connection in self._connections:
            connection.close()

    def probe(self, url: str, count: int) -> tuple[RemoteFile, bytes]:
        """Finds a file and reads its first `count` bytes, or all if it has fewer.

        Raises:
          DataError: There is no such file, or no way to it; says what to do.
        """
        failures = 0
        while True:
            try:
                with self._request(url, 0, count) as (response, deadline):
                    start, stop, size = read_content_range(response)
                    if (start, stop) != (0, min(count, size)):
                        raise TransientError(
                            f"bytes {start}-{stop - 1} came instead of 0-{count - 1}"
                        )
                    with deadline.within(self._step_secs):
                        head = read_piece(response, stop)
                    return RemoteFile(url, read_version(response), size), head
            except (OSError, http.client.HTTPException) as error:
                failures += 1
                self._back_off(url, failures, error)

    def read(self, file: RemoteFile, start: int, sizes: Sequence[int]) -> Generator[bytes]:
        """Reads consecutive pieces of a file, with one request unless it breaks off.

        Args:
          file: The file, as `probe` found it.
          start: Where the first piece begins, in bytes.
          sizes: The size of each piece in bytes.

        Yields:
          The pieces, whole and in order.

        Raises:
          DataError: The file has changed or is gone, or there is no way to the server.
        """
        stop, done, failures = start + sum(sizes), 0, 0
        while done < len(sizes):
            try:
                with self._request(file.url, start, stop) as (response, deadline):
                    found = read_content_range(response)
                    version = read_version(response)
                    if (version, found.size_bytes) != (file.version, file.size_bytes):
                        raise changed(file.url)
                    require_range(found, start, stop)
                    for size in sizes[done:]:
                        with deadline.within(self._step_secs):
                            piece = read_piece(response, size)
                        # Progress: what fails from here on is a new failure.
                        start, done, failures = start + size, done + 1, 0
                        yield piece
            except (OSError, http.client.HTTPException) as error:
                failures += 1
                self._back_off(file.url, failures, error)

    @contextlib.contextmanager
    def _request(
        self, url: str, start: int, stop: int
    ) -> Iterator[tuple[http.client.HTTPResponse, Deadline]]:
        connection, response = self._connection(), None
        deadline = Deadline(connection)
        try:
            with deadline.within(self._step_secs):
                self._route.request(connection, url, {"Range": f"bytes={start}-{stop - 1}"})
                deadline.hold_socket()
                response = connection.getresponse()
            self._answered = True
            require_partial_content(url, response)
            yield response, deadline
        finally:
            if response is None or not response.isclosed():
                connection.close()  # or the rest of this body would precede the next response

    def _connection(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._thread, "connection", None)
        if connection is None:
            self._thread.connection = connection = self._route.connect()
            self._connections.append(connection)
        return connection

    def _back_off(self, url: str, failures: int, error: Exception) -> None:
        """Waits before the next attempt, or raises if there have been enough."""
        if failures == (_ATTEMPTS if self._answered else _FIRST_ATTEMPTS):
            reason = getattr(error, "strerror", None) or printable(str(error))
            raise DataError(
                f"{url}: {reason} ({failures} attempts); check the network and the proxy "
                "(https_proxy, no_proxy), or name a mirror with --base_url, and run the same "
                "command again: it resumes where it stopped"
            ) from None
        with self._lock:
            self.retries += 1
        longest = min(_MAX_WAIT_SECS, self._backoff_secs * 2 ** (failures - 1))
        wait = random.uniform(longest / 2, longest)  # or all would return at once
        time.sleep(max(wait, getattr(error, "retry_after_secs", 0)))
