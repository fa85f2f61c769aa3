"""Tests of quickdraw_tfrecords.sources.download.http_ranges with servers that mean harm."""

import contextlib
import itertools
import json
import os
import random
import shutil
import socketserver
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pytest

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.sources.download.downloader import download
from quickdraw_tfrecords.sources.download.http_ranges import RangeClient
from quickdraw_tfrecords.sources.download.provenance import read_provenance
from tests.quickdraw_tfrecords.sources import raw_servers
from tests.quickdraw_tfrecords.sources.raw_servers import PATIENCE

pytestmark = pytest.mark.usefixtures("few_attempts")

Answer = Callable[[], Iterable[bytes]]


@contextlib.contextmanager
def serve(answer: Answer) -> Iterator[str]:
    """A server that answers every request with bytes of any kind; its URL."""

    def behave(connection: socketserver.StreamRequestHandler) -> None:
        while line := connection.rfile.readline():
            if line == b"\r\n":
                for part in answer():
                    connection.wfile.write(part)
                return

    with raw_servers.serve(behave) as port:
        yield f"http://127.0.0.1:{port}"


def head(*lines: str, status: str = "206 Partial Content") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *lines, "", ""]).encode("latin1")


def part(size: int = 99, total: int = 1000) -> tuple[str, str]:
    return f"Content-Length: {size}", f"Content-Range: bytes 0-{size - 1}/{total}"


def drip(content: Iterable[int]) -> Iterator[bytes]:
    """Bytes at a pace at which a socket never times out."""
    for each in content:
        time.sleep(PATIENCE["stall_secs"] / 10)
        yield bytes([each])


ENDLESS: dict[str, Answer] = {
    "a byte now and then": lambda: itertools.chain([head(*part())], drip(bytes(10_000))),
    "a byte now and then, then the end": lambda: itertools.chain(
        [head(*part(), "Connection: close")], drip(bytes(10_000))
    ),
    "a head, byte by byte": lambda: drip(b"HTTP/1.1 206 Partial Content\r\nX: " + bytes(10_000)),
    "100 Continue": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\n\r\n"),
    "100 Continue, and fields": lambda: itertools.repeat(b"HTTP/1.1 100 Continue\r\nA: b\r\n\r\n"),
}


@pytest.mark.parametrize("name", ENDLESS)
def test_an_answer_without_end_is_given_up(name):
    with serve(ENDLESS[name]) as url:
        client = RangeClient(url, **PATIENCE)
        with pytest.raises(DataError, match=r"the server took more than 0\.6 s"):
            client.probe(f"{url}/cat.npy", 99)
        client.close()


@pytest.mark.parametrize(
    ("answer", "wrong"),
    [
        (
            head(f"Content-Range: bytes 0-98/{'9' * 5000}"),
            "Content-Range is .*999.*not such as",
        ),
        (head(f"Content-Range: bytes {'0' * 5000}-98/99"), "Content-Range is .*not such as"),
        (head("Content-Range: bytes 0-9٣/99".encode().decode("latin1")), "Content-Range is"),
        (head(*part(), "Content-Length: " + "9" * 5000), "attempts"),
        (head(f"Retry-After: {'9' * 5000}", status="503 Later"), "HTTP status 503"),
        (head("Retry-After: -5", status="503 Later"), "HTTP status 503"),
        (head("Retry-After: \xb2", status="503 Later"), "HTTP status 503"),
        (head(status="9" * 5000), "attempts"),
        (head(status="-206 No"), "attempts"),
        (b"\x1b[2J" * 1000 + b"\r\n", "attempts"),
        (head("X" * 70_000), "attempts"),
        (head(*["A: b"] * 200), "attempts"),
        (b"", "attempts"),
    ],
    ids=range(13),
)
def test_a_head_that_means_harm_is_one_clear_error(answer, wrong):
    with serve(lambda: [answer]) as url:
        client = RangeClient(url, **PATIENCE)
        with pytest.raises(DataError, match=wrong) as caught:
            client.probe(f"{url}/cat.npy", 99)
        client.close()
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("chunk", ["5", "-5", "F" * 5000, "0", "zz"])
def test_chunks_are_refused_unread(chunk):
    """They, and the trailers after them, may have no end."""
    answer = [head("Transfer-Encoding: chunked", part()[1]), f"{chunk}\r\n".encode()]
    with serve(lambda: itertools.chain(answer, itertools.repeat(b"A: b\r\n"))) as url:
        client = RangeClient(url, **PATIENCE)
        with pytest.raises(DataError, match="the server does not say how long its answers are"):
            client.probe(f"{url}/cat.npy", 99)
        client.close()


def test_where_a_file_has_moved_is_shown_without_its_control_characters():
    location = "http://evil/\x1b]0;gone\x07\x1b[2J\u202e" + "x" * 9000
    answer = head(f"Location: {location}".encode().decode("latin1"), status="302 Found")
    with serve(lambda: [answer]) as url:
        client = RangeClient(url, **PATIENCE)
        with pytest.raises(DataError, match=r"has moved to http://evil/\?\]0;gone") as caught:
            client.probe(f"{url}/cat.npy", 99)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 500


