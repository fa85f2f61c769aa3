"""Google's Cloud Storage, by its JSON interface.

gcsfs finds the credentials and keeps the connections. It is not what asks: it has retries of its
own, knows no condition but one, and first wants to know of every bucket what kind it is.
"""

import asyncio
import http.client
import io
import json
import logging
from collections.abc import Mapping
from typing import Any, BinaryIO
from urllib.parse import quote, urlencode

import aiohttp
from gcsfs.retry import HttpError, NonRetryableError
from google.auth.exceptions import GoogleAuthError, RefreshError, TransportError

from quickdraw_tfrecords.base.range_requests import AnswerError, RangeRequests
from quickdraw_tfrecords.base.store_backends import ChangedError, Entry
from quickdraw_tfrecords.base.store_urls import SignedUrl, UrlBackend, byte_range

_HASHES = "x-goog-hash"
_FIELDS = "name,size,md5Hash,crc32c"
_PAGE_OBJECTS = 1000  # of a listing, the most


class GcsBackend(UrlBackend):
    """GCS; see `Backend` for its methods.

    An object's tag is a hash of its bytes: if they are put again, it is still the same object.
    """

    passing = (OSError, http.client.HTTPException, aiohttp.ClientError, TransportError)
    errors = (*passing, GoogleAuthError, HttpError, NonRetryableError)
    denials = (PermissionError, RefreshError, NonRetryableError)

    def __init__(self) -> None:
        logging.getLogger("google.auth").setLevel(logging.ERROR)  # it misses what is not needed
        super().__init__("gs", session_kwargs={"timeout": self.timeout(), "trust_env": True})
        self._server = self.files._location.rstrip("/")
        self.ranges = RangeRequests(self.connections, stall_secs=self.stall_secs)

    async def sign(self, path: str, tag: str) -> SignedUrl:
        """See `UrlBackend.sign`."""
        query = urlencode(self._parameters(alt="media"))
        url = f"{self._server}/download/storage/v1/{_resource(path)}?{query}"
        return SignedUrl(url, await self._headers(), {_HASHES: tag})

    async def read_small(self, path: str, start: int, stop: int | None, tag: str) -> bytes:
        """See `UrlBackend.read_small`."""
        resource = f"download/storage/v1/{_resource(path)}"
        hashes, data = await self._ask(
            "GET", resource, headers=byte_range(start, stop), alt="media"
        )
        if hashes and tag not in hashes:
            raise ChangedError
        return data

    async def info(self, path: str) -> Entry:
        """See `Backend.info`."""
        _, data = await self._ask("GET", f"storage/v1/{_resource(path)}", fields=_FIELDS)
        return _entry(json.loads(data))

    async def list(self, path: str) -> dict[str, Entry]:
        """See `Backend.list`."""
        bucket, _, folder = path.partition("/")
        prefix = f"{folder}/" if folder else ""
        found: dict[str, Entry] = {}
        page: dict[str, Any] = {"nextPageToken": None}
        while "nextPageToken" in page:
            _, data = await self._ask(
                "GET", f"storage/v1/b/{quote(bucket)}/o", prefix=prefix, maxResults=_PAGE_OBJECTS,
                fields=f"items({_FIELDS}),nextPageToken", pageToken=page["nextPageToken"],
            )  # fmt: skip
            page = json.loads(data)
            for item in page.get("items", []):
                if not item["name"].endswith("/"):  # a console's way to show an empty folder
                    found[item["name"].removeprefix(prefix)] = _entry(item)
        return found

    async def write(self, path: str, content: BinaryIO) -> Entry:
        """See `Backend.write`. One request: an upload in parts, if killed, would leave them."""
        return await self._upload(path, content)

    async def create(self, path: str, data: bytes) -> bool:
        """See `Backend.create`."""
        try:
            await self._upload(path, io.BytesIO(data), generation=0)
        except AnswerError as error:
            if error.status == http.HTTPStatus.PRECONDITION_FAILED:
                return False
            raise
        return True

    async def delete(self, path: str) -> None:
        """See `Backend.delete`."""
        await self._ask("DELETE", f"storage/v1/{_resource(path)}")

    async def _upload(self, path: str, content: BinaryIO, generation: int | None = None) -> Entry:
        bucket, _, name = path.partition("/")
        # fake-gcs-server heeds conditions in this kind of request, and not in the simplest one.
        with aiohttp.MultipartWriter("related") as parts:
            parts.append_json({"name": name})
            parts.append(content, {"Content-Type": "application/octet-stream"})
        _, answer = await self._ask(
            "POST", f"upload/storage/v1/b/{quote(bucket)}/o", body=parts,
            uploadType="multipart", fields=_FIELDS, ifGenerationMatch=generation,
        )  # fmt: skip
        return _entry(json.loads(answer))

    async def _ask(
        self,
        method: str,
        resource: str,
        *,
        headers: Mapping[str, str] = {},
        body: aiohttp.MultipartWriter | None = None,
        **parameters: str | int | None,
    ) -> tuple[str, bytes]:
        """An object's hashes, if the answer has them, and the answer's body.

        Raises:
          FileNotFoundError: There is no such object, or no such bucket.
          AnswerError: The answer is another error.
        """
        session = await self.files._set_session()
        async with session.request(
            method, f"{self._server}/{resource}", params=self._parameters(**parameters),
            headers={**await self._headers(), **headers}, data=body,
        ) as answer:  # fmt: skip
            data = await answer.read()
            if answer.status == http.HTTPStatus.NOT_FOUND:
                raise FileNotFoundError(_words(answer, data))
            if answer.status >= http.HTTPStatus.BAD_REQUEST:
                raise AnswerError(answer.status, _words(answer, data))
            return ", ".join(answer.headers.getall(_HASHES, [])), data

    def _parameters(self, **given: str | int | None) -> dict[str, str | int]:
        """Those that are not None, and those of every request."""
        parameters: dict[str, str | int] = self.files._get_params(given)
        return parameters

    async def _headers(self) -> dict[str, str]:
        """The credentials; in a thread, since new ones may have to be asked for."""
        try:
            headers: dict[str, str] = await asyncio.to_thread(self.files._get_headers, {})
        except HttpError as error:  # whatever it was
            if not isinstance(error.__cause__, RefreshError):
                raise
            reason = error.__cause__
            if reason.retryable or isinstance(reason.__cause__, TransportError):
                raise ConnectionError(reason.args[0]) from None
            raise PermissionError(reason.args[0]) from None
        return headers


def _resource(path: str) -> str:
    """An object in a URL."""
    bucket, _, name = path.partition("/")
    return f"b/{quote(bucket, safe='')}/o/{quote(name, safe='')}"


def _entry(facts: Mapping[str, str]) -> Entry:
    md5 = facts.get("md5Hash")  # what was put together from others has none
    return Entry(int(facts["size"]), f"md5={md5}" if md5 else f"crc32c={facts['crc32c']}")


def _words(answer: aiohttp.ClientResponse, data: bytes) -> str:
    """What is said of an error."""
    try:
        return str(json.loads(data)["error"]["message"])
    except (ValueError, LookupError, TypeError):
        return f"HTTP {answer.status} {answer.reason}"
