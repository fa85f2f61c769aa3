"""Object stores: folders at `s3://`, `gs://` and `https://` URLs, by fsspec.

    store = open_store("s3://bucket/data")
    head = store.read("manifest.json", 0, 100)
    coming = [store.begin_read(name, 0, 2**20) for name in names]  # all at the same time

Whatever fails on the way is tried again, each time after a longer wait. What remains is a
`DataError` of one line that names the object. Credentials are the libraries' business: they find
them in the environment. If a URL holds some, they are taken out of it and never shown.
"""

import contextlib
import io
import itertools
import os
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from concurrent import futures
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import unquote, urlsplit

from quickdraw_tfrecords.base.errors import DataError, MissingError, UsageError
from quickdraw_tfrecords.base.store_backends import Backend, Buffer, Entry, Login
from quickdraw_tfrecords.base.store_kinds import open_backend, require_package

_PART_BYTES = 8 * 2**20  # of a large object, that are asked for at a time
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://")

_T = TypeVar("_T")


def is_url(location: str | os.PathLike[str]) -> bool:
    """Whether it is a URL, and not a path."""
    return bool(_URL.match(os.fspath(location)))


def locate(location: "str | os.PathLike[str] | Store") -> "Location":
    """A path, or for a URL what `open_store` opens; `file://` is a path, too.

    Raises:
      UsageError: As `open_store`.
    """
    if isinstance(location, Store):
        return location
    text = os.fspath(location)
    if text.startswith("file://"):
        return Path(unquote(urlsplit(text).path))
    return open_store(text) if is_url(text) else Path(location)


def open_store(url: str) -> "Store":
    """Opens a folder of a store; asks nothing of the store yet.

    Args:
      url: Such as s3://bucket/folder.

    Raises:
      UsageError: It is no such URL, or what reads it is not installed.
    """
    parts = urlsplit(url)
    # Whatever is wrong with it, what is before the @ and after the ? may be a secret.
    account, _, host = parts.netloc.rpartition("@")
    shown = f"{parts.scheme}://{host}{parts.path}"
    if parts.query or parts.fragment:
        raise UsageError(f"{shown}: must be a URL without ? and #")
    require_package(parts.scheme)
    if not host:
        raise UsageError(f"{shown}: names no {'host' if parts.scheme[:4] == 'http' else 'bucket'}")
    user, _, password = account.partition(":")
    login = Login(unquote(user), unquote(password)) if account else None
    return Store(parts.scheme, host + parts.path.rstrip("/"), login)


