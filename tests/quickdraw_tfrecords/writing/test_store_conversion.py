"""Tests of conversion into an object store: moto's S3 server, behind a proxy with faults."""

import functools
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import cluster, leases, workers
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.leases import Lease, LeaseObject
from quickdraw_tfrecords.base.stores import Store, open_store
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource
from quickdraw_tfrecords.writing import converter, filling, store_batches, store_writer
from quickdraw_tfrecords.writing.config import ConvertConfig
from quickdraw_tfrecords.writing.store_directory import StoreDirectory
from tests.dask_cluster import DaskCluster
from tests.object_store import ObjectStore
from tests.quickdraw_tfrecords.writing.test_converter import (
    BIG,
    SETTINGS,
    SLOWLY,
    TIMEOUT_SECS,
    contents,
    kill,
    run,
    start,
)

OVERWRITE = ConvertConfig(per_class=200, shards=6, seed=3, overwrite=True)
OTHER = ConvertConfig(per_class=200, shards=6, seed=4)


def slow(*values: object) -> list:
    return [pytest.param(value, marks=pytest.mark.slow) for value in values]


@pytest.fixture(autouse=True)
def leases_are_taken_at_once(monkeypatch):
    monkeypatch.setattr(leases, "_SETTLE_SECS", 0.0)


@pytest.fixture
def store(object_store: ObjectStore) -> Store:
    return open_store(f"{object_store.url}/data")


@pytest.fixture
def any_store(any_object_store: ObjectStore) -> Store:
    return open_store(f"{any_object_store.url}/data")


@pytest.fixture
def scratch(tmp_path: Path) -> Path:
    path = tmp_path / "scratch"
    path.mkdir()
    return path


def objects(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.entries()}


@pytest.fixture
def hands() -> Iterator[futures.Executor]:
    """Threads, which find the store at once."""
    with futures.ThreadPoolExecutor(2) as executor:
        yield executor


@pytest.fixture(params=["here", "there"])
def workforce(request, object_store, threads) -> Iterator[futures.Executor]:
    """Processes of this machine, then a cluster."""
    place = workers.pool(2) if request.param == "here" else cluster.pool(threads)
    with place as pool:
        yield pool


def test_the_objects_are_the_files_of_one_machine(
    store, workforce, source, data_dir, scratch, monkeypatch
):
    monkeypatch.setattr(store_batches, "_BATCH_BYTES", 300_000)
    directory = converter.convert(source, store, SETTINGS, pool=workforce, scratch_dir=scratch)
    assert str(directory) == f"{store}/quickdraw/1.0.0"
    assert objects(store) == contents(data_dir)
    assert not list(scratch.iterdir())
    before = store.entries()
    converter.convert(source, store, SETTINGS, pool=workforce, scratch_dir=scratch)
    assert store.entries() == before


def test_a_source_in_a_bucket_too(store, threads, source, tmp_path):
    """Workers then share nothing but the store."""
    bitmaps = tmp_path / "bitmaps"
    bitmaps.mkdir()
    for label, name in enumerate(source.class_names):
        np.save(bitmaps / f"{name}.npy", source.read(label, np.arange(40)))
        (store / "bitmaps").write(f"{name}.npy", bitmaps / f"{name}.npy")
    settings = ConvertConfig(per_class=30, shards=3)
    with cluster.pool(threads) as there:
        opened = NumpyBitmapSource.open(store / "bitmaps")
        directory = converter.convert(opened, store / "data", settings, pool=there)
    with futures.ThreadPoolExecutor(2) as hands:
        here = converter.convert(
            NumpyBitmapSource.open(bitmaps), tmp_path / "data", settings, pool=hands
        )
    shards = {name: data for name, data in objects(directory).items() if "tfrecord" in name}
    assert shards == {name: data for name, data in contents(here).items() if "tfrecord" in name}


def test_a_license_comes_along(store, hands, source, tmp_path):
    settings = ConvertConfig(per_class=30, shards=3, license="CC0, by Ann")
    for place in (store, tmp_path):
        converter.convert(source, place, settings, pool=hands)
    assert "quickdraw/1.0.0/LICENSE" in store.entries()
    assert objects(store) == contents(tmp_path)


def test_what_was_converted_can_be_read(store, hands, source, data_dir):
    converter.convert(source, store, SETTINGS, pool=hands)
    found, wanted = (qt.arrays(qt.open_dataset(place), "test") for place in (store, data_dir))
    for mine, other in zip(found, wanted, strict=True):
        np.testing.assert_array_equal(mine, other)


