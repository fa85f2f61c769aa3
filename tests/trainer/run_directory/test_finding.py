"""What commands make of runs in a bucket is what they make of the same runs in folders."""

import dataclasses
import os
from pathlib import Path

import numpy as np
import pytest

import quickdraw_tfrecords as qt
import trainer
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.leases import Lease, LeaseObject
from quickdraw_tfrecords.base.locks import locked
from quickdraw_tfrecords.base.stores import Store, open_store
from quickdraw_tfrecords.reading import drawings
from tests.object_store import ObjectStore
from tests.trained import make_run
from tests.trainer.training.test_steps import make_config
from trainer.results import comparison, comparison_tables
from trainer.run_directory import checkpoints, finding, runs, starts, status
from trainer.run_directory.runs import TrainedRun
from trainer.training import teaching


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir) -> TrainedRun:
    """3 of 9 epochs."""
    return make_run(tmp_path_factory.mktemp("runs") / "one", data_dir)


def upload(directory: Path, store: Store) -> Store:
    for path in directory.rglob("*"):
        if path.is_file():
            store.write(str(path.relative_to(directory)), path)
    return store


@pytest.fixture
def store(run: TrainedRun, object_store: ObjectStore) -> Store:
    """The same run."""
    return upload(run.directory, open_store(f"{object_store.url}/runs/one"))


def read(object_store: ObjectStore) -> set[str]:
    """Names of the objects that were read since the last time; not what lists them."""
    found = {
        path.rpartition("/")[2] for method, path, _ in object_store.requests if method == "GET"
    }
    object_store.requests.clear()
    return found - {path.removeprefix("s3://") for path in (object_store.url,)}


@pytest.mark.parametrize("stopped", [None, False, True])
def test_the_status_is_that_of_the_folder(tmp_path, data_dir, object_store, stopped):
    local = make_run(tmp_path / "run", data_dir)
    if stopped is not None:
        state = {"progress": {"epoch": 3, "stopped": stopped}}
        weights = {"a": np.frombuffer(os.urandom(4 * 2**20), np.uint8)}
        checkpoints.latest(local.directory, keep=1).save(30, weights, state)
    store = upload(local.directory, open_store(f"{object_store.url}/run"))
    found = status.of(finding.open_listed(store))
    assert dataclasses.asdict(found) == dataclasses.asdict(status.of(local))


def test_a_run_that_is_held_is_running(store):
    with Lease(LeaseObject(store), "training run"):
        assert status.of(finding.open_listed(store)).state == "running"
    assert status.of(finding.open_listed(store)).state == "stopped"


def test_runs_are_found_by_the_folder_they_are_in(run, store, object_store, tmp_path):
    upload(run.directory, open_store(f"{object_store.url}/runs/two"))
    folder = f"{object_store.url}/runs"
    assert [str(one) for one in finding.find([folder], "")] == [f"{folder}/one", f"{folder}/two"]
    both = finding.find([f"{folder}/two", str(run.directory), folder], "")
    assert list(map(str, both)) == [f"{folder}/two", str(run.directory), f"{folder}/one"]
    with pytest.raises(UsageError, match=rf"--run_dirs={folder}/three: no run is there"):
        finding.find([f"{folder}/three"], "--run_dirs=")


def test_an_opened_run_reads_what_it_needs_and_keeps_its_results(
    run, store, object_store, data_dir
):
    images = drawings.read_at(qt.open_dataset(data_dir), "test", np.arange(7))
    local = trainer.open_run(run.directory)
    object_store.requests.clear()
    opened = trainer.open_run(str(store))
    assert repr(opened) == f"<run {store}: compact_cnn, 5 classes>"
    assert opened.history() == local.history()
    np.testing.assert_array_equal(opened.predict(images), local.predict(images))
    assert read(object_store) == {"run.json", "history.csv", "step-0000000020.npz"}
    found, expected = opened.evaluate("test"), local.evaluate("test")
    assert found.metrics.headline() == expected.metrics.headline()
    assert "evaluation/test/metrics.json" in store.entries()
    object_store.requests.clear()
    trainer.open_run(str(store)).evaluate("test")
    assert not any(method == "PUT" for method, *_ in object_store.requests)  # it was found


def test_a_comparison_is_that_of_the_folders(run, store, tmp_path, data_dir, object_store):
    other = make_run(tmp_path / "two", data_dir, seed=1)
    upload(other.directory, open_store(f"{object_store.url}/runs/two"))
    opened = [
        finding.open_whole(one, "test")
        for one in finding.find([f"{store}", f"{object_store.url}/runs/two"], "")
    ]
    texts = [
        comparison_tables.to_text(comparison.gather(dict(zip("ab", pair, strict=True)), "test"))
        for pair in (opened, [run, other])
    ]
    assert texts[0] == texts[1]
    for one in opened:
        one.publish()
        assert "evaluation/test/predictions.npz" in one.copy.store.entries()


def test_results_that_cannot_be_kept_may_go_elsewhere(store, object_store):
    opened = runs.open_run(store)
    (opened.directory / "new").write_bytes(b"result")
    object_store.faults.denied = 10**6
    with pytest.raises(DataError, match=r"access denied.*; --out_dir=\.\.\. names another place"):
        opened.publish()


def test_no_run_is_one_line(object_store):
    with pytest.raises(UsageError, match=rf"--run_dir={object_store.url}/x: holds no run.json"):
        trainer.open_run(f"{object_store.url}/x")


def test_a_teacher_may_be_in_a_bucket(run, store, data_dir):
    info = qt.open_dataset(data_dir)
    (_, expected), (model, found) = (
        teaching.load(location, info, "float32") for location in (run.directory, store)
    )
    assert found == expected
    assert model.output_shape == (None, 5)
    with pytest.raises(UsageError, match=rf"--teacher={store}/x: holds no run.json"):
        teaching.load(store / "x", info, "float32")


@pytest.mark.parametrize("name", ["", "/checkpoints/best", "/checkpoints/best/step-0000000020.npz"])
def test_first_weights_may_be_in_a_bucket(run, store, tmp_path, data_dir, name):
    config = make_config(
        data_dir=data_dir, run_dir=tmp_path, init_from=f"{store}{name}", resume="never"
    )
    starts.require(config)
    with starts.weights(config.init_from) as path:
        found, _ = checkpoints.read(path)
    expected, _ = checkpoints.read(run.checkpoint())
    for array in expected:
        np.testing.assert_array_equal(found[array], expected[array])


def test_what_a_run_needs_to_begin_is_asked_of_the_bucket(store, data_dir):
    config = make_config(data_dir=data_dir, run_dir=str(store), resume="must")
    with pytest.raises(UsageError, match=f"--resume=must, but {store} has no checkpoint"):
        starts.require(config)
    store.write("checkpoints/latest/step-0000000030.npz", b"")
    starts.require(config)
    for missing in (store / "x", store / "x.npz"):
        config = make_config(
            data_dir=data_dir, run_dir="run", init_from=str(missing), resume="never"
        )
        with pytest.raises(UsageError, match=f"--init_from={missing}: no checkpoint is there"):
            starts.require(config)


def test_a_local_lock_has_nothing_to_do_with_it(run, store):
    with locked(run.directory, work="training run"):
        assert status.of(finding.open_listed(store)).state == "stopped"
