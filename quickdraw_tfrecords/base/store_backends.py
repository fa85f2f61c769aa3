"""How a store is asked: by fsspec's file systems; `store_kinds` has those that need more.

A backend tries once, and raises what its library does. `stores` is in front of it, and tries again.
"""

import dataclasses
from typing import Any, NamedTuple

from quickdraw_tfrecords.base.errors import UsageError

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


class Backend:
    """Any of fsspec's asynchronous file systems.

    Args:
      scheme: What URLs begin with.
      login: Who asks; None: what the library finds in the environment.
      **options: Of the file system.

    Attributes:
      files: The file system.
      errors: What it raises if something is wrong outside of this program.
      passing: Those of them that may have gone by the next attempt.
      denials: Those that say that credentials are missing or wrong.
      answered: The hosts or buckets from which an answer has come.
    """

    errors: tuple[type[Exception], ...] = (OSError,)
    passing: tuple[type[Exception], ...] = (OSError,)
    denials: tuple[type[Exception], ...] = (PermissionError,)

    def __init__(self, scheme: str, login: Login | None, **options: Any) -> None:
        import fsspec  # here, because reading local files should not wait for it

        if login and not options:
            raise UsageError(f"{scheme}://: takes no user name; put credentials in the environment")
        # Listings that are kept would show what was there, and not what is.
        self.files = fsspec.filesystem(
            scheme, use_listings_cache=False, skip_instance_cache=True, **options
        )
        self.answered: set[str] = set()

    async def read(self, path: str, start: int, stop: int | None, tag: str) -> Buffer:
        """Bytes [start, stop) of an object that is to have a tag, unless that is "".

        Raises:
          ChangedError: It has another.
        """
        data: bytes = await self.files._cat_file(path, start=start or None, end=stop)
        if tag and (await self.info(path)).tag != tag:
            raise ChangedError
        return data

    async def info(self, path: str) -> Entry:
        """What is known of an object.

        Raises:
          FileNotFoundError: There is none.
        """
        found = await self.files._info(path)
        if found["type"] != "file":
            raise FileNotFoundError(path)
        return _entry(found)

    async def list(self, path: str) -> dict[str, Entry]:
        """All objects below a folder, by their names in it; none if there is no such folder."""
        found = await self.files._find(path, detail=True)
        start = len(path) + 1
        return {name[start:]: _entry(facts) for name, facts in sorted(found.items())}

    async def write(self, path: str, data: bytes) -> Entry:
        """Puts an object: it is there as a whole, or not at all."""
        await self.files._pipe_file(path, data)
        return await self.info(path)

    async def create(self, path: str, data: bytes) -> bool:
        """Puts an object, unless there is one; says whether it did."""
        try:
            await self.files._pipe_file(path, data, mode="create")
        except FileExistsError:
            return False
        return True

    async def delete(self, path: str) -> None:
        """Deletes an object that may be there."""
        await self.files._rm_file(path)


class ChangedError(Exception):
    """An object has another tag than it should."""


def http_status(error: Exception) -> int | None:
    """The status that a server answered with, whichever library it was that asked."""
    response = getattr(error.__cause__, "response", None) or {}
    found = (
        response.get("ResponseMetadata", {}).get("HTTPStatusCode") if response else None,
        getattr(error, "status", None),  # of aiohttp
        getattr(error, "code", None),  # of gcsfs
    )
    return next((number for number in found if isinstance(number, int)), None)


def _entry(found: dict[str, Any]) -> Entry:
    tag = found.get("ETag") or found.get("etag") or found.get("generation") or ""
    return Entry(int(found["size"]), str(tag or found.get("mtime") or ""))
