"""How a store is asked: what `stores` needs of every kind; `store_kinds` knows which there are.

A backend tries once, and raises what its library does. `stores` is in front of it, and tries again.
"""

import abc
import dataclasses
from typing import Any, BinaryIO, NamedTuple

Buffer = bytes | memoryview


class Entry(NamedTuple):
    """An object in a store.

    Attributes:
      size: In bytes.
      tag: What the store has to tell one version from another, as a rule an ETag; "" if nothing.
    """

    size: int
    tag: str


@dataclasses.dataclass(frozen=True)
class Login:
    """Who asks, if the URL says so; it is shown nowhere."""

    user: str = dataclasses.field(repr=False)
    password: str = dataclasses.field(repr=False)


class Backend(abc.ABC):
    """One of fsspec's asynchronous file systems, and what it takes to make it ask.

    Args:
      scheme: What URLs begin with.
      **options: Of the file system.

    Attributes:
      files: The file system.
      errors: What is raised if something is wrong outside of this program.
      passing: Those of them that may have gone by the next attempt.
      denials: Those that say that credentials are missing or wrong.
      credentials: What to check after a denial.
      authorities: The environment's variable that says whose certificates are trusted.
      answered: The hosts or buckets from which an answer has come.
    """

    errors: tuple[type[Exception], ...]
    passing: tuple[type[Exception], ...]
    denials: tuple[type[Exception], ...] = (PermissionError,)
    credentials: str = "the credentials in the environment"
    authorities: str = "SSL_CERT_FILE"

    def __init__(self, scheme: str, **options: Any) -> None:
        import fsspec  # here, because reading local files should not wait for it

        # Listings that are kept would show what was there, and not what is.
        self.files = fsspec.filesystem(
            scheme, use_listings_cache=False, skip_instance_cache=True, **options
        )
        self.answered: set[str] = set()

    @abc.abstractmethod
    async def read(self, path: str, start: int, stop: int | None, tag: str) -> Buffer:
        """Bytes [start, stop) of an object that is to have a tag, unless that is "".

        Raises:
          ChangedError: It has another, and the server did not say so by its status.
        """

    @abc.abstractmethod
    async def info(self, path: str) -> Entry:
        """What is known of an object.

        Raises:
          FileNotFoundError: There is none.
        """

    @abc.abstractmethod
    async def list(self, path: str) -> dict[str, Entry]:
        """All objects below a folder, by their names in it; none if there is no such folder."""

    @abc.abstractmethod
    async def write(self, path: str, content: BinaryIO) -> Entry:
        """Puts an object, a little of it at a time: it is there as a whole, or not at all."""

    @abc.abstractmethod
    async def create(self, path: str, data: bytes) -> bool:
        """Puts an object, unless there is one; says whether it did."""

    @abc.abstractmethod
    async def delete(self, path: str) -> None:
        """Deletes an object that may be there; may raise a FileNotFoundError if it is not."""


class ChangedError(Exception):
    """An object has another tag than it should."""


def http_status(error: Exception) -> int | None:
    """The status that a server answered with, whichever library it was that asked."""
    response = getattr(error.__cause__, "response", None) or {}
    found = (
        response.get("ResponseMetadata", {}).get("HTTPStatusCode") if response else None,
        getattr(error, "status", None),  # of aiohttp, and of our own
        getattr(error, "code", None),  # of gcsfs
    )
    return next((number for number in found if isinstance(number, int)), None)
