"""A proxy between a test and an HTTP server, with faults to order."""

import dataclasses
import http.client
import http.server
import re
import socket
import ssl
import struct
import threading
import time
from typing import NamedTuple

_CHUNK_BYTES = 2**11  # that are sent at a time, if slowly: nobody waits long for their turn
_PER_HOP = {"connection", "transfer-encoding", "keep-alive", "date", "server"}


class Request(NamedTuple):
    """What was asked for, and the status of the answer; 0 if there was none."""

    method: str
    path: str
    status: int


@dataclasses.dataclass
class Faults:
    """What the proxy does.

    Attributes:
      latency_secs: Before each answer.
      bytes_per_sec: How fast bodies come, all together; None: at once.
      resets: How many of the next requests get a reset instead of an answer.
      unavailable: How many get a 503.
      denied: How many get a 403.
      truncated: How many get half of a body.
      stalls: How many get half of a body, and then nothing.
      redirect: Paths with the first of two texts are to be asked for with the second.
      only: A regular expression: other paths have no faults, but for the first two.
    """

    latency_secs: float = 0.0
    bytes_per_sec: float | None = None
    resets: int = 0
    unavailable: int = 0
    denied: int = 0
    truncated: int = 0
    stalls: int = 0
    redirect: tuple[str, str] | None = None
    only: str = ""
    _lock: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    _free_at: float = 0.0

    def throttle(self, size: int) -> None:
        """Waits for as long as some bytes take."""
        if self.bytes_per_sec:
            with self._lock:
                now = time.monotonic()
                self._free_at = until = max(self._free_at, now) + size / self.bytes_per_sec
            time.sleep(until - now)

    def take(self, name: str, path: str) -> bool:
        """Whether it is the turn of a fault."""
        with self._lock:
            left = getattr(self, name)
            if not left or not re.search(self.only, path):
                return False
            setattr(self, name, left - 1)
            return True


class FaultyProxy(http.server.ThreadingHTTPServer):
    """Passes requests on to a server, with faults.

    Args:
      port: The server's.
      address: Its own; by default any port of loopback.
      tls: Makes it a proxy by https.

    Attributes:
      faults: What goes wrong.
      requests: All so far.
      connections: The addresses from which there were any.
      authorizations: What was said of who asks.
    """

    daemon_threads = True
    request_queue_size = 128

    def __init__(
        self,
        port: int,
        address: tuple[str, int] = ("127.0.0.1", 0),
        tls: ssl.SSLContext | None = None,
    ) -> None:
        super().__init__(address, _Handler)
        self._scheme = "https" if tls else "http"
        if tls:  # the thread of a request begins, or others would have to wait
            self.socket = tls.wrap_socket(
                self.socket, server_side=True, do_handshake_on_connect=False
            )
        self.target = port
        self.faults = Faults()
        self.requests: list[Request] = []
        self.connections: set[object] = set()
        self.authorizations: set[str | None] = set()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: object, client_address: object) -> None:
        """A client may go whenever it likes."""


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: FaultyProxy
    upstream: http.client.HTTPConnection | None = None

    def setup(self) -> None:
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.server.connections.add(self.client_address)

    def log_message(self, *args: object) -> None:
        pass

    def _pass_on(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        faults, path = self.server.faults, self.path
        time.sleep(faults.latency_secs)
        if faults.take("resets", path):
            self._reset()
        elif faults.take("unavailable", path):
            self._answer(503, [], b"<Error><Code>SlowDown</Code></Error>")
        elif faults.take("denied", path):
            self._answer(403, [], b"<Error><Code>InvalidAccessKeyId</Code></Error>")
        elif faults.redirect and faults.redirect[0] in path:
            self._answer(302, [("Location", path.replace(*faults.redirect))], b"")
        else:
            answer = self._ask(body)
            self._answer(answer.status, answer.getheaders(), answer.read())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _pass_on  # noqa: N815

    def _reset(self) -> None:
        self._record(0)
        linger = struct.pack("ii", 1, 0)  # to close is to reset
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.close_connection = True
        self.connection.close()

    def _ask(self, body: bytes) -> http.client.HTTPResponse:
        if not self.upstream:
            self.upstream = http.client.HTTPConnection("127.0.0.1", self.server.target)
        headers = {name: value for name, value in self.headers.items() if name != "Expect"}
        self.upstream.request(self.command, self.path, body, headers)
        return self.upstream.getresponse()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self._record(status)
        self.send_response_only(status)
        for name, value in headers:
            if name.lower() not in _PER_HOP:
                self.send_header(name, value)
        if "content-length" not in {name.lower() for name, _ in headers}:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        faults = self.server.faults
        if self.command == "HEAD":
            return
        if body and faults.take("truncated", self.path):
            body, self.close_connection = body[: len(body) // 2], True
        if body and faults.take("stalls", self.path):
            self.wfile.write(body[: len(body) // 2])
            time.sleep(2)
            self.close_connection = True
            return
        size = _CHUNK_BYTES if faults.bytes_per_sec else max(1, len(body))
        for start in range(0, len(body), size):
            faults.throttle(size)
            self.wfile.write(body[start : start + size])

    def _record(self, status: int) -> None:
        self.server.authorizations.add(self.headers.get("Authorization"))
        self.server.requests.append(Request(self.command, self.path.partition("?")[0], status))
