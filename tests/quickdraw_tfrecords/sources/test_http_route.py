"""Servers and proxies that mean harm before a word of HTTP is spoken: one clear error, in time."""

import shutil
import socketserver
import ssl
import subprocess
import time
from pathlib import Path

import pytest

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.sources.download.http_ranges import RangeClient
from tests.quickdraw_tfrecords.sources.raw_servers import PATIENCE, Behavior, serve

pytestmark = pytest.mark.usefixtures("few_attempts")

MOST_SECS = 5  # the deadlines are 0.6 s

ANSWER = b"HTTP/1.1 206 Partial Content\r\nContent-Length: 9\r\nContent-Range: bytes 0-8/9\r\n\r\n"

CA_SETTINGS = """
[ca]
default_ca = here
[here]
database = {folder}/index.txt
new_certs_dir = {folder}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = names
[any]
commonName = supplied
[names]
subjectAltName = {names}
"""


def certify(folder: Path, *, names: str, years: tuple[int, int]) -> Path:
    """A certificate and its key in one file, signed by itself."""
    if not shutil.which("openssl"):
        pytest.skip("openssl makes the certificates, and is not installed")
    settings, request, made = folder / "ca.cnf", folder / "request", folder / "certificate.pem"
    settings.write_text(CA_SETTINGS.format(folder=folder, names=names))
    (folder / "index.txt").touch()
    key = f"-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -keyout {folder}/key.pem"
    dates = "-startdate {}0101000000Z -enddate {}0101000000Z".format(*years)
    for command in (
        f"openssl req -new {key} -subj /CN=test -out {request}",
        f"openssl ca -batch -selfsign -config {settings} -keyfile {folder}/key.pem {dates} "
        f"-in {request} -out {made} -notext",
    ):
        subprocess.run(command.split(), check=True, capture_output=True)
    made.write_text(made.read_text() + (folder / "key.pem").read_text())
    return made


def over_tls(certificate: Path) -> Behavior:
    """A server that answers right, once the client believes its certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def behave(handler: socketserver.StreamRequestHandler) -> None:
        with context.wrap_socket(handler.request, server_side=True) as connection:
            connection.recv(4096)
            connection.sendall(ANSWER + b"123456789")

    return behave


def probe(url: str) -> bytes:
    started, client = time.monotonic(), RangeClient(url, **PATIENCE)
    try:
        return client.probe(f"{url}/cat.npy", 9)[1]
    finally:
        client.close()
        assert time.monotonic() - started < MOST_SECS


GOOD = "IP:127.0.0.1"


@pytest.mark.parametrize(
    ("names", "years", "is_trusted", "reason"),
    [
        (GOOD, (2020, 2021), True, "certificate has expired"),
        (GOOD, (2048, 2049), True, "certificate is not yet valid"),
        ("DNS:elsewhere.example", (2020, 2049), True, "IP address mismatch"),
        (GOOD, (2020, 2049), False, "self.signed certificate"),
        (GOOD, (2020, 2049), True, ""),
    ],
    ids=["expired", "of tomorrow", "of another host", "signed by nobody", "sound"],
)
def test_only_a_certificate_that_holds_is_believed(
    tmp_path, monkeypatch, names, years, is_trusted, reason
):
    certificate = certify(tmp_path, names=names, years=years)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serve(over_tls(certificate)) as port:
        url = f"https://127.0.0.1:{port}"
        if not reason:
            assert probe(url) == b"123456789"
            return
        with pytest.raises(DataError, match=reason) as caught:
            probe(url)
    assert str(caught.value).isprintable()


def silent(handler: socketserver.StreamRequestHandler) -> None:
    time.sleep(MOST_SECS)


def hang_up(handler: socketserver.StreamRequestHandler) -> None:
    handler.request.recv(100)


def garbage(handler: socketserver.StreamRequestHandler) -> None:
    handler.request.recv(4096)
    handler.wfile.write(b"\x1b[2J\x00\xff" * 1000)


def half_a_record(handler: socketserver.StreamRequestHandler) -> None:
    handler.request.recv(4096)
    handler.wfile.write(b"\x16\x03\x03\x40\x00half of it")


def half_and_silent(handler: socketserver.StreamRequestHandler) -> None:
    half_a_record(handler)
    silent(handler)


HANDSHAKES = [silent, hang_up, garbage, half_a_record, half_and_silent]


@pytest.mark.parametrize("behavior", HANDSHAKES)
def test_a_handshake_that_fails_is_one_clear_error(behavior):
    with serve(behavior) as port, pytest.raises(DataError, match="attempts") as caught:
        probe(f"https://127.0.0.1:{port}")
    assert str(caught.value).isprintable()


def tunnel(then: Behavior) -> Behavior:
    """A proxy that promises a tunnel, and leads to something else."""

    def behave(handler: socketserver.StreamRequestHandler) -> None:
        while handler.rfile.readline() != b"\r\n":
            pass
        handler.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        then(handler)

    return behave


def answer(text: bytes) -> Behavior:
    def behave(handler: socketserver.StreamRequestHandler) -> None:
        while handler.rfile.readline() != b"\r\n":
            pass
        handler.wfile.write(text)

    return behave


@pytest.mark.parametrize(
    ("behavior", "reason"),
    [
        (answer(b"HTTP/1.1 403 Fo\x1b[2Jrbidden\r\n\r\n"), "403"),
        (answer(b"HTTP/1.1 502 Bad gateway\r\nContent-Length: 99999\r\n\r\n"), "502"),
        (answer(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n"), "302"),
        (answer(b"HTTP/1.1 20"), "attempts"),
        (answer(b"\x1b[2J\x00\xff\r\n" * 1000), "attempts"),
        (answer(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000 + b"\r\n\r\n"), "attempts"),
        (answer(b""), "attempts"),
        (silent, "timed out|took more than"),
        *((tunnel(each), "attempts") for each in HANDSHAKES),
    ],
    ids=range(8 + len(HANDSHAKES)),
)
def test_a_proxy_that_fails_is_one_clear_error(monkeypatch, behavior, reason):
    with serve(behavior) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("no_proxy", "")
        with pytest.raises(DataError, match=reason) as caught:
            probe("https://bitmaps.invalid")
    assert str(caught.value).isprintable()
