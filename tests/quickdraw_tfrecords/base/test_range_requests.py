"""Large ranges by threads of our own: connections that are kept, proxies, and redirections."""

import http.server
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from quickdraw_tfrecords.base.range_requests import RangeRequests
from quickdraw_tfrecords.base.store_urls import UrlBackend
from quickdraw_tfrecords.base.stores import open_store
from tests.object_store import WebServer

CONTENT = bytes(range(256)) * 10


@pytest.fixture(autouse=True)
def every_range_is_large(monkeypatch: pytest.MonkeyPatch, new_connections: None) -> None:
    monkeypatch.setattr(UrlBackend, "large_bytes", 0)


def test_a_connection_is_kept(web_server: WebServer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(UrlBackend, "connections", 2)
    (web_server.folder / "a").write_bytes(CONTENT)
    store = open_store(web_server.url)
    for start in range(12):
        assert store.read("a", start, start + 50) == CONTENT[start : start + 50]
    assert len(web_server.proxy.connections) <= 2


class _Closing(http.server.BaseHTTPRequestHandler):
    """Promises to keep a connection, and closes it."""

    protocol_version = "HTTP/1.1"
    asked = 0

    def log_message(self, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        type(self).asked += 1
        self.send_response(206)
        self.send_header("Content-Length", "5")
        self.end_headers()
        self.wfile.write(b"abcde")
        self.close_connection = True


@pytest.fixture
def closing() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Closing) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}/x"
        server.shutdown()


def test_a_connection_that_was_closed_is_opened_again(closing: str):
    """At once: it is no failure, and a wait would be felt at each pause in a training."""
    requests = RangeRequests(1, stall_secs=5)
    assert [bytes(requests._get(closing, 5, {}, {})) for _ in range(3)] == [b"abcde"] * 3
    assert _Closing.asked == 3


def test_redirections_are_the_librarys(web_server: WebServer):
    (web_server.folder / "there").mkdir()
    (web_server.folder / "there" / "a").write_bytes(CONTENT)
    web_server.proxy.faults.redirect = ("/here/", "/there/")
    assert open_store(f"{web_server.url}/here").read("a", 3, 99) == CONTENT[3:99]


def test_so_are_proxies(web_server: WebServer, monkeypatch: pytest.MonkeyPatch):
    assert RangeRequests.can_reach(web_server.url)
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    assert not RangeRequests.can_reach("http://host/a")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert RangeRequests.can_reach(web_server.url)


def test_a_server_without_ranges(tmp_path: Path):
    handler = http.server.SimpleHTTPRequestHandler
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        store = open_store(f"http://127.0.0.1:{server.server_address[1]}")
        with pytest.raises(Exception, match="the server does not give ranges of bytes"):
            store.read("pyproject.toml", 0, 10)
        server.shutdown()
