"""Responses to requests for byte ranges, checked as if the server meant harm.

https://www.rfc-editor.org/rfc/rfc9110.html#name-range-requests
"""

import http.client
import re
from typing import NamedTuple

from quickdraw_tfrecords.base.errors import DataError

_MAX_RETRY_AFTER_SECS = 120
_TRANSIENT_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
_CHANGED_STATUSES = frozenset({412, 416})
_NUMBER = "[0-9]{1,18}"  # without a limit, Python refuses numbers of thousands of digits
_CONTENT_RANGE = re.compile(f"bytes ({_NUMBER})-({_NUMBER})/({_NUMBER})")
_SHOWN_CHARS = 200  # of what a server says


class ContentRange(NamedTuple):
    """Bytes [start, stop) of a file of `size_bytes` (RFC 9110, section 14.4)."""

    start: int
    stop: int
    size_bytes: int


class TransientError(http.client.HTTPException):
    """A response that may be better at the next attempt."""

    def __init__(self, reason: str, retry_after_secs: float = 0) -> None:
        super().__init__(reason)
        self.retry_after_secs = retry_after_secs


def require_partial_content(url: str, response: http.client.HTTPResponse) -> None:
    """Checks that a response to a request for a range is one.

    Raises:
      TransientError: The server may be able to answer later.
      DataError: It never will; says what to do.
    """
    status = response.status
    if status in _TRANSIENT_STATUSES:
        raise TransientError(f"HTTP status {status}", _retry_after_secs(response))
    if status == 200:
        raise DataError(
            f"{url}: the server sends whole files only, not byte ranges; name another with "
            "--base_url, or fetch the files by other means and use --source=numpy_bitmap"
        )
    if status in _CHANGED_STATUSES:
        raise changed(url)
    if location := response.headers.get("Location"):
        raise DataError(
            f"{url}: has moved to {printable(location)} (HTTP status {status}); name the folder "
            "it is in now with --base_url"
        )
    if status != 206:
        missing = "there is no such file" if status in (404, 410) else "the server refuses it"
        raise DataError(f"{url}: {missing} (HTTP status {status}); check --classes and --base_url")
    if response.chunked:
        # Chunks and their trailers have no bounds, and http.client reads them without any.
        raise DataError(
            f"{url}: the server does not say how long its answers are; name another with --base_url"
        )


def _retry_after_secs(response: http.client.HTTPResponse) -> int:
    value = response.headers.get("Retry-After", "")
    return min(int(value), _MAX_RETRY_AFTER_SECS) if re.fullmatch(_NUMBER, value) else 0


def read_content_range(response: http.client.HTTPResponse) -> ContentRange:
    """What a response says that it holds.

    Raises:
      TransientError: It says nothing, or contradicts itself.
    """
    header = response.headers.get("Content-Range", "")
    match = _CONTENT_RANGE.fullmatch(header)
    if not match:
        raise TransientError(f"Content-Range is {header[:60]!r}, not such as 'bytes 0-783/1000'")
    start, last, size_bytes = map(int, match.groups())
    if response.length not in (None, last + 1 - start):
        raise TransientError(f"Content-Range is {header!r}, but the body has another length")
    return ContentRange(start, last + 1, size_bytes)


def require_range(found: ContentRange, start: int, stop: int) -> None:
    """Raises a `TransientError` if other bytes came than [start, stop)."""
    if (found.start, found.stop) != (start, stop):
        raise TransientError(f"bytes [{found.start}, {found.stop}) came for [{start}, {stop})")


def read_version(response: http.client.HTTPResponse) -> str:
    """The version of a file, see `RemoteFile`."""
    return response.headers.get("ETag") or response.headers.get("Last-Modified") or ""


def read_piece(response: http.client.HTTPResponse, size: int) -> bytes:
    """Reads the next bytes of a body.

    Raises:
      TransientError: There are fewer.
    """
    piece = response.read(size)
    if len(piece) != size:
        raise TransientError("the connection was closed in mid-body")
    return piece


def printable(text: str) -> str:
    """What a server says, without characters that mean something to a terminal."""
    shown = text if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]}..."
    return "".join(char if char.isprintable() else "?" for char in shown)


def changed(url: str) -> DataError:
    """The error for a file of which one version was begun and another came."""
    return DataError(
        f"{url}: the file changed on the server while it was being fetched; run the same "
        "command again: it starts this class over"
    )