def test_any_answer_is_bytes_or_one_clear_error():
    numbers = random.Random(0)
    plain = head(*part(9, 9), 'ETag: "a"') + b"123456789"

    def mutate() -> list[bytes]:
        answer = bytearray(plain)
        for _ in range(numbers.choice((1, 1, 2, 5))):
            place = numbers.randrange(len(answer))
            answer[place : place + numbers.randrange(3)] = numbers.choice(
                [b"", bytes([numbers.randrange(256)]), b"\r\n", b"9" * 30, b":", b"chunked", b"\0"]
            )
        return [bytes(answer)]

    with serve(mutate) as url:
        client = RangeClient(url, **PATIENCE)
        for _ in range(300):
            with contextlib.suppress(DataError):
                file, content = client.probe(f"{url}/cat.npy", 9)
                assert len(content) == min(9, file.size_bytes)
        client.close()


# What a server claims.


def npy(drawings: int) -> Answer:
    """Answers with the header of a file with that many drawings."""
    form = {"descr": "|u1", "fortran_order": False, "shape": (drawings, 784)}

    def answer() -> list[bytes]:
        file = bytearray()
        stream = _Appender(file)
        np.lib.format.write_array_header_1_0(stream, form)
        content = bytes(file).ljust(256, b"\0")
        return [head(*part(256, len(file) + drawings * 784)), content]

    return answer


class _Appender:
    def __init__(self, target: bytearray) -> None:
        self.write = target.extend


def test_a_file_larger_than_any_class_is_refused(tmp_path):
    with serve(npy(10**12)) as url, pytest.raises(DataError, match=r"claims 1,000,000,000,000 dra"):
        download(tmp_path, ["cat"], per_class=None, base_url=url, sha256={}, **PATIENCE)
    assert not list(tmp_path.iterdir())


def test_room_is_looked_for_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 8, 10**9))
    with serve(npy(9_000_000)) as url, pytest.raises(DataError, match=r"needs 6,729.1 MiB more"):
        download(tmp_path, ["cat"], per_class=None, base_url=url, sha256={}, **PATIENCE)
    assert not list(tmp_path.iterdir())


# Journals, which lie in a folder that anyone may have made.

SOURCE = {"url": "http://h/cat.npy", "version": "", "size_bytes": 785}


@pytest.mark.parametrize(
    "journal",
    [
        {"source": SOURCE, "drawings": 10**18, "runs": [[0, 10**18]]},
        {"source": SOURCE, "drawings": 9, "runs": [[0, 10]]},
        {"source": SOURCE, "drawings": 9, "runs": [[3, 2]]},
        {"source": SOURCE, "drawings": 9, "runs": [[0, 5], [4, 9]]},
        {"source": SOURCE, "drawings": 9, "runs": [[-1, 5]]},
        {"source": SOURCE, "drawings": 9, "runs": [[0, 5.5]]},
        {"source": SOURCE, "drawings": 9, "runs": [["a", "b"]]},
        {"source": SOURCE, "drawings": True, "runs": [[0, True]]},
        {"source": SOURCE, "drawings": 9, "runs": [[0, 5, 9]]},
        {"source": SOURCE, "drawings": 9, "runs": 7},
        {"source": SOURCE, "drawings": 10**4000, "runs": [[0, 1]]},
        {"source": 7, "drawings": 9, "runs": [[0, 5]]},
        {"source": {"url": 7}, "drawings": 9, "runs": [[0, 5]]},
        "9" * 5000,
        "[" * 50_000,
        "7",
        "null",
        "",
        "\0" * 1000,
    ],
    ids=range(19),
)
def test_a_journal_that_means_harm_is_none(tmp_path, journal):
    line = journal if isinstance(journal, str) else json.dumps(journal)
    (tmp_path / "cat.rows.jsonl").write_text(line + "\n")
    assert read_provenance(tmp_path / "cat.npy") is None


def test_a_journal_that_is_a_fifo_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "cat.rows.jsonl")
    with pytest.raises(DataError, match="is not a regular file"):
        read_provenance(tmp_path / "cat.npy")


@pytest.mark.parametrize(
    "answer",
    [
        lambda: itertools.chain([b"HTTP/1.1 200 OK\r\n"], itertools.repeat(b"A: b\r\n")),
        lambda: drip(b"HTTP/1.1 200 OK\r\nA: " + bytes(10_000)),
        lambda: itertools.chain(
            [head(status="200 OK")], drip(b"\x16\x03\x03\x40\x00" + bytes(9999))
        ),
    ],
    ids=["endless fields", "a byte now and then", "a handshake of bytes now and then"],
)
def test_a_proxy_without_end_is_given_up(monkeypatch, answer):
    with serve(answer) as proxy:
        monkeypatch.setenv("https_proxy", proxy)
        client = RangeClient("https://bitmaps.invalid", **PATIENCE)
        with pytest.raises(DataError, match=r"took more than|timed out|SSL|handshake"):
            client.probe("https://bitmaps.invalid/cat.npy", 99)
        client.close()
