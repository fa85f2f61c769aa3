"""A data set in an object store, or behind a web server, is read as one on disk is."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import store_retries
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.store_urls import UrlBackend
from quickdraw_tfrecords.base.stores import open_store
from tests.object_store import ObjectStore, WebServer

DIRECTORY = "quickdraw/1.0.0"
ORDERS = [
    {},
    {"shuffle": True, "epochs": 2},
    {"shuffle": True, "start_step": 9, "with_source_row": True},
    {"shuffle": True, "drop_remainder": True, "worker": 1, "workers": 3},
]


def put(folder: Path, url: str) -> None:
    """Copies a folder to a store, the manifest last."""
    store = open_store(url)
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: path.name == "manifest.json"):
        store.write(str(path.relative_to(folder)), path)


@pytest.fixture
def url(data_dir: Path, object_store: ObjectStore) -> str:
    """The tests' data set, in a bucket."""
    url = f"{object_store.url}/some/data"
    put(data_dir, url)
    object_store.requests.clear()
    return url


@pytest.fixture
def any_url(data_dir: Path, any_object_store: ObjectStore) -> str:
    """The same, of each kind."""
    url = f"{any_object_store.url}/some/data"
    put(data_dir, url)
    return url


def shard(index: int = 0) -> str:
    return f"quickdraw-train.tfrecord-{index:05}-of-00006"


def assert_same(found: qt.DatasetInfo | str, wanted: Path, **order: object) -> None:
    """Whether two data sets give the same batches, in windows of a block and a bit."""
    order = {"seed": 5, "cache": "none", "window_mib": 0.02, **order}
    given = list(qt.batches(found, "train", 13, **order))
    expected = list(qt.batches(wanted, "train", 13, **order))
    assert len(given) == len(expected) > 0
    for ours, theirs in zip(given, expected, strict=True):
        for column, other in zip(ours, theirs, strict=True):
            np.testing.assert_array_equal(column, other)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("read_ahead_mib", [0.001, 64])
def test_batches_are_those_of_the_disk(
    url: str, data_dir: Path, order: dict[str, object], read_ahead_mib: float
):
    assert_same(qt.open_dataset(url, read_ahead_mib=read_ahead_mib), data_dir, **order)


def test_each_block_is_asked_for_once_an_epoch(url: str, data_dir: Path, object_store: ObjectStore):
    info = qt.open_dataset(url)
    object_store.requests.clear()
    blocks = sum(len(shard.prefix_crc32c) for shard in info.manifest.splits["train"])
    for epochs in (1, 2):
        assert_same(info, data_dir, shuffle=True, epoch=epochs)
        assert len(object_store.requests) <= epochs * blocks  # neighbors come together


