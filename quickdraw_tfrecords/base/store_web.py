"""Web servers, to read from."""

import http.client
from typing import BinaryIO, NoReturn

import aiohttp

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.range_requests import RangeRequests
from quickdraw_tfrecords.base.store_backends import Entry, Login
from quickdraw_tfrecords.base.store_urls import SignedUrl, UrlBackend, byte_range, condition


class WebBackend(UrlBackend):
    """A web server by fsspec; see `Backend` for its methods.

    Args:
      scheme: "http" or "https".
      login: Who asks, if the URL says so.
    """

    errors = passing = (OSError, http.client.HTTPException, aiohttp.ClientError)
    credentials = "the user name and the password in the URL"

    def __init__(self, scheme: str, login: Login | None) -> None:
        auth = aiohttp.BasicAuth(login.user, login.password) if login else None
        client = {
            "auth": auth,
            "headers": {"Accept-Encoding": "identity"},  # ranges are of the file itself
            "timeout": self.timeout(),
            "trust_env": True,
        }
        super().__init__(scheme, client_kwargs=client)
        self.ranges = RangeRequests(self.connections, stall_secs=self.stall_secs)
        self._headers = {"Authorization": auth.encode()} if auth else {}

    async def sign(self, path: str, tag: str) -> SignedUrl:
        """See `UrlBackend.sign`."""
        return SignedUrl(str(self.files.encode_url(path)), self._headers | condition(tag))

    async def read_small(self, path: str, start: int, stop: int | None, tag: str) -> bytes:
        """See `UrlBackend.read_small`."""
        headers = condition(tag) | byte_range(start, stop)
        data: bytes = await self.files._cat_file(path, headers=headers)
        return data

    async def info(self, path: str) -> Entry:
        """See `Backend.info`. That of fsspec says of every failure that the file is missing."""
        session = await self.files.set_session()
        async with session.head(path, allow_redirects=True) as answer:
            if answer.status == http.HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(path)
            answer.raise_for_status()
            tag = answer.headers.get("ETag", "")
            if not tag.startswith('"'):  # a weak one matches nothing
                tag = answer.headers.get("Last-Modified", "")
            return Entry(int(answer.headers.get("Content-Length", -1)), tag)

    async def list(self, path: str) -> dict[str, Entry]:
        """See `Backend.list`."""
        raise UsageError(f"{path}: a web server does not list its files")

    async def write(self, path: str, content: BinaryIO) -> Entry:
        """See `Backend.write`."""
        _refuse(path)

    async def create(self, path: str, data: bytes) -> bool:
        """See `Backend.create`."""
        _refuse(path)

    async def delete(self, path: str) -> None:
        """See `Backend.delete`."""
        _refuse(path)


def _refuse(path: str) -> NoReturn:
    raise UsageError(f"{path}: cannot be written to; only read")