@pytest.mark.parametrize("fault", ["unavailable", *slow("resets", "truncated")])
def test_a_store_that_fails_now_and_then(
    object_store, store, hands, source, data_dir, scratch, fault, monkeypatch
):
    write = store_writer.StoreShardWriter.finish
    done = []

    def fail_meanwhile(self, shard: int) -> None:
        done.append(shard)
        if len(done) in (1, 3):
            setattr(object_store.faults, fault, 2)
        write(self, shard)

    monkeypatch.setattr(store_writer.StoreShardWriter, "finish", fail_meanwhile)
    converter.convert(source, store, SETTINGS, pool=hands, scratch_dir=scratch)
    assert len(done) == 9
    assert getattr(object_store.faults, fault) == 0
    assert objects(store) == contents(data_dir)


class StopError(Exception):
    pass


@pytest.mark.parametrize("puts", [2, 19, *slow(0, 1, 5, 9, 17, 18, 20, 21, 22)])
def test_a_conversion_stopped_after_any_put_is_finished(
    store, source, data_dir, scratch, monkeypatch, puts
):
    """In one process, so that all puts are counted: manifest, 9 x (shard, facts), 3, manifest."""
    write, count = Store.write, 0

    def stop_after(self, name: str, data: bytes | Path):
        nonlocal count
        if name != leases.LEASE_NAME:
            if count == puts:
                raise StopError
            count += 1
        return write(self, name, data)

    with futures.ThreadPoolExecutor(1) as hands:
        with monkeypatch.context() as patch:
            patch.setattr(Store, "write", stop_after)
            patch.setattr(store_writer.StoreShardWriter, "finishers", 1)
            with pytest.raises(StopError):
                converter.convert(source, store, SETTINGS, pool=hands, scratch_dir=scratch)
        with pytest.raises(DataError, match="holds no data set"):
            qt.open_dataset(store)
        kept = {
            name: entry
            for name, entry in store.entries().items()
            if name.startswith("quickdraw/1.0.0/quickdraw-")
        }
        written = []
        monkeypatch.setattr(
            Store, "write", lambda *args: (written.append(args[1]), write(*args))[1]
        )
        converter.convert(source, store, SETTINGS, pool=hands, scratch_dir=scratch)
    assert objects(store) == contents(data_dir)
    again = sum(name.startswith("quickdraw-") and ".json" not in name for name in written)
    known = min(9, max(0, puts - 1) // 2)  # a shard without its facts is put again
    assert again == 9 - known
    assert len(kept) in (known, known + 1)


def test_what_is_in_its_order_is_put_without_reading_again(
    store, source, data_dir, scratch, monkeypatch
):
    def stop(self, written) -> None:
        raise StopError

    def no_portions(filler: filling.ShardFiller, wanted: np.ndarray, _) -> list:
        assert not wanted.any()
        return []

    with futures.ThreadPoolExecutor(1) as hands:
        with monkeypatch.context() as patch:
            patch.setattr(store_writer.StoreShardWriter, "finish", stop)
            with pytest.raises(StopError):
                converter.convert(source, store, SETTINGS, pool=hands, scratch_dir=scratch)
        hands.submit(int).result()  # after what was begun
        assert list(scratch.glob("*/quickdraw-*"))
        monkeypatch.setattr(filling.ShardFiller, "portions", no_portions)
        converter.convert(source, store, SETTINGS, pool=hands, scratch_dir=scratch)
    assert objects(store) == contents(data_dir)


@pytest.mark.parametrize("damage", ["shard", *slow("facts", "no shard")])
def test_what_was_changed_meanwhile_is_put_again(
    store, hands, source, data_dir, scratch, monkeypatch, damage
):
    with monkeypatch.context() as patch:
        patch.setattr(StoreDirectory, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            converter.convert(source, store, SETTINGS, pool=hands, scratch_dir=scratch)
    name = "quickdraw-train.tfrecord-00001-of-00006"
    if damage == "shard":
        store.write(f"quickdraw/1.0.0/{name}", b"x" * store.entry(f"quickdraw/1.0.0/{name}").size)
    elif damage == "facts":
        facts = store.read(f"quickdraw/1.0.0.incomplete/{name}.json")
        store.write(f"quickdraw/1.0.0.incomplete/{name}.json", facts.replace(b"0", b"1", 1))
    else:
        store.delete(f"quickdraw/1.0.0/{name}")
    converter.convert(source, store, SETTINGS, pool=hands, scratch_dir=scratch)
    assert objects(store) == contents(data_dir)


def test_a_shard_that_is_changed_before_the_end_is_not_published(
    store, hands, source, data_dir, monkeypatch
):
    check = store_writer.StoreShardWriter.all

    def change_and_check(self):
        self.final.write(self.deal.name(3), b"other")
        return check(self)

    with monkeypatch.context() as patch:
        patch.setattr(store_writer.StoreShardWriter, "all", change_and_check)
        with pytest.raises(DataError, match=r"00006: was changed meanwhile; run the same command"):
            converter.convert(source, store, SETTINGS, pool=hands)
    with pytest.raises(DataError, match="holds no data set"):
        qt.open_dataset(store)
    converter.convert(source, store, SETTINGS, pool=hands)
    assert objects(store) == contents(data_dir)


def test_another_request_is_refused_or_overwrites(store, hands, source, data_dir, monkeypatch):
    converter.convert(source, store, OTHER, pool=hands)
    with pytest.raises(UsageError, match=r"^s3://.*/1.0.0: holds another .* seed is 4, wanted 3"):
        converter.convert(source, store, SETTINGS, pool=hands)
    with monkeypatch.context() as patch:
        patch.setattr(StoreDirectory, "publish", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            converter.convert(source, store, OVERWRITE, pool=hands)
    with pytest.raises(DataError, match="holds no data set"):  # neither the old one nor the new
        qt.open_dataset(store)
    with pytest.raises(UsageError, match=r"incomplete: holds another conversion: seed is 3"):
        converter.convert(source, store, OTHER, pool=hands)
    converter.convert(source, store, OVERWRITE, pool=hands)
    assert objects(store) == contents(data_dir)


def test_objects_of_something_else_are_left_alone(store, hands, source, data_dir):
    store.write("quickdraw/1.0.0/thesis.tex", b"years of work")
    with pytest.raises(UsageError, match=r"holds objects, and no data set.*--overwrite"):
        converter.convert(source, store, SETTINGS, pool=hands)
    assert objects(store) == {"quickdraw/1.0.0/thesis.tex": b"years of work"}
    converter.convert(source, store, OVERWRITE, pool=hands)
    assert objects(store) == contents(data_dir)


def test_two_conversions_do_not_write_to_one_folder(store, hands, source):
    with (
        Lease(LeaseObject(store / "quickdraw"), "conversion"),
        pytest.raises(UsageError, match=r"data/quickdraw: another conversion is writing here"),
    ):
        converter.convert(source, store, SETTINGS, pool=hands)


@pytest.mark.parametrize("stage", ["reading", "writing"])
def test_a_worker_of_a_conversion_that_has_ended_puts_nothing_more(
    store, source, threads, scratch, monkeypatch, stage
):
    """Its lease stood still, and another has it."""
    monkeypatch.setattr(leases, "_BEAT_SECS", 1000.0)
    monkeypatch.setattr(store_batches, "_LOOK_SECS", 0.0)
    place = store / "quickdraw"
    kind = filling.ShardFiller if stage == "reading" else store_writer.StoreShardWriter
    name = "fill" if stage == "reading" else "write"
    work, put = getattr(kind, name), []

    @functools.wraps(work)
    def be_replaced(self, item):
        if not put:
            put.append(place.write(leases.LEASE_NAME, leases.Holder.me().to_bytes(0)))
        return work(self, item)

    monkeypatch.setattr(filling, "_LEAST_PIECE_BYTES", 30_000)
    monkeypatch.setattr(filling, "_WRITE_BYTES", 1)
    monkeypatch.setattr(kind, name, be_replaced)
    with (
        pytest.raises(DataError, match="the conversion that wanted this has ended"),
        cluster.pool(threads) as there,
    ):
        converter.convert(source, store, SETTINGS, pool=there, scratch_dir=scratch)
    assert not [name for name in store.entries() if name.startswith("quickdraw/1.0.0/")]
    assert not list(scratch.iterdir())


def test_a_small_disk_takes_several_batches(store, hands, source, data_dir, scratch, monkeypatch):
    largest, begin = 0, filling.ShardFiller.begin

    def note(self, shards) -> None:
        nonlocal largest
        largest = max(largest, len(list(shards)))
        begin(self, shards)

    usage = store_writer.shutil.disk_usage(scratch)
    monkeypatch.setattr(store_writer.shutil, "disk_usage", lambda _: usage._replace(free=400_000))
    monkeypatch.setattr(filling.ShardFiller, "begin", note)
    converter.convert(source, store, SETTINGS, pool=hands, scratch_dir=scratch)
    assert objects(store) == contents(data_dir)
    assert 1 <= largest <= 4  # of nine, of 100 kB each
    monkeypatch.setattr(store_writer.shutil, "disk_usage", lambda _: usage._replace(free=40_000))
    with pytest.raises(DataError, match=r"MiB are free; make room or choose another --scratch_dir"):
        converter.convert(source, store, OVERWRITE, pool=hands, scratch_dir=scratch)


def test_a_disk_of_a_worker_that_is_too_small_is_named(
    store, threads, source, scratch, monkeypatch
):
    usage = store_writer.shutil.disk_usage(scratch)
    monkeypatch.setattr(store_writer.shutil, "disk_usage", lambda _: usage._replace(free=40_000))
    with (
        pytest.raises(DataError, match=r"another --scratch_dir \(says the worker inproc://"),
        cluster.pool(threads) as there,
    ):
        converter.convert(source, store, SETTINGS, pool=there)


def test_a_download_needs_a_folder(store):
    exit_code, _, error = run("--source=download", f"--data_dir={store}", "--workers=1")
    assert exit_code == 2
    assert error == (
        f"error: --data_dir={store}: with a URL, --source=download needs --source_dir\n"
    )


@pytest.mark.parametrize("flags", [["--source=strokes"], ["--source=synthetic", "--drop=blank"]])
def test_an_index_needs_a_folder_that_is_shared(store, flags):
    flags += [f"--data_dir={store}", "--scheduler=tcp://127.0.0.1:9"]
    exit_code, _, error = run(*flags)
    assert exit_code == 2
    assert "--scratch_dir, a folder that all workers share" in error
    assert error.count("\n") == 1


# The command

FLAGS = (*BIG[:-1],)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed")
    assert run(*FLAGS, f"--data_dir={path}")[0] == 0
    return path


def wait_for_objects(process: subprocess.Popen, store: Store, count: int) -> None:
    """Waits until the command has put some shards."""
    deadline = time.monotonic() + TIMEOUT_SECS
    folder = store / "quickdraw" / "1.0.0"
    while len(folder.entries()) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.slow
def test_a_command_killed_anywhere_is_finished_by_running_it_again(any_store, undisturbed, scratch):
    generator = random.Random(0)
    flags = (*FLAGS, f"--data_dir={any_store}", f"--scratch_dir={scratch}", "--workers=2")
    kept = {}
    for goal in (0, 1, 20, 60):
        with start(*flags, command=SLOWLY) as process:
            wait_for_objects(process, any_store, goal)
            time.sleep(generator.uniform(0, 0.5))
            kill(process)
        now = (any_store / "quickdraw" / "1.0.0").entries()
        assert kept.items() <= now.items()
        kept = now
    exit_code, output, errors = run(*flags)
    assert exit_code == 0, errors
    assert output == f"the data set is in {any_store}/quickdraw/1.0.0\n"
    assert objects(any_store) == contents(undisturbed)
    assert not list(scratch.iterdir())


@pytest.mark.slow
def test_a_worker_killed_and_one_added_and_the_command_interrupted(store, undisturbed, tmp_path):
    with DaskCluster(tmp_path / "dask", workers=2) as dask:
        flags = (*FLAGS, f"--data_dir={store}", f"--scheduler={dask.address}")
        process = start(*flags)
        wait_for_objects(process, store, 1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=TIMEOUT_SECS)
        assert process.returncode == 130, errors
        process = start(*flags)
        dask.add_worker()
        wait_for_objects(process, store, 10)
        dask.workers[0].kill()
        _, errors = process.communicate(timeout=TIMEOUT_SECS)
        assert process.returncode == 0, errors
    assert objects(store) == contents(undisturbed)


@pytest.mark.slow
def test_credentials_in_a_url_are_never_shown(store, tmp_path, object_store):
    secret = "Kf9sXq2vTz7wLm4n"
    bucket = object_store.url.removeprefix("s3://")
    flags = "--source=synthetic", "--classes=cat,tree", "--per_class=30", "--workers=1"
    url = f"s3://user:{secret}@{bucket}/other"
    exit_code, output, errors = run(*flags, f"--data_dir={url}")
    assert exit_code == 0, errors
    assert secret not in output + errors
    assert not [name for name, data in objects(open_store(url)).items() if secret.encode() in data]
