"""Tests of quickdraw_tfrecords.base.cluster; most with a cluster of threads in this process."""

import errno
import io
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from distributed import LocalCluster

from quickdraw_tfrecords.base import cluster, workers
from quickdraw_tfrecords.base.errors import DataError, UsageError
from tests.dask_cluster import WITHOUT_PACKAGE, DaskCluster


def test_work_is_done_and_the_workers_are_counted(threads):
    with cluster.pool(threads) as pool:
        assert sorted(workers.bounded_map(pool, abs, range(-90, 0))) == list(range(1, 91))
        assert workers.count(pool) == 3


def test_each_thread_has_a_function_of_its_own(threads):
    with cluster.pool(threads) as pool:
        found = set(workers.bounded_map(pool, _Place(), range(60)))
    assert len({thread for thread, _ in found}) == len(found) > 1


class _Place:
    """Tells in which thread it is, and which of its copies."""

    def __call__(self, item: int) -> tuple[int, int]:
        barrier = threading.Event()
        barrier.wait(0.005)  # so that all threads get some
        return threading.get_ident(), id(self)


def _fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("error", "raised", "said"),
    [
        (DataError("cat.npy: damaged"), DataError, "cat.npy: damaged"),
        (UsageError("--seed=1: no"), UsageError, "--seed=1: no"),
        (
            FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), "/data/cat.npy"),
            DataError,
            "/data/cat.npy: No such file or directory",
        ),
        (OSError(errno.ENOSPC, "", "/data/x"), DataError, "/data/x: No space left .* resumes"),
    ],
)
def test_an_error_is_one_line_that_names_the_worker(threads, error, raised, said):
    line = rf"^{said}.* \(says the worker inproc://.* on .*\)$"
    with pytest.raises(raised, match=line), cluster.pool(threads) as pool:
        list(workers.bounded_map(pool, _fail, [error]))


def test_other_errors_are_raised_as_they_are(threads):
    with pytest.raises(ZeroDivisionError), cluster.pool(threads) as pool:
        list(workers.bounded_map(pool, _fail, [ZeroDivisionError()]))


def test_a_worker_of_another_version_is_named(threads, monkeypatch):
    monkeypatch.setitem(cluster._VERSIONS, "numpy", "1.26.4")
    with (
        pytest.raises(DataError, match=r"worker inproc.* has numpy \S+ \(here it is 1.26.4\): ins"),
        cluster.pool(threads) as pool,
    ):
        pool.submit(abs, -1).result()


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("tcp://127.0.0.1:9", "no Dask scheduler there: Timed out"),
        ("smoke://signals", "no Dask scheduler there: .*smoke"),
        ("127.0.0.1:x", "no Dask scheduler there: "),
    ],
)
def test_an_address_without_a_scheduler_is_one_line(monkeypatch, address, said):
    monkeypatch.setattr(cluster, "_CONNECT_SECS", 0.5)
    line = f"^--scheduler={address}: {said}"
    with pytest.raises(UsageError, match=line), cluster.pool(address):
        pass


def test_without_dask_there_is_a_remedy(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    line = r"needs Dask: pip install 'quickdraw-tfrecords\[dask\]'"
    with pytest.raises(UsageError, match=line), cluster.pool("tcp://127.0.0.1:8786"):
        pass


def test_to_wait_for_workers_is_said_once(monkeypatch):
    said = io.StringIO()  # pytest's capture loses what is written while it is being read
    monkeypatch.setattr(sys, "stderr", said)
    monkeypatch.setattr(cluster, "_LOOK_SECS", 0.02)
    monkeypatch.setattr(cluster, "_PATIENCE_SECS", 0.1)
    with (
        LocalCluster(n_workers=0, processes=False, dashboard_address=":0") as local,
        cluster.pool(local.scheduler_address) as pool,
    ):
        future = pool.submit(abs, -7)
        while not said.getvalue().endswith("\n"):
            assert not future.done()
        local.scale(1)
        assert future.result() == 7
    assert said.getvalue() == f"--scheduler={local.scheduler_address}: waiting for workers\n"


# Real processes


@pytest.mark.slow
def test_a_worker_and_a_scheduler_without_the_package(tmp_path: Path):
    with DaskCluster(tmp_path, preload=WITHOUT_PACKAGE) as dask:
        dask.add_worker()
        with cluster.pool(dask.address) as pool:  # the scheduler does not need it
            assert pool.submit(abs, -1).result() == 1
        dask.workers[0].kill()
        dask.add_worker(preload=WITHOUT_PACKAGE)
        line = r"tcp://\S+ has quickdraw_tfrecords none \(here it is"
        with pytest.raises(DataError, match=line), cluster.pool(dask.address) as pool:
            pool.submit(abs, -1).result()


def _end(_: int) -> None:
    os._exit(1)


@pytest.mark.slow
def test_work_that_ends_its_workers_is_given_up(tmp_path: Path):
    line = r"4 workers died of the same work.* memory.*resumes"
    with (
        DaskCluster(tmp_path, workers=4) as dask,
        pytest.raises(DataError, match=line),
        cluster.pool(dask.address) as pool,
    ):
        pool.submit(_end, 0).result()


def _wait(path: Path) -> None:
    path.touch()
    threading.Event().wait()


@pytest.mark.slow
def test_a_scheduler_that_goes_away_is_one_line(tmp_path: Path):
    with DaskCluster(tmp_path, workers=1) as dask:

        def kill_it_meanwhile() -> None:
            with cluster.pool(dask.address) as pool:
                future = pool.submit(_wait, tmp_path / "begun")
                dask.wait_for((tmp_path / "begun").exists)
                dask.scheduler.kill()
                future.result()

        line = rf"^--scheduler={dask.address}: it went away; run the same command again"
        with pytest.raises(DataError, match=line):
            kill_it_meanwhile()


def test_nothing_of_dask_is_imported_without_a_cluster():
    code = "import sys; from quickdraw_tfrecords.commands import convert; "
    code += "sys.exit('distributed' in sys.modules or 'dask' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
