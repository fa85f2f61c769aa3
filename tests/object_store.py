"""An S3 server and a web server on loopback, behind a proxy with faults to order.

def test_storm(object_store):
    object_store.faults.unavailable = 3       # the next three requests
    open_store(f"{object_store.url}/data").read("a")
    assert object_store.requests[-1] == ("GET", "/bucket-1/data/a", 200)
"""

import functools
import http.server
import itertools
import os
import re
import threading
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from quickdraw_tfrecords.base import store_retries
from quickdraw_tfrecords.base.store_kinds import open_backend
from quickdraw_tfrecords.base.store_urls import UrlBackend
from tests.faulty_proxy import Faults, FaultyProxy, Request


class ObjectStore(NamedTuple):
    """A bucket of its own for a test.

    Attributes:
      url: The bucket's.
      proxy: What is between it and the test.
    """

    url: str
    proxy: FaultyProxy

    @property
    def faults(self) -> Faults:
        return self.proxy.faults

    @property
    def requests(self) -> list[Request]:
        return self.proxy.requests


class WebServer(NamedTuple):
    """A folder behind a web server.

    Attributes:
      url: The folder's.
      folder: Where it is.
      proxy: What is between it and the test.
    """

    url: str
    folder: Path
    proxy: FaultyProxy


@functools.cache
def _s3_server() -> FaultyProxy:
    """The server, for as long as the process lives."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    return FaultyProxy(server.get_host_and_port()[1])


_buckets = itertools.count()


@pytest.fixture
def object_store(monkeypatch: pytest.MonkeyPatch, impatience: None) -> ObjectStore:
    """An empty bucket; credentials and the server's address are in the environment."""
    proxy = _s3_server()
    proxy.faults, proxy.requests = Faults(), []
    for name, value in environment(proxy).items():
        monkeypatch.setenv(name, value)
    bucket = f"bucket-{next(_buckets)}"
    request = urllib.request.Request(f"{proxy.url}/{bucket}", method="PUT")
    urllib.request.urlopen(request).close()
    proxy.requests.clear()
    return ObjectStore(f"s3://{bucket}", proxy)


def environment(proxy: FaultyProxy) -> dict[str, str]:
    """What a process needs to know of the S3 server."""
    return {
        "AWS_ACCESS_KEY_ID": "an-access-key",
        "AWS_SECRET_ACCESS_KEY": "a-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": proxy.url,
    }


@pytest.fixture
def web_server(tmp_path: Path, impatience: None) -> Iterator[WebServer]:
    """An empty folder behind a web server that knows ranges and ETags."""
    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(_FileHandler, directory=os.fspath(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        proxy = FaultyProxy(server.server_address[1])
        yield WebServer(proxy.url, folder, proxy)
        proxy.shutdown()
        proxy.server_close()
        server.shutdown()


class _FileHandler(http.server.SimpleHTTPRequestHandler):
    """Python's has no ranges."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        self._give(with_body=True)

    def do_HEAD(self) -> None:
        self._give(with_body=False)

    def _give(self, *, with_body: bool) -> None:
        path = Path(self.translate_path(self.path))
        data = path.read_bytes() if path.is_file() else None
        tag = data is not None and f'"{path.stat().st_mtime_ns:x}-{len(data)}"'
        status, headers = 200, {"ETag": tag}
        if data is None:
            status, data, headers = 404, b"", {}
        elif self.headers.get("If-Match", tag) != tag:
            status, data = 412, b""
        elif found := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", "")):
            start, stop = int(found[1]), int(found[2] or len(data)) + 1
            status, size = 206, len(data)
            data = data[start:stop]
            headers["Content-Range"] = f"bytes {start}-{start + len(data) - 1}/{size}"
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(data))}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if with_body:
            self.wfile.write(data)


@pytest.fixture(scope="session")
def impatience() -> Iterator[None]:
    """Retries that do not wait, and a stall that is soon over."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(store_retries, "BACKOFF_SECS", 0.001)
        monkeypatch.setattr(UrlBackend, "stall_secs", 0.5)
        open_backend.cache_clear()
        yield
        open_backend.cache_clear()


@pytest.fixture
def new_connections() -> Iterator[None]:
    """For a test that changes what a connection is made from: it takes a second to make one."""
    open_backend.cache_clear()
    yield
    open_backend.cache_clear()
