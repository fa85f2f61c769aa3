"""Tests of conversion on a Dask cluster whose workers share a file system."""

import contextlib
import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path

import numpy as np
import pytest

from quickdraw_tfrecords.base import cluster, workers
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.format import manifest
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource
from quickdraw_tfrecords.writing import converter, filling
from quickdraw_tfrecords.writing.config import ConvertConfig
from tests.dask_cluster import DaskCluster
from tests.quickdraw_tfrecords.writing.test_converter import (
    BIG,
    SETTINGS,
    SLOWLY,
    TIMEOUT_SECS,
    contents,
    run,
    start,
)

FLAGS = (*BIG[:-1],)  # without --workers


@pytest.fixture(autouse=True)
def small_portions(monkeypatch):
    monkeypatch.setattr(filling, "_LEAST_PIECE_BYTES", 30_000)
    monkeypatch.setattr(filling, "_WRITE_BYTES", 1)


def test_the_bytes_are_those_of_one_machine(threads, data_dir, source, tmp_path):
    with cluster.pool(threads) as pool:
        converter.convert(source, tmp_path, SETTINGS, pool=pool)
        assert contents(tmp_path) == contents(data_dir)
        converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert contents(tmp_path) == contents(data_dir)


@pytest.mark.parametrize("first", ["here", "there"])
def test_what_one_machine_has_begun_a_cluster_finishes_and_the_other_way_round(
    threads, data_dir, source, tmp_path, pool, monkeypatch, first
):
    with cluster.pool(threads) as there:
        pools = [pool, there] if first == "here" else [there, pool]
        with monkeypatch.context() as patch:
            patch.setattr(converter.DataDirectory, "publish", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                converter.convert(source, tmp_path, SETTINGS, pool=pools[0])
        incomplete = tmp_path / "quickdraw" / "1.0.0.incomplete"
        (incomplete / "quickdraw-train.tfrecord-00002-of-00006").unlink()
        (incomplete / ".quickdraw-train.tfrecord-00002-of-00006.filling").write_bytes(b"begun")
        converter.convert(source, tmp_path, SETTINGS, pool=pools[1])
    assert contents(tmp_path) == contents(data_dir)


def test_drawings_left_out_are_the_same(threads, source, tmp_path, pool, monkeypatch):
    bitmaps = tmp_path / "bitmaps"
    bitmaps.mkdir()
    for label, name in enumerate(source.class_names):
        images = source.read(label, np.arange(100))
        images[::9] = 0
        np.save(bitmaps / f"{name}.npy", images)
    settings = ConvertConfig(per_class=80, shards=3, drop=("blank",))
    with cluster.pool(threads) as there:
        for number, one in enumerate((pool, there)):
            opened = NumpyBitmapSource.open(bitmaps)
            converter.convert(opened, tmp_path / str(number), settings, pool=one)
    assert contents(tmp_path / "0") == contents(tmp_path / "1")


class TwicePool(cluster.ClusterPool):
    """Does each task again, at any moment later: as a worker that was taken for dead may."""

    def __init__(self, executor: futures.Executor, seed: int) -> None:
        self._executor = executor
        self._random = random.Random(seed)
        self._max_workers = 3
        self.late: list[threading.Timer] = []

    def submit(self, function, /, *args, **kwargs):
        self.late.append(
            threading.Timer(self._random.uniform(0, 0.4), self._again, (function, args))
        )
        self.late[-1].start()
        return self._executor.submit(function, *args, **kwargs)

    def _again(self, function, args) -> None:
        with contextlib.suppress(OSError):  # it finds nothing to write to
            function(*args)

    def join(self) -> None:
        for timer in self.late:
            timer.join()


@pytest.mark.parametrize("seed", range(3))
def test_work_done_twice_does_no_harm(data_dir, source, tmp_path, seed):
    with futures.ThreadPoolExecutor(3) as executor:
        pool = TwicePool(executor, seed)
        converter.convert(source, tmp_path, SETTINGS, pool=pool)
        pool.join()
    assert contents(tmp_path) == contents(data_dir)


def test_work_of_a_command_that_has_ended_does_no_harm_to_another_one(
    data_dir, source, tmp_path, monkeypatch
):
    """Its workers go on while the same folder is overwritten with another data set."""
    other = ConvertConfig(per_class=200, shards=6, seed=4)
    with futures.ThreadPoolExecutor(3) as executor:
        pool = TwicePool(executor, 0)
        with monkeypatch.context() as patch:
            patch.setattr(converter.DataDirectory, "publish", lambda *_: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                converter.convert(source, tmp_path, other, pool=pool)
        wanted = ConvertConfig(per_class=200, shards=6, seed=3, overwrite=True)
        converter.convert(source, tmp_path, wanted, pool=TwicePool(executor, 1))
        pool.join()
    assert contents(tmp_path / "quickdraw" / "1.0.0") == contents(data_dir / "quickdraw" / "1.0.0")


def test_a_file_system_that_forgets_is_noticed(data_dir, source, tmp_path, threads, monkeypatch):
    fill = filling._write_at

    def forget(path: str, offset: int, data: np.ndarray) -> None:
        fill(path, offset, np.zeros_like(data) if offset == 0 else data)

    monkeypatch.setattr(filling, "_write_at", forget)
    with (
        pytest.raises(DataError, match=r"\.filling: is not what was written to it"),
        cluster.pool(threads) as pool,
    ):
        converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert not (tmp_path / "quickdraw" / "1.0.0").exists()


def test_workers_and_a_scheduler_exclude_each_other(tmp_path):
    flags = "--source=synthetic", f"--data_dir={tmp_path}", "--workers=77"
    exit_code, _, error = run(*flags, "--scheduler=tcp://127.0.0.1:9")
    assert exit_code == 2
    assert error.startswith("error: --workers=77 is of this machine; with --scheduler=tcp://127")
    assert error.count("\n") == 1


# Real processes


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed")
    assert run(*FLAGS, f"--data_dir={path}")[0] == 0
    return path


@pytest.fixture
def dask(tmp_path: Path) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path / "dask", workers=2) as dask:
        yield dask


def start_slowly(data_dir: Path, dask: DaskCluster) -> subprocess.Popen:
    flags = (*FLAGS, f"--data_dir={data_dir}", f"--scheduler={dask.address}")
    return start(*flags, command=SLOWLY)


def wait_for_files(process: subprocess.Popen, data_dir: Path, pattern: str, count: int) -> None:
    deadline = time.monotonic() + TIMEOUT_SECS
    while len(list(data_dir.glob(f"quickdraw/1.0.0.{pattern}"))) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def last_line(errors: str) -> str:
    return errors.rstrip("\n").rsplit("\n", 1)[-1].rsplit("\r", 1)[-1]


@pytest.mark.slow
def test_a_worker_killed_in_the_middle_and_one_added(dask, undisturbed, tmp_path):
    data_dir = tmp_path / "data"
    process = start_slowly(data_dir, dask)
    wait_for_files(process, data_dir, "work-*/.*.filling", 1)
    dask.workers[0].kill()
    dask.add_worker()
    wait_for_files(process, data_dir, "incomplete/quickdraw-*", 5)
    dask.workers[1].kill()
    _, errors = process.communicate(timeout=TIMEOUT_SECS)
    assert process.returncode == 0, errors
    assert contents(data_dir) == contents(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["work-*/.*.filling", "incomplete/quickdraw-*"])
def test_a_scheduler_that_goes_away(undisturbed, tmp_path, moment):
    data_dir = tmp_path / "data"
    with DaskCluster(tmp_path / "first", workers=2) as dask:
        process = start_slowly(data_dir, dask)
        wait_for_files(process, data_dir, moment, 5)
        dask.scheduler.kill()
        _, errors = process.communicate(timeout=TIMEOUT_SECS)
    assert process.returncode == 1
    assert last_line(errors).startswith(f"error: --scheduler={dask.address}: it went away; run")
    assert "Traceback" not in errors
    with DaskCluster(tmp_path / "second", workers=1) as dask:
        flags = f"--data_dir={data_dir}", f"--scheduler={dask.address}"
        assert run(*FLAGS, *flags)[0] == 0
    assert contents(data_dir) == contents(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_was_stopped_goes_on(dask, undisturbed, tmp_path, number):
    data_dir = tmp_path / "data"
    process = start_slowly(data_dir, dask)
    wait_for_files(process, data_dir, "incomplete/quickdraw-*", 9)
    process.send_signal(number)
    _, errors = process.communicate(timeout=TIMEOUT_SECS)
    assert "Traceback" not in errors
    if number == signal.SIGINT:
        assert process.returncode == 130
        assert last_line(errors) == "error: interrupted"
    assert all(worker.poll() is None for worker in dask.workers)
    flags = f"--data_dir={data_dir}", f"--scheduler={dask.address}"
    assert run(*FLAGS, *flags)[0] == 0  # while the workers may still be at the old work
    assert contents(data_dir) == contents(undisturbed)


@pytest.mark.slow
@pytest.mark.parametrize("hidden", ["source", "data"])
def test_a_worker_that_cannot_reach_a_folder_is_named(source, tmp_path, hidden):
    if os.geteuid() or subprocess.run(["unshare", "-m", "true"], check=False).returncode:
        pytest.skip("needs to mount something over a folder")
    for name in ("source", "data"):
        (tmp_path / name).mkdir()
    for label, name in enumerate(source.class_names):
        np.save(tmp_path / "source" / f"{name}.npy", source.read(label, np.arange(60)))
    mount = f'mount -t tmpfs none {tmp_path / hidden} && exec "$@"'
    with DaskCluster(tmp_path / "dask") as dask:
        dask.add_worker(prefix=["unshare", "-m", "sh", "-c", mount, "sh"])
        exit_code, _, errors = run(
            "--source=numpy_bitmap",
            f"--source_dir={tmp_path / 'source'}",
            f"--data_dir={tmp_path / 'data'}",
            "--per_class=50",
            f"--scheduler={dask.address}",
        )
    assert exit_code == 1
    assert last_line(errors).startswith(f"error: {tmp_path / hidden}/")
    assert ": No such file or directory (says the worker tcp://127.0.0.1:" in last_line(errors)
    with pytest.raises(DataError):
        manifest.find_directory(tmp_path / "data")


@pytest.mark.slow
def test_a_source_with_an_index(dask, tmp_path):
    """Its index is written by some workers, and read by others."""
    lines = '{"word": "cat", "recognized": true, "drawing": [[[%d, 200], [7, 90]]]}\n'
    (tmp_path / "strokes").mkdir()
    text = "".join(lines % number for number in range(100))
    (tmp_path / "strokes" / "cat.ndjson").write_text(text)
    flags = "--source=strokes", f"--source_dir={tmp_path / 'strokes'}", "--per_class=90"
    exit_code, _, errors = run(
        *flags, f"--data_dir={tmp_path / 'there'}", f"--scheduler={dask.address}"
    )
    assert exit_code == 0, errors
    assert run(*flags, f"--data_dir={tmp_path / 'here'}", "--workers=1")[0] == 0
    assert contents(tmp_path / "there") == contents(tmp_path / "here")


@pytest.mark.slow
def test_the_number_of_workers_does_not_matter(undisturbed, tmp_path):
    with DaskCluster(tmp_path / "dask", workers=1) as dask, cluster.pool(dask.address) as pool:
        dask.add_worker(threads=3)
        dask.wait_for(lambda: workers.count(pool) == 4)
        flags = f"--data_dir={tmp_path / 'data'}", f"--scheduler={dask.address}"
        assert run(*FLAGS, *flags)[0] == 0
    assert contents(tmp_path / "data") == contents(undisturbed)