def test_memory_takes_large_ranges(url: str, data_dir: Path, object_store: ObjectStore):
    info = qt.open_dataset(url)
    object_store.requests.clear()
    assert_same(info, data_dir, cache="memory", shuffle=True)
    assert_same(info, data_dir, cache="memory", shuffle=True, epoch=1)
    assert len(object_store.requests) == len(info.manifest.splits["train"])
    for ours, theirs in zip(qt.arrays(url, "test"), qt.arrays(data_dir, "test"), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_what_is_open_says_where_it_is(url: str, data_dir: Path):
    info = qt.open_dataset(url)
    assert info.directory == open_store(f"{url}/{DIRECTORY}")
    assert qt.open_dataset(f"{url}/{DIRECTORY}").directory == info.directory
    assert f"{url}/{DIRECTORY}" in repr(info)
    assert info.fingerprint == qt.open_dataset(data_dir).fingerprint
    assert info.credit == qt.open_dataset(data_dir).credit
    assert_same(pickle.loads(pickle.dumps(info)), data_dir)


@pytest.mark.parametrize("order", ORDERS)
def test_a_web_server(web_server: WebServer, data_dir: Path, order: dict[str, object]):
    shutil.copytree(data_dir, web_server.folder / "data")
    assert_same(f"{web_server.url}/data", data_dir, **order)


@pytest.mark.parametrize("large_bytes", [0, 2**30])
def test_faults_on_the_way(
    any_url: str,
    data_dir: Path,
    any_object_store: ObjectStore,
    large_bytes: int,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(UrlBackend, "large_bytes", large_bytes)
    info = qt.open_dataset(any_url)
    faults = any_object_store.faults
    faults.resets, faults.unavailable, faults.truncated, faults.stalls = 5, 20, 5, 2
    assert_same(info, data_dir, shuffle=True)
    assert (faults.resets, faults.unavailable, faults.truncated, faults.stalls) == (0, 0, 0, 0)


@pytest.mark.slow
@pytest.mark.usefixtures("new_connections")
@pytest.mark.parametrize("large_bytes", [0, 2**30])
def test_a_server_that_is_slow(
    web_server: WebServer, data_dir: Path, large_bytes: int, monkeypatch: pytest.MonkeyPatch
):
    """All that is read takes longer than a server may be silent, and nothing is asked for again."""
    shutil.copytree(data_dir, web_server.folder / "data")
    monkeypatch.setattr(UrlBackend, "large_bytes", large_bytes)
    monkeypatch.setattr(UrlBackend, "stall_secs", 2.0)
    monkeypatch.setattr(store_retries, "ATTEMPTS", 1)
    info = qt.open_dataset(f"{web_server.url}/data")
    web_server.proxy.faults.bytes_per_sec = 2e5
    assert_same(info, data_dir, shuffle=True)


def test_faults_while_it_is_opened(url: str, data_dir: Path, object_store: ObjectStore):
    object_store.faults.resets = object_store.faults.unavailable = 3
    assert_same(url, data_dir)


def test_wrong_bytes(any_url: str):
    info = qt.open_dataset(any_url)
    name = f"{DIRECTORY}/{shard(2)}"
    store = open_store(any_url)
    data = bytearray(store.read(name))
    data[-7] ^= 1
    store.write(name, bytes(data))
    for cache in ("none", "memory"):
        # It was changed after it was opened; opened now, it is damaged.
        with pytest.raises(DataError, match=f"{name}: has changed since it was opened"):
            list(qt.batches(info, "train", 13, cache=cache))
        with pytest.raises(DataError, match=rf"{name}: its bytes differ .*\(CRC32C\)"):
            list(qt.batches(any_url, "train", 13, cache=cache))


def test_what_is_not_there(url: str, object_store: ObjectStore):
    store = open_store(f"{url}/{DIRECTORY}")
    short = store.read(shard(1))[:-1]
    store.write(shard(1), short)
    with pytest.raises(DataError, match=rf"{shard(1)}: {len(short):,} bytes, the manifest says"):
        qt.open_dataset(url)
    store.delete(shard(1))
    with pytest.raises(DataError, match=f"{shard(1)}: missing, but the manifest lists it"):
        qt.open_dataset(url)
    store.delete("manifest.json")
    with pytest.raises(DataError, match=f"^{url}: holds no data set: there is no manifest.json"):
        qt.open_dataset(url)


def test_one_that_goes_missing(url: str):
    info = qt.open_dataset(url)
    open_store(f"{url}/{DIRECTORY}").delete(shard(1))
    with pytest.raises(DataError, match=f"{shard(1)}: missing"):
        list(qt.batches(info, "train", 13, cache="none"))


def test_a_damaged_manifest(url: str):
    store = open_store(f"{url}/{DIRECTORY}")
    text = store.read("manifest.json")
    store.write("manifest.json", text.replace(b"train", b"brain"))
    with pytest.raises(DataError, match=r"manifest.json: damaged"):
        qt.open_dataset(url)


def test_a_consumer_that_has_had_enough(url: str, data_dir: Path):
    info = qt.open_dataset(url)
    batches = qt.batches(info, "train", 13, cache="none", shuffle=True, window_mib=0.02)
    next(iter(batches))
    assert_same(info, data_dir, shuffle=True)


def test_the_manifest_says_nothing_of_the_store(url: str, object_store: ObjectStore):
    manifest = json.loads(open_store(f"{url}/{DIRECTORY}").read("manifest.json"))
    assert "bucket" not in json.dumps(manifest)
