"""Object stores: S3, GCS, and a web server, with whatever can go wrong on the way."""

import concurrent.futures
import pickle
import re
import sys
from pathlib import Path

import pytest

from quickdraw_tfrecords.base import store_retries
from quickdraw_tfrecords.base.errors import DataError, MissingError, UsageError
from quickdraw_tfrecords.base.store_urls import UrlBackend
from quickdraw_tfrecords.base.stores import Store, is_url, locate, open_store
from tests.object_store import ObjectStore, WebServer

CONTENT = bytes(range(256)) * 40


@pytest.fixture(params=["library", "threads"])
def any_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ranges are read by the library, or if they are large by threads of our own."""
    if request.param == "threads":
        monkeypatch.setattr(UrlBackend, "large_bytes", 0)


@pytest.fixture
def store(any_object_store: ObjectStore) -> Store:
    store = open_store(f"{any_object_store.url}/data")
    store.write("a/b.bin", CONTENT)
    any_object_store.requests.clear()
    return store


def test_objects_come_back_as_they_were_put(store: Store, tmp_path: Path):
    (tmp_path / "file").write_bytes(b"from a file")
    put = store.write("c", tmp_path / "file")
    assert store.read("c") == b"from a file"
    assert store.entries() == {"a/b.bin": store.entry("a/b.bin"), "c": put}
    assert put == (11, put.tag)
    assert (store / "a").entries() == {"b.bin": store.entry("a/b.bin")}
    assert store.find(["c", "d"]) == {"c": put}
    store.delete("c")
    store.delete("c")  # which is not there anymore
    assert store.entry("c") is None
    assert (store / "nothing").entries() == {}


@pytest.mark.parametrize("name", ["a b", "a%20b#c?d&e=f", "\u00e4/\u732b.npy", "a+b/c=d", "'\"$"])
@pytest.mark.usefixtures("any_way")
def test_names_are_any(store: Store, name: str):
    put = store.write(name, CONTENT)
    assert store.read(name, 1, 400, tag=put.tag) == CONTENT[1:400]
    assert store.entries()[name] == store.entry(name) == put
    store.delete(name)
    assert name not in store.entries()


@pytest.mark.usefixtures("any_way")
@pytest.mark.parametrize(("start", "stop"), [(0, None), (0, 1), (5, 5), (10_000, None), (7, 300)])
def test_a_range_is_what_python_takes_it_for(store: Store, start: int, stop: int | None):
    assert store.read("a/b.bin", start, stop) == CONTENT[start:stop]


def test_a_large_range_comes_in_parts(store: Store, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("quickdraw_tfrecords.base.stores._PART_BYTES", 1000)
    assert store.read("a/b.bin", 10, 4321) == CONTENT[10:4321]


@pytest.mark.usefixtures("any_way")
def test_requests_are_under_way_at_the_same_time(store: Store, any_object_store: ObjectStore):
    gate = any_object_store.faults
    gate.latency_secs = 0.2
    coming = [store.begin_read("a/b.bin", start, start + 1) for start in range(20)]
    _, waiting = concurrent.futures.wait(coming, timeout=20 * 0.2 / 2)
    assert not waiting
    assert b"".join(one.result() for one in coming) == CONTENT[:20]


def test_another_process_opens_its_own(store: Store):
    assert pickle.loads(pickle.dumps(store)) == store
    with concurrent.futures.ProcessPoolExecutor(1) as pool:
        assert pool.submit(store.read, "a/b.bin", 1, 3).result() == CONTENT[1:3]


@pytest.mark.usefixtures("any_way")
@pytest.mark.parametrize("fault", ["resets", "unavailable", "truncated", "stalls"])
def test_faults_cost_retries(store: Store, any_object_store: ObjectStore, fault: str):
    setattr(any_object_store.faults, fault, 2)
    assert store.read("a/b.bin", 0, len(CONTENT)) == CONTENT
    assert len(any_object_store.requests) == 3


@pytest.mark.parametrize("fault", ["resets", "unavailable"])
def test_writing_is_tried_again(store: Store, any_object_store: ObjectStore, fault: str):
    setattr(any_object_store.faults, fault, 2)
    put = store.write("c", CONTENT)
    assert store.read("c", tag=put.tag) == CONTENT
    setattr(any_object_store.faults, fault, 2)
    store.delete("c")
    setattr(any_object_store.faults, fault, 2)
    assert "c" not in store.entries()


@pytest.mark.usefixtures("any_way")
def test_a_storm_without_end(store: Store, any_object_store: ObjectStore):
    any_object_store.faults.unavailable = 10**6
    with pytest.raises(DataError, match=rf"^{store}/a/b.bin: .*\(8 attempts\); check the network"):
        store.read("a/b.bin", 0, 99)
    assert len(any_object_store.requests) == store_retries.ATTEMPTS


def test_waits_double(store: Store, any_object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    waits = []

    async def sleep(secs: float) -> None:
        waits.append(secs)

    monkeypatch.setattr(store_retries, "BACKOFF_SECS", 0.5)
    monkeypatch.setattr(store_retries.asyncio, "sleep", sleep)
    any_object_store.faults.unavailable = 5
    store.read("a/b.bin")
    ours = [secs for secs in waits if secs > 0.2]  # s3fs has waits of its own
    assert len(ours) == 5
    assert all(2.0**n / 4 <= secs <= 2.0**n / 2 for n, secs in enumerate(ours))


@pytest.mark.usefixtures("any_way")
def test_what_is_missing_is_named_at_once(store: Store, any_object_store: ObjectStore):
    with pytest.raises(MissingError, match=f"^{store}/nothing: missing"):
        store.read("nothing", 0, 9)
    nowhere = re.sub("bucket.*", "no-such-bucket", any_object_store.url)
    # What GCS says of it is not said by the server of the tests.
    words = ".*[Bb]ucket" if nowhere.startswith("s3") else ""
    with pytest.raises(MissingError, match=f"^{nowhere}/x: missing {words}"):
        open_store(nowhere).read("x", 0, 9)
    with pytest.raises(MissingError, match=f"^{nowhere}/x: missing {words}"):
        open_store(f"{nowhere}/x").entries()
    assert len(any_object_store.requests) == 3


@pytest.mark.usefixtures("any_way")
def test_a_changed_object_is_an_error(store: Store, any_object_store: ObjectStore):
    tag = store.entry("a/b.bin").tag
    assert store.read("a/b.bin", 0, 9, tag=tag) == CONTENT[:9]
    store.write("a/b.bin", CONTENT[::-1])
    any_object_store.requests.clear()
    with pytest.raises(DataError, match=f"^{store}/a/b.bin: has changed since it was opened"):
        store.read("a/b.bin", 0, 9, tag=tag)
    store.write("a/b.bin", b"short")
    with pytest.raises(DataError, match="has changed"):
        store.read("a/b.bin", 100, 109)


@pytest.mark.usefixtures("any_way")
def test_wrong_credentials(store: Store, any_object_store: ObjectStore):
    any_object_store.faults.denied = 1
    with pytest.raises(DataError, match=r"a/b.bin: access denied \(.*\); check the credentials"):
        store.read("a/b.bin", 0, 9)
    assert len(any_object_store.requests) == 1


@pytest.mark.usefixtures("any_way")
@pytest.mark.usefixtures("new_connections")
def test_no_credentials(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(DataError, match=r"access denied .*; check the credentials"):
        open_store(object_store.url).read("a", 0, 9)


@pytest.mark.usefixtures("any_way")
@pytest.mark.usefixtures("new_connections")
def test_no_network(object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    with pytest.raises(DataError, match=r"^s3://bucket/a: .*\(3 attempts\); check the network"):
        open_store("s3://bucket").read("a", 0, 9)


def test_what_no_bucket_can_be_called(object_store: ObjectStore):
    with pytest.raises(DataError, match=r"^s3://No_Bucket!/a: .*[Bb]ucket name[^\n]*$"):
        open_store("s3://No_Bucket!").read("a")


@pytest.mark.usefixtures("any_way")
@pytest.mark.parametrize(
    "url", ["s3://THE-KEY:THE-SECRET@bucket/x", "https://THE-KEY:THE-SECRET@host:1/x"]
)
def test_credentials_in_a_url_are_used_and_not_shown(
    url: str, object_store: ObjectStore, web_server: WebServer
):
    store = open_store(url)
    assert store != open_store(url.replace("THE-KEY:THE-SECRET@", ""))
    with pytest.raises(DataError) as caught:
        store.read("y", 0, 9)
    shown = [str(store), repr(store), f"{store / 'z'}", repr(vars(store)), str(caught.value)]
    assert not re.search("THE-|SECRET", "".join(shown))
    with pytest.raises(UsageError) as caught:
        open_store(url + "?sig=SECRET")
    assert "SECRET" not in str(caught.value)


@pytest.mark.usefixtures("any_way")
def test_a_web_servers_files(web_server: WebServer):
    store = open_store(web_server.url)
    (web_server.folder / "a").write_bytes(CONTENT)
    entry = store.entry("a")
    assert entry.size == len(CONTENT)
    assert store.find(["a", "b"]) == {"a": entry}
    assert store.read("a", 3, 700, tag=entry.tag) == CONTENT[3:700]
    assert store.read("a") == CONTENT
    (web_server.folder / "a").write_bytes(CONTENT[1:])
    with pytest.raises(DataError, match="has changed"):
        store.read("a", 3, 700, tag=entry.tag)
    with pytest.raises(MissingError):
        store.read("b", 0, 9)
    for ask in (lambda: store.write("b", b""), lambda: store.delete("a"), store.entries):
        with pytest.raises(UsageError, match=r"^http://"):
            ask()


@pytest.mark.usefixtures("any_way")
@pytest.mark.parametrize("fault", ["resets", "unavailable", "truncated", "stalls"])
def test_a_web_servers_faults(web_server: WebServer, fault: str):
    (web_server.folder / "a").write_bytes(CONTENT)
    setattr(web_server.proxy.faults, fault, 2)
    assert open_store(web_server.url).read("a", 1, len(CONTENT)) == CONTENT[1:]


def test_no_web_server():
    with pytest.raises(DataError, match=r"\(3 attempts\)"):
        open_store("http://127.0.0.1:1/x").entry("a")


def test_paths_and_urls():
    found = {text: is_url(text) for text in ("s3://a", "HTTPS://a", "C:/a", "a/b", "//a")}
    assert list(found.values()) == [True, True, False, False, False]
    assert locate("a/b") == Path("a/b")
    assert locate("file:///a%20b/c") == Path("/a b/c")
    assert locate("s3://a/b/") == open_store("s3://a/b") == locate(open_store("s3://a/b"))
    assert (open_store("s3://a/b").name, open_store("s3://a").name) == ("b", "a")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://a/b", r"^ftp://: must be one of s3://, .*, or a path$"),
        ("s3://", "^s3://: names no bucket$"),
        ("https:///x", "^https:///x: names no host$"),
    ],
)
def test_urls_that_are_none(url: str, message: str):
    with pytest.raises(UsageError, match=message):
        open_store(url)


@pytest.mark.parametrize(
    ("url", "package", "extra"),
    [("s3://a", "s3fs", "s3"), ("gs://a", "gcsfs", "gcs"), ("https://a", "aiohttp", "http")],
)
def test_a_package_that_is_not_installed(
    url: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UsageError, match=rf"needs {package}: pip install '.*\[{extra}\]'$"):
        open_store(url)
