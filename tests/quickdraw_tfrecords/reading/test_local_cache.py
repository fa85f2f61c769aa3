"""Copies of shards on a local disk: fetched once, bounded, shared by processes."""

import multiprocessing
import re
from pathlib import Path

import pytest

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.stores import open_store
from tests.object_store import ObjectStore
from tests.quickdraw_tfrecords.reading.test_remote import DIRECTORY, assert_same, put, shard

GIB = 2**30


@pytest.fixture
def url(data_dir: Path, object_store: ObjectStore) -> str:
    put(data_dir, object_store.url)
    return object_store.url


def fetched(object_store: ObjectStore) -> int:
    """How many times parts of shards were asked for since last time."""
    gets = [one for one in object_store.requests if one.method == "GET"]
    object_store.requests.clear()
    return sum("tfrecord-" in one.path for one in gets)


def copies(cache: Path) -> list[Path]:
    return sorted(cache.glob("*/*.tfrecord-*"))


def test_each_shard_is_fetched_once(
    url: str, data_dir: Path, tmp_path: Path, object_store: ObjectStore
):
    cache = tmp_path / "some" / "cache"
    assert_same(qt.open_dataset(url, local_cache_dir=cache), data_dir, shuffle=True, epochs=2)
    assert fetched(object_store) == 6
    assert_same(qt.open_dataset(url, local_cache_dir=cache), data_dir, cache="memory")
    assert fetched(object_store) == 0
    on_disk = {path.name: path.read_bytes() for path in copies(cache)}
    assert on_disk == {
        path.name: path.read_bytes() for path in (data_dir / DIRECTORY).glob("*-train.*")
    }


def test_it_is_bounded_and_the_oldest_go_first(
    url: str, data_dir: Path, tmp_path: Path, object_store: ObjectStore
):
    size = (data_dir / DIRECTORY / shard()).stat().st_size
    limit = 2.5 * size / GIB
    info = qt.open_dataset(url, local_cache_dir=tmp_path, local_cache_gib=limit)
    assert_same(info, data_dir)
    assert sorted(path.name for path in copies(tmp_path)) == [shard(4), shard(5)]
    fetched(object_store)
    info = qt.open_dataset(url, local_cache_dir=tmp_path, local_cache_gib=limit)
    list(qt.batches(info, "train[90%:]", 13, cache="none"))
    assert fetched(object_store) == 0


def test_a_copy_that_is_cut_short_is_fetched_again(url: str, data_dir: Path, tmp_path: Path):
    assert_same(qt.open_dataset(url, local_cache_dir=tmp_path), data_dir)
    copies(tmp_path)[0].write_bytes(b"")
    assert_same(qt.open_dataset(url, local_cache_dir=tmp_path), data_dir)


def test_a_damaged_copy_is_named_with_the_remedy(url: str, data_dir: Path, tmp_path: Path):
    assert_same(qt.open_dataset(url, local_cache_dir=tmp_path), data_dir)
    path = copies(tmp_path)[3]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    with pytest.raises(DataError, match=f"{path}: its bytes differ .*; delete this copy"):
        assert_same(qt.open_dataset(url, local_cache_dir=tmp_path), data_dir)
    path.unlink()
    assert_same(qt.open_dataset(url, local_cache_dir=tmp_path), data_dir)


def test_what_comes_damaged_is_not_kept(url: str, data_dir: Path, tmp_path: Path):
    store = open_store(url) / DIRECTORY
    data = bytearray(store.read(shard()))
    data[100] ^= 1
    store.write(shard(), bytes(data))
    info = qt.open_dataset(url, local_cache_dir=tmp_path)
    with pytest.raises(DataError, match=rf"{re.escape(str(store / shard()))}: its bytes differ"):
        list(qt.batches(info, "train", 13, cache="none"))
    assert shard() not in [path.name for path in copies(tmp_path)]


def _read(url: str, data_dir: Path, cache: Path, gib: float) -> None:
    assert_same(qt.open_dataset(url, local_cache_dir=cache, local_cache_gib=gib), data_dir)


@pytest.mark.slow
@pytest.mark.parametrize("gib", [1, 300_000 / GIB])
def test_processes_share_it(
    url: str, data_dir: Path, tmp_path: Path, object_store: ObjectStore, gib: float
):
    fetched(object_store)
    spawn = multiprocessing.get_context("spawn")
    processes = [spawn.Process(target=_read, args=(url, data_dir, tmp_path, gib)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0, 0]
    if gib == 1:
        assert fetched(object_store) == 6


def test_data_on_disk_have_none(data_dir: Path, tmp_path: Path):
    assert_same(qt.open_dataset(data_dir, local_cache_dir=tmp_path / "cache"), data_dir)
    assert not (tmp_path / "cache").exists()
