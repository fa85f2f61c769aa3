"""GCS' own: its listings come in pages, and its credentials are given for a while."""

import http.server
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.stores import Store, open_store
from tests.object_store import ObjectStore

TOKEN = "a-secret-token"


class TokenServer(http.server.ThreadingHTTPServer):
    """Gives tokens to whoever asks, after a few other answers.

    Attributes:
      answers: Statuses and bodies of the next answers.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _TokenHandler)
        self.answers: list[tuple[int, dict[str, object]]] = []


class _TokenHandler(http.server.BaseHTTPRequestHandler):
    server: TokenServer

    def log_message(self, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        given = 200, {"access_token": TOKEN, "expires_in": 3600, "token_type": "Bearer"}
        status, facts = self.server.answers.pop(0) if self.server.answers else given
        body = json.dumps(facts).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def tokens() -> Iterator[TokenServer]:
    with TokenServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def store(
    gcs_store: ObjectStore,
    tokens: TokenServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    new_connections: None,
) -> Store:
    """A bucket, for which a service account's key is in the environment."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    ).decode()
    account = {
        "type": "service_account",
        "client_email": "me@project.iam",
        "private_key": text,
        "token_uri": f"http://127.0.0.1:{tokens.server_address[1]}/token",
    }
    (tmp_path / "key.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(tmp_path / "key.json"))
    return open_store(gcs_store.url)


def test_credentials_are_found_in_the_environment_and_not_shown(
    store: Store,
    gcs_store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
):
    entry = store.write("a", b"abc")
    monkeypatch.setattr("quickdraw_tfrecords.base.store_urls.UrlBackend.large_bytes", 3)
    assert store.read("a", 0, 3, tag=entry.tag) == b"abc"
    assert gcs_store.proxy.authorizations == {f"Bearer {TOKEN}"}
    gcs_store.faults.denied = 2
    for size in (1, 3):
        with pytest.raises(DataError, match=r"^gs://.*/a: access denied \(.*HTTP 403") as caught:
            store.read("a", 0, size)
        assert TOKEN not in str(caught.value)
    assert not caplog.records  # which would be printed


@pytest.mark.slow
def test_who_gives_them_may_be_busy(store: Store, tokens: TokenServer):
    tokens.answers = [(503, {"error": "internal_failure"})] * 3  # google-auth asks so often
    assert store.entry("a") is None
    assert not tokens.answers


def test_who_gives_them_may_refuse(store: Store, tokens: TokenServer):
    tokens.answers = [(400, {"error": "invalid_grant", "error_description": "Bad signature."})]
    with pytest.raises(DataError, match=r"/a: access denied \(invalid_grant: Bad signature\); che"):
        store.entry("a")


def test_a_url_takes_none(gcs_store: ObjectStore):
    with pytest.raises(UsageError, match=r"^gs://: takes no user name; put credentials in the env"):
        open_store("gs://THE-KEY:THE-SECRET@bucket").entry("a")


def test_a_listing_of_several_pages(gcs_store: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("quickdraw_tfrecords.base.store_gcs._PAGE_OBJECTS", 2)
    store = open_store(gcs_store.url)
    for name in ["e", "d", "c/", "c/a", "b"]:  # c/ is a folder, as a console makes it
        store.write(name, b"")
    gcs_store.requests.clear()
    assert list(store.entries()) == ["b", "c/a", "d", "e"]
    assert len(gcs_store.requests) == 3
