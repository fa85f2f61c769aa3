"""Stores whose objects have URLs, of which large ranges are read past their libraries."""

import abc
from collections.abc import Mapping
from typing import NamedTuple

import aiohttp

from quickdraw_tfrecords.base.range_requests import RangeRequests, RedirectError
from quickdraw_tfrecords.base.store_backends import Backend, Buffer


class SignedUrl(NamedTuple):
    """Where an object is, and how to ask for it.

    Attributes:
      url: Its URL.
      headers: To send.
      expected: What headers of the answer have in them if the object has the tag.
    """

    url: str
    headers: Mapping[str, str]
    expected: Mapping[str, str] = {}


class UrlBackend(Backend):
    """A backend whose objects have URLs.

    Attributes:
      connections: How many there are at a time, to one store.
      connect_secs: How long it may take to make one.
      stall_secs: How long a server may be silent.
      large_bytes: To ask by a thread of our own for fewer does not pay.
    """

    connections = 64
    connect_secs = 10.0
    stall_secs = 30.0
    large_bytes = 2**18

    ranges: RangeRequests | None = None

    async def read(self, path: str, start: int, stop: int | None, tag: str) -> Buffer:
        """See `Backend.read`."""
        if self.ranges and stop is not None and stop - start >= self.large_bytes:
            signed = await self.sign(path, tag)
            if self.ranges.can_reach(signed.url):
                try:
                    return await self.ranges.get(*signed, start, stop)
                except RedirectError:
                    self.ranges = None  # libraries know what to do
        return await self.read_small(path, start, stop, tag)

    @abc.abstractmethod
    async def sign(self, path: str, tag: str) -> SignedUrl:
        """How to ask for an object that is to have a tag."""

    @abc.abstractmethod
    async def read_small(self, path: str, start: int, stop: int | None, tag: str) -> bytes:
        """Reads by the library."""

    def timeout(self) -> aiohttp.ClientTimeout:
        """How long to wait, for a library that asks by aiohttp."""
        return aiohttp.ClientTimeout(
            total=None, sock_connect=self.connect_secs, sock_read=self.stall_secs
        )


def condition(tag: str) -> dict[str, str]:
    """The headers by which an object is to be given only if it has a tag."""
    if not tag:
        return {}
    return {"If-Match" if tag.startswith('"') else "If-Unmodified-Since": tag}


def byte_range(start: int, stop: int | None) -> dict[str, str]:
    """The header by which bytes [start, stop) are asked for; none for the whole."""
    if not start and stop is None:
        return {}
    return {"Range": f"bytes={start}-{'' if stop is None else stop - 1}"}
