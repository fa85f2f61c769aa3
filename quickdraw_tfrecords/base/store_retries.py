"""Asking a store until it answers, and saying in one line why it did not."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar
from urllib.parse import urlsplit

from quickdraw_tfrecords.base.errors import DataError, MissingError
from quickdraw_tfrecords.base.store_backends import Backend, ChangedError, http_status

ATTEMPTS = 8
FIRST_ATTEMPTS = 3  # at a store that has never answered: most likely it never will
BACKOFF_SECS = 0.5
MAX_WAIT_SECS = 32.0
ATTEMPT_SECS = 600.0  # however slowly it comes

_DENIED = (401, 403)
_OTHER_VERSION = (412, 416)  # another tag, or a range that the object does not have
_BUSY = (408, 409, 429)  # of the 400s, those that are worth another try
_REASON_LENGTH = 200

_T = TypeVar("_T")


async def retry(url: str, backend: Backend, attempt: Callable[[Backend], Awaitable[_T]]) -> _T:
    """Tries until it is done, each time after a longer wait.

    Args:
      url: What is asked for, for the error.
      backend: Whom to ask.
      attempt: Asks once.

    Raises:
      MissingError: It is not there.
      DataError: It failed too often, or for a reason that will not pass.
    """
    failures, host = 0, urlsplit(url).netloc
    caught: tuple[type[Exception], ...] = (*backend.errors, ChangedError)
    while True:
        try:
            result = await asyncio.wait_for(attempt(backend), ATTEMPT_SECS)
        except caught as error:
            failures += 1
            if http_status(error) is not None:
                backend.answered.add(host)
            attempts = ATTEMPTS if host in backend.answered else FIRST_ATTEMPTS
            if reason := _final(error, backend, failures, attempts):
                kind = MissingError if isinstance(error, FileNotFoundError) else DataError
                raise kind(f"{url}: {reason}") from None
        else:
            backend.answered.add(host)
            return result
        longest = min(MAX_WAIT_SECS, BACKOFF_SECS * 2 ** (failures - 1))
        await asyncio.sleep(random.uniform(longest / 2, longest))  # or all would return at once


def _final(error: Exception, backend: Backend, failures: int, attempts: int) -> str | None:
    """Why there is no point in another attempt, and what to do; None if there is one."""
    status, words = http_status(error), _words(error)
    if isinstance(error, FileNotFoundError):
        return f"missing ({words})"
    if complaint := _distrust(error):
        return (
            f"its certificate is refused ({complaint}); "
            f"{backend.authorities} names the file of the authorities that are trusted"
        )
    if isinstance(error, ChangedError) or status in _OTHER_VERSION:
        return "has changed since it was opened; run the same command again"
    if isinstance(error, backend.denials) or status in _DENIED:
        return f"access denied ({words}); check {backend.credentials}"
    is_refusal = status is not None and 400 <= status < 500 and status not in _BUSY
    if not isinstance(error, backend.passing) or (
        is_refusal and not isinstance(error, TimeoutError)
    ):
        return words
    if failures < attempts:
        return None
    return f"{words} ({failures} attempts); check the network, and run the same command again"


def _distrust(error: BaseException | None) -> str:
    """What is wrong with a certificate, if an error is about one, in whatever it is wrapped."""
    while error:
        if complaint := getattr(error, "verify_message", ""):  # of an SSLCertVerificationError
            return str(complaint)
        error = error.__cause__ or error.__context__
    return ""


def _words(error: Exception) -> str:
    """What the library says of it, in one line."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    if isinstance(status := getattr(error, "status", None), int) and hasattr(error, "message"):
        text = f"HTTP {status} {error.message}"  # of aiohttp, which repeats the URL
    return " ".join(text.split()).removesuffix(".")[:_REASON_LENGTH]
