"""The kinds of stores: S3, web servers, and whatever else fsspec knows."""

import functools
import importlib
import io
import os
import time
from types import ModuleType
from typing import TYPE_CHECKING

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.store_backends import Backend, Buffer, Entry, Login, http_status

if TYPE_CHECKING:
    from quickdraw_tfrecords.base.range_requests import RangeRequests

CONNECTIONS = 64  # at a time, to one store
CONNECT_SECS = 10.0
STALL_SECS = 30.0  # that a server may be silent

_LARGE_BYTES = 2**18  # to ask by a thread of our own for fewer does not pay
_SIGNED_SECS = 300.0  # that a signed URL is used; credentials are renewed well before they end

_PRECONDITION_FAILED, _NOT_IMPLEMENTED = 412, 501

# What must be installed for a scheme: an extra of this package, and what it installs.
_NEEDED = {
    "s3": ("s3", "s3fs"),
    "gs": ("gcs", "gcsfs"),
    "http": ("http", "aiohttp"),
    "https": ("http", "aiohttp"),
}


class _UrlBackend(Backend):
    """A backend whose objects have URLs, of which large ranges are read past the library."""

    _ranges: "RangeRequests | None" = None

    async def read(self, path: str, start: int, stop: int | None, tag: str) -> Buffer:
        """See `Backend.read`."""
        from quickdraw_tfrecords.base.range_requests import RedirectError

        if self._ranges and stop is not None and stop - start >= _LARGE_BYTES:
            url, headers = await self._sign(path)
            if self._ranges.can_reach(url):
                try:
                    return await self._ranges.get(url, start, stop, headers | _condition(tag))
                except RedirectError:
                    self._ranges = None  # libraries know what to do
        return await self._read(path, start, stop, tag)

    async def _sign(self, path: str) -> tuple[str, dict[str, str]]:
        """The URL of an object, and the headers to ask with."""
        raise NotImplementedError

    async def _read(self, path: str, start: int, stop: int | None, tag: str) -> bytes:
        """Reads by the library."""
        raise NotImplementedError


class S3Backend(_UrlBackend):
    """S3, and what speaks its language."""

    def __init__(self, scheme: str, login: Login | None) -> None:
        import http.client

        import aiohttp
        from botocore import exceptions, httpsession, parsers

        from quickdraw_tfrecords.base.range_requests import RangeRequests

        self.passing = (
            OSError,
            http.client.HTTPException,
            aiohttp.ClientError,
            exceptions.HTTPClientError,
            exceptions.ConnectionError,
            exceptions.IncompleteReadError,
            parsers.ResponseParserError,  # a proxy's words, as a rule
        )
        self.errors = (*self.passing, exceptions.BotoCoreError)
        self.denials = (
            PermissionError,
            exceptions.NoCredentialsError,
            exceptions.PartialCredentialsError,
            exceptions.CredentialRetrievalError,
        )
        options = {"key": login.user, "secret": login.password} if login else {}
        config = {
            "connect_timeout": CONNECT_SECS,
            "read_timeout": STALL_SECS,
            "max_pool_connections": CONNECTIONS,
            "retries": {"total_max_attempts": 1},  # see `store_retries`
        }
        super().__init__(scheme, None, config_kwargs=config, **options)
        self.files.retries = 1
        cafile = os.environ.get("AWS_CA_BUNDLE") or httpsession.get_cert_path(True)
        self._ranges = RangeRequests(CONNECTIONS, stall_secs=STALL_SECS, cafile=cafile)
        self._signed: dict[str, tuple[str, float]] = {}

    async def _sign(self, path: str) -> tuple[str, dict[str, str]]:
        url, signed_at = self._signed.get(path, ("", -_SIGNED_SECS))
        if time.monotonic() - signed_at >= _SIGNED_SECS:
            url = await self.files._url(path, expires=2 * _SIGNED_SECS)
            self._signed[path] = url, time.monotonic()
        return url, {}

    async def _read(self, path: str, start: int, stop: int | None, tag: str) -> bytes:
        bucket, key, _ = self.files.split_path(path)
        conditions = {"IfMatch": tag} if tag else {}
        if start or stop is not None:
            conditions["Range"] = _range(start, stop)
        answer = await self.files._call_s3("get_object", Bucket=bucket, Key=key, **conditions)
        async with answer["Body"] as body:
            data: bytes = await body.read()
        return data

    async def info(self, path: str) -> Entry:
        """See `Backend.info`."""
        bucket, key, _ = self.files.split_path(path)
        answer = await self.files._call_s3("head_object", Bucket=bucket, Key=key)
        return Entry(answer["ContentLength"], answer["ETag"])

    async def write(self, path: str, data: bytes) -> Entry:
        """See `Backend.write`. One request: an upload in parts, if killed, would leave them."""
        bucket, key, _ = self.files.split_path(path)
        body = io.BytesIO(data)  # of which aiohttp sends a little at a time
        answer = await self.files._call_s3("put_object", Bucket=bucket, Key=key, Body=body)
        return Entry(len(data), answer["ETag"])

    async def create(self, path: str, data: bytes) -> bool:
        """See `Backend.create`."""
        bucket, key, _ = self.files.split_path(path)
        condition = {"IfNoneMatch": "*"}
        try:
            await self.files._call_s3("put_object", Bucket=bucket, Key=key, Body=data, **condition)
        except OSError as error:
            if http_status(error) == _NOT_IMPLEMENTED:
                await self.write(path, data)
            elif http_status(error) == _PRECONDITION_FAILED:
                return False
            else:
                raise
        return True


