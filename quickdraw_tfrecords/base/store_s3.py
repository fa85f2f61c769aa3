"""S3, and what speaks its language."""

import http.client
import io
import os
import time
from typing import Any, BinaryIO

import aiohttp
from botocore import exceptions, httpsession, parsers, session

from quickdraw_tfrecords.base.range_requests import RangeRequests
from quickdraw_tfrecords.base.store_backends import Entry, Login, http_status
from quickdraw_tfrecords.base.store_urls import SignedUrl, UrlBackend, byte_range, condition

_SIGNED_SECS = 300.0  # that a signed URL is used; credentials are renewed well before they end


class S3Backend(UrlBackend):
    """S3 by s3fs; see `Backend` for its methods.

    Args:
      login: An access key, if the URL has one; else the library finds it.
    """

    passing = (
        OSError,
        http.client.HTTPException,
        aiohttp.ClientError,
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.IncompleteReadError,
        parsers.ResponseParserError,  # a proxy's words, as a rule
    )
    errors = (*passing, exceptions.BotoCoreError)
    denials = (
        PermissionError,
        exceptions.NoCredentialsError,
        exceptions.PartialCredentialsError,
        exceptions.CredentialRetrievalError,
    )

    authorities = "AWS_CA_BUNDLE"

    def __init__(self, login: Login | None) -> None:
        options = {"key": login.user, "secret": login.password} if login else {}
        config = {
            "connect_timeout": self.connect_secs,
            "read_timeout": self.stall_secs,
            "max_pool_connections": self.connections,
            "retries": {"total_max_attempts": 1},  # see `store_retries`
        }
        super().__init__("s3", config_kwargs=config, **options)
        self.files.retries = 1
        bundle = session.get_session().get_config_variable("ca_bundle")
        cafile = bundle or httpsession.get_cert_path(True)
        self.ranges = RangeRequests(self.connections, stall_secs=self.stall_secs, cafile=cafile)
        self._signed: dict[str, tuple[str, float]] = {}

    async def sign(self, path: str, tag: str) -> SignedUrl:
        """See `UrlBackend.sign`."""
        url, signed_at = self._signed.get(path, ("", -_SIGNED_SECS))
        if time.monotonic() - signed_at >= _SIGNED_SECS:
            url = await self.files._url(path, expires=2 * _SIGNED_SECS)
            self._signed[path] = url, time.monotonic()
        return SignedUrl(url, condition(tag))

    async def read_small(self, path: str, start: int, stop: int | None, tag: str) -> bytes:
        """See `UrlBackend.read_small`."""
        conditions = {"IfMatch": tag} if tag else {}
        answer = await self._call("get_object", path, **conditions, **byte_range(start, stop))
        async with answer["Body"] as body:
            data: bytes = await body.read()
        return data

    async def info(self, path: str) -> Entry:
        """See `Backend.info`."""
        answer = await self._call("head_object", path)
        return Entry(answer["ContentLength"], answer["ETag"])

    async def list(self, path: str) -> dict[str, Entry]:
        """See `Backend.list`."""
        found = await self.files._find(path, detail=True)
        return {
            name.removeprefix(f"{path}/"): Entry(facts["size"], facts["ETag"])
            for name, facts in sorted(found.items())
            if name.startswith(f"{path}/") and facts["type"] == "file"  # else it is the folder
        }

    async def write(self, path: str, content: BinaryIO) -> Entry:
        """See `Backend.write`. One request: an upload in parts, if killed, would leave them."""
        size = content.seek(0, os.SEEK_END)
        content.seek(0)
        answer = await self._call("put_object", path, Body=content)
        return Entry(size, answer["ETag"])

    async def create(self, path: str, data: bytes) -> bool:
        """See `Backend.create`."""
        try:
            await self._call("put_object", path, Body=data, IfNoneMatch="*")
        except OSError as error:
            if http_status(error) == http.HTTPStatus.NOT_IMPLEMENTED:
                await self.write(path, io.BytesIO(data))
            elif http_status(error) == http.HTTPStatus.PRECONDITION_FAILED:
                return False
            else:
                raise
        return True

    async def delete(self, path: str) -> None:
        """See `Backend.delete`."""
        await self.files._rm_file(path)

    async def _call(self, method: str, path: str, **arguments: Any) -> dict[str, Any]:
        bucket, key, _ = self.files.split_path(path)
        answer: dict[str, Any] = await self.files._call_s3(
            method, Bucket=bucket, Key=key, **arguments
        )
        return answer