class Store:
    """A folder in an object store. Threads may share it; another process opens its own connection.

    Names are those of objects, relative to the folder, with slashes if they are deeper in it.
    It is no dataclass, whose fields, and with them credentials, anyone would list.

    Args:
      scheme: What the URL begins with.
      path: Host or bucket, and the folder's path.
      login: Who asks, if the URL says so.
    """

    def __init__(self, scheme: str, path: str, login: Login | None) -> None:
        self._scheme, self._path, self._login = scheme, path, login

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Store) and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    @property
    def _key(self) -> tuple[str, str, Login | None]:
        return self._scheme, self._path, self._login

    def __str__(self) -> str:
        """The URL, without credentials."""
        return f"{self._scheme}://{self._path}"

    def __repr__(self) -> str:
        return f"Store({str(self)!r})"

    def __truediv__(self, name: str) -> "Store":
        """A folder in this one."""
        return Store(self._scheme, f"{self._path}/{name}", self._login)

    def absolute(self) -> "Store":
        """Itself, as for a path that is absolute."""
        return self

    resolve = absolute

    @property
    def name(self) -> str:
        """The last part of its path."""
        return self._path.rpartition("/")[2]

    @property
    def is_read_only(self) -> bool:
        """Whether nothing can be written to it, nor listed: it is a web server's."""
        return self._scheme in ("http", "https")

    def entries(self) -> dict[str, Entry]:
        """All objects below the folder, by name, in ascending order.

        Raises:
          DataError: There is no way to them.
          UsageError: It is a web server's.
        """
        return self._run("", lambda backend: backend.list(self._address("")))

    def entry(self, name: str) -> Entry | None:
        """What is known of an object; None if there is none.

        Raises:
          DataError: There is no way to it.
        """
        try:
            return self._run(name, lambda backend: backend.info(self._address(name)))
        except MissingError:
            return None

    def find(self, names: Iterable[str]) -> dict[str, Entry]:
        """What is known of those objects of some that are there.

        Raises:
          DataError: There is no way to them.
        """
        if not self.is_read_only:
            found: Mapping[str, Entry | None] = self.entries()  # one request for a thousand
            return {name: entry for name in names if (entry := found.get(name))}
        with futures.ThreadPoolExecutor(32) as threads:
            names = list(names)
            looked_up = zip(names, threads.map(self.entry, names), strict=True)
            return {name: entry for name, entry in looked_up if entry}

    def read(self, name: str, start: int = 0, stop: int | None = None, *, tag: str = "") -> bytes:
        """Bytes [start, stop) of an object; all up to its end, if `stop` is None.

        Args:
          name: The object.
          start: The first byte.
          stop: The one after the last.
          tag: That it is to have.

        Raises:
          MissingError: There is no such object.
          DataError: It has another tag, or fewer bytes, or there is no way to it.
        """
        if stop is None or stop - start <= _PART_BYTES:
            return bytes(self.begin_read(name, start, stop, tag=tag).result())
        borders = [*range(start, stop, _PART_BYTES), stop]
        parts = [self.begin_read(name, *part, tag=tag) for part in itertools.pairwise(borders)]
        return b"".join(part.result() for part in parts)

    def begin_read(
        self, name: str, start: int = 0, stop: int | None = None, *, tag: str = ""
    ) -> futures.Future[Buffer]:
        """As `read`, in one request, but returns at once: many may be on their way."""

        async def read(backend: Backend) -> Buffer:
            if start == stop:
                return b""
            data = await backend.read(self._address(name), start, stop, tag)
            if stop is not None and len(data) > stop - start:
                raise DataError(f"{self / name}: the server does not give ranges of bytes")
            if stop is not None and len(data) < stop - start:
                raise ConnectionError(f"{len(data):,} of {stop - start:,} bytes came")
            return data

        return self._begin(name, read)

    def write(self, name: str, data: bytes | Path) -> Entry:
        """Puts an object, or the contents of a file: as a whole, or not at all.

        Raises:
          DataError: There is no way to the store.
          UsageError: It cannot be written to.
          OSError: The file cannot be read.
        """

        def open_content() -> BinaryIO:
            return open(data, "rb") if isinstance(data, Path) else io.BytesIO(data)

        async def write(backend: Backend) -> Entry:
            with open_content() as content:
                return await backend.write(self._address(name), content)

        open_content().close()  # here, since an error of the file is none of the store

        return self._run(name, write)

    def create(self, name: str, data: bytes) -> bool:
        """Puts an object, unless it is there.

        Where the store can, of several that try at once only one succeeds; else all of them may.
        A connection that breaks may hide a success: then the object is there, with these bytes.

        Returns:
          Whether it was put.

        Raises:
          DataError, UsageError: As `write`.
        """

        async def create(backend: Backend) -> bool:
            address = self._address(name)
            try:
                await backend.info(address)  # some stores do not know what a condition is
            except FileNotFoundError:
                return await backend.create(address, data)
            return False

        return self._run(name, create)

    def delete(self, name: str) -> None:
        """Deletes an object that may be there.

        Raises:
          DataError, UsageError: As `write`.
        """

        async def delete(backend: Backend) -> None:
            with contextlib.suppress(FileNotFoundError):
                await backend.delete(self._address(name))

        self._run(name, delete)

    def _address(self, name: str) -> str:
        """What the file system calls an object."""
        path = f"{self._path}/{name}" if name else self._path
        return f"{self._scheme}://{path}" if self.is_read_only else path

    def _run(self, name: str, attempt: Callable[[Backend], Awaitable[_T]]) -> _T:
        return self._begin(name, attempt).result()

    def _begin(self, name: str, attempt: Callable[[Backend], Awaitable[_T]]) -> futures.Future[_T]:
        # Here, because reading local files should not wait for it.
        import asyncio

        from quickdraw_tfrecords.base.store_retries import retry

        backend = open_backend(self._scheme, self._login, os.getpid())
        url = str(self / name if name else self)
        return asyncio.run_coroutine_threadsafe(retry(url, backend, attempt), backend.files.loop)


Location = Path | Store
