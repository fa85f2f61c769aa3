"""What talks to others: the download's HTTP client, and the sketchpad."""

import contextlib
import json
import random
import socketserver
import threading
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.sources.download import http_ranges
from quickdraw_tfrecords.sources.download.http_ranges import RangeClient
from tools.fuzzing.mutations import mutate_bytes, mutate_json
from trainer.serving.sketchpad import app

_BODY = bytes(range(256)) * 4
_STATUS = ("206 Partial Content",) * 6 + ("200 OK", "302 Found", "503 Later")
_FRAMING = ("Transfer-Encoding: chunked", "X: y")
_OTHERS = ("Retry-After: 0", "Connection: close", "Location: http://[::1/\x1b[2J", "A: b")
_HOSTS = ("localhost",) * 9 + ("[::1]:1", "127.0.0.1", "evil.example", "[", "\xff")
_KINDS = ("application/json",) * 4 + ("text/plain", "application/json; charset=x")


class HttpAnswer:
    """Whatever a server may answer to a request for a range."""

    def __init__(self, scratch: Path) -> None:
        self._answer = b""
        outer = self

        class Handler(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                with contextlib.suppress(OSError):
                    while line := self.rfile.readline(1 << 16):
                        if line == b"\r\n":
                            self.wfile.write(outer._answer)

        self._server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self._url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def make(self, numbers: random.Random) -> bytes:
        """The head is damaged more often than the body."""
        start = numbers.choice((0, 0, 0, 80))
        stop = start + numbers.choice((256, 784, 1 << 20))
        fields = [
            f"HTTP/1.1 {numbers.choice(_STATUS)}",
            f"Content-Range: bytes {start}-{stop - 1}/{numbers.choice((1024, 10**9, '*'))}",
            numbers.choice(('ETag: "v1"', 'ETag: W/""', "Last-Modified: yesterday")),
            numbers.choice((f"Content-Length: {stop - start}",) * 4 + _FRAMING),
            numbers.choice(_OTHERS),
        ]
        head = "\r\n".join([*fields, "", ""]).encode()
        body = numbers.choice((_BODY[: stop - start], b"100\r\n" + _BODY[:256] + b"\r\n0\r\n\r\n"))
        return (mutate_bytes(numbers, head) if numbers.random() < 0.7 else head) + body

    def run(self, data: bytes) -> None:
        """Finds a file on the server, and reads some of it."""
        self._answer = data
        http_ranges._ATTEMPTS = http_ranges._FIRST_ATTEMPTS = 1
        client = RangeClient(self._url, stall_secs=0.5, backoff_secs=0.001)
        try:
            file, head = client.probe(f"{self._url}/cat.npy", 256)
            assert len(head) <= 256
            for piece in client.read(file, 0, [min(file.size_bytes, 256)]):
                assert len(piece) <= 256
        finally:
            client.close()


class _Guesser:
    """A classifier that always guesses the same, in no time."""

    class_names = ("cat", "tree", "zigzag")
    side = 28

    def __call__(self, bitmaps: NDArray[np.uint8]) -> NDArray[np.float32]:
        return np.tile(np.array([0.5, 0.3, 0.2], np.float32), (len(bitmaps), 1))


class SketchpadBody:
    """Bodies and headers of requests to the sketchpad; its answers must be 200 or 4xx."""

    def __init__(self, scratch: Path) -> None:
        flask_app = app.create_app(_Guesser(), scratch)  # type: ignore[arg-type]
        flask_app.config["PROPAGATE_EXCEPTIONS"] = True
        self._client = flask_app.test_client()
        self._seed = {"strokes": [[[0, 30, 70], [5, 5, 90]], [[1], [2]]]}

    def make(self, numbers: random.Random) -> bytes:
        """A line that says which headers, and a body."""
        body = json.dumps(mutate_json(numbers, self._seed)).encode()
        if numbers.random() < 0.3:
            body = mutate_bytes(numbers, body)
        host, kind = numbers.choice(_HOSTS), numbers.choice(_KINDS)
        return f"{host}\t{kind}\n".encode() + body

    def run(self, data: bytes) -> None:
        """Makes the request."""
        headers, _, body = data.partition(b"\n")
        host, kind = headers.decode(errors="replace").split("\t")
        answer = self._client.post("/guess", data=body, content_type=kind, headers={"Host": host})
        if answer.status_code // 100 == 4:
            raise DataError(str(answer.json))
        if answer.status_code != 200:
            raise AssertionError(f"status {answer.status_code}")
