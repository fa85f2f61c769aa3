"""Large ranges of bytes over HTTP, straight into memory, by threads of the standard library.

The libraries for object stores read in one thread, and copy what they have read: on a fast network
that thread is what limits them. A thread that waits in `recv_into` costs next to nothing.
"""

import asyncio
import functools
import http.client
import re
import ssl
import threading
import urllib.request
from collections.abc import Mapping
from concurrent import futures
from urllib.parse import SplitResult, urlsplit

from quickdraw_tfrecords.base.buffers import Buffers
from quickdraw_tfrecords.base.store_backends import ChangedError

_CODE = re.compile(rb"<Code>(\w+)</Code>")
_MAX_ERROR_BYTES = 4096


class AnswerError(OSError):
    """A server's answer is an error.

    Attributes:
      status: The answer's.
    """

    def __init__(self, status: int, words: str) -> None:
        super().__init__(words)
        self.status = status


class RedirectError(Exception):
    """A server's answer is that another should be asked."""


class RangeRequests:
    """Gets ranges of files of a few servers, each with as many connections as there are threads.

    Args:
      threads: How many requests are made at a time.
      stall_secs: How long a server may be silent.
      cafile: The certificates to trust; None: the system's.
    """

    def __init__(self, threads: int, *, stall_secs: float, cafile: str | None = None) -> None:
        self._threads = futures.ThreadPoolExecutor(threads, thread_name_prefix="ranges")
        self._stall_secs = stall_secs
        self._tls = ssl.create_default_context(cafile=cafile)
        self._local = threading.local()
        self._buffers = Buffers()

    @staticmethod
    def can_reach(url: str) -> bool:
        """Whether no proxy is on the way, with which this does not speak."""
        return _is_direct(*urlsplit(url)[:2])

    async def get(
        self,
        url: str,
        headers: Mapping[str, str],
        expected: Mapping[str, str],
        start: int,
        stop: int,
    ) -> memoryview:
        """Bytes [start, stop) of a file.

        Args:
          url: Where it is.
          headers: To send.
          expected: What headers of the answer are to have in them, if they are there.
          start: The first byte.
          stop: The one after the last.

        Raises:
          ChangedError: A header does not.
          FileNotFoundError: There is none.
          AnswerError: The answer is another error.
          RedirectError: The answer is not from here.
          OSError, http.client.HTTPException: There is no whole answer.
        """
        loop = asyncio.get_running_loop()
        headers = {**headers, "Range": f"bytes={start}-{stop - 1}"}
        return await loop.run_in_executor(
            self._threads, self._get, url, stop - start, headers, expected
        )

    def _get(
        self, url: str, size: int, headers: Mapping[str, str], expected: Mapping[str, str]
    ) -> memoryview:
        parts = urlsplit(url)
        connection = self._connection(parts)
        try:
            answer = _ask(connection, parts, headers)
            if answer.status != http.HTTPStatus.PARTIAL_CONTENT:
                _raise(answer)
            if any(part not in answer.getheader(name, part) for name, part in expected.items()):
                raise ChangedError
            if answer.length != size:
                raise ConnectionError(f"{answer.length} of {size:,} bytes came")
            data = self._buffers.take(size).data
            _read_into(answer, data)
        except BaseException:
            connection.close()  # or the rest of this body would precede the next answer
            raise
        return data

    def _connection(self, parts: SplitResult) -> http.client.HTTPConnection:
        """The thread's own to a server; it is kept from request to request."""
        kept: dict[str, http.client.HTTPConnection] = self._local.__dict__
        key = f"{parts.scheme}://{parts.netloc}"
        if key not in kept:
            if parts.scheme == "https":
                kept[key] = http.client.HTTPSConnection(
                    parts.netloc, timeout=self._stall_secs, context=self._tls
                )
            else:
                kept[key] = http.client.HTTPConnection(parts.netloc, timeout=self._stall_secs)
        return kept[key]


@functools.lru_cache
def _is_direct(scheme: str, netloc: str) -> bool:
    is_bypassed = urllib.request.proxy_bypass(netloc)
    return bool(is_bypassed) or scheme not in urllib.request.getproxies()


def _ask(
    connection: http.client.HTTPConnection, parts: SplitResult, headers: Mapping[str, str]
) -> http.client.HTTPResponse:
    target = parts.path + (f"?{parts.query}" if parts.query else "")
    was_open = connection.sock is not None
    try:
        connection.request("GET", target, headers=dict(headers))
        return connection.getresponse()
    except (ConnectionError, http.client.BadStatusLine):
        connection.close()
        if not was_open:
            raise
    # The server has closed a connection that was not used for a while.
    connection.request("GET", target, headers=dict(headers))
    return connection.getresponse()


def _read_into(answer: http.client.HTTPResponse, view: memoryview) -> None:
    size = len(view)
    while view:
        count = answer.readinto(view)
        if not count:
            raise ConnectionError(f"{size - len(view):,} of {size:,} bytes came")
        view = view[count:]


def _raise(answer: http.client.HTTPResponse) -> None:
    status, words = answer.status, f"HTTP {answer.status} {answer.reason}"
    if 300 <= status < 400 or status == http.HTTPStatus.OK:
        raise RedirectError(words)
    if found := _CODE.search(answer.read(_MAX_ERROR_BYTES)):
        words += f", {found[1].decode()}"
    if status == http.HTTPStatus.NOT_FOUND:
        raise FileNotFoundError(words)
    raise AnswerError(status, words)