class HttpBackend(_UrlBackend):
    """A web server, to read from."""

    def __init__(self, scheme: str, login: Login | None) -> None:
        import http.client

        import aiohttp

        from quickdraw_tfrecords.base.range_requests import RangeRequests

        self.errors = self.passing = (OSError, http.client.HTTPException, aiohttp.ClientError)
        auth = aiohttp.BasicAuth(login.user, login.password) if login else None
        client = {
            "auth": auth,
            "headers": {"Accept-Encoding": "identity"},  # ranges are of the file itself
            "timeout": aiohttp.ClientTimeout(
                total=None, sock_connect=CONNECT_SECS, sock_read=STALL_SECS
            ),
            "trust_env": True,
        }
        super().__init__(scheme, None, client_kwargs=client)
        self._ranges = RangeRequests(CONNECTIONS, stall_secs=STALL_SECS)
        self._headers = {"Authorization": auth.encode()} if auth else {}

    async def _sign(self, path: str) -> tuple[str, dict[str, str]]:
        return str(self.files.encode_url(path)), self._headers

    async def _read(self, path: str, start: int, stop: int | None, tag: str) -> bytes:
        headers = _condition(tag)
        if start or stop is not None:
            headers["Range"] = _range(start, stop)
        data: bytes = await self.files._cat_file(path, headers=headers)
        return data

    async def info(self, path: str) -> Entry:
        """See `Backend.info`. That of fsspec says of every failure that the file is missing."""
        session = await self.files.set_session()
        async with session.head(path, allow_redirects=True) as answer:
            if answer.status == 404:
                raise FileNotFoundError(path)
            answer.raise_for_status()
            tag = answer.headers.get("ETag", "")
            if not tag.startswith('"'):  # a weak one matches nothing
                tag = answer.headers.get("Last-Modified", "")
            return Entry(int(answer.headers.get("Content-Length", -1)), tag)

    async def list(self, path: str) -> dict[str, Entry]:
        """See `Backend.list`."""
        raise UsageError(f"{path}: a web server does not list its files")

    async def write(self, path: str, data: bytes) -> Entry:
        """See `Backend.write`."""
        raise UsageError(f"{path}: cannot be written to; only read")

    async def create(self, path: str, data: bytes) -> bool:
        """See `Backend.create`."""
        return bool(await self.write(path, data))

    async def delete(self, path: str) -> None:
        """See `Backend.delete`."""
        raise UsageError(f"{path}: cannot be written to; only read")


_KINDS = {"s3": S3Backend, "http": HttpBackend, "https": HttpBackend}


@functools.lru_cache
def open_backend(scheme: str, login: Login | None, process: int) -> Backend:
    """The backend for a scheme; the same one each time.

    Args:
      scheme: What URLs begin with.
      login: As for `Backend`.
      process: This one's id: a connection does not outlive a fork.
    """
    return _KINDS.get(scheme, Backend)(scheme, login)


def require_package(scheme: str) -> ModuleType:
    """Imports what a scheme needs.

    Raises:
      UsageError: There is no such scheme, or it is not installed.
    """
    if scheme not in _NEEDED:
        schemes = ", ".join(f"{name}://" for name in _NEEDED)
        raise UsageError(f"{scheme}://: must be one of {schemes}, or a path")
    extra, package = _NEEDED[scheme]
    try:
        return importlib.import_module(package)
    except ImportError:
        raise UsageError(
            f"{scheme}://: needs {package}: pip install 'quickdraw-tfrecords[{extra}]'"
        ) from None


def _condition(tag: str) -> dict[str, str]:
    """The headers by which an object is to be given only if it has a tag."""
    if not tag:
        return {}
    return {"If-Match" if tag.startswith('"') else "If-Unmodified-Since": tag}


def _range(start: int, stop: int | None) -> str:
    return f"bytes={start}-{'' if stop is None else stop - 1}"
