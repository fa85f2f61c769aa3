"""A run directory in an object store, and the folder that stands for it."""

import itertools
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.store_backends import Entry
from quickdraw_tfrecords.base.stores import Store, open_store
from tests.object_store import ObjectStore
from tests.processes import holding
from trainer.run_directory import choices, working_copy
from trainer.run_directory.upkeep import Upkeep
from trainer.run_directory.working_copy import WorkingCopy

LATEST, BEST = "checkpoints/latest/", "checkpoints/best/"


@pytest.fixture
def store(object_store: ObjectStore) -> Store:
    return open_store(f"{object_store.url}/runs/1")


@pytest.fixture
def copy(store: Store) -> WorkingCopy:
    return WorkingCopy(store)


def write(copy: WorkingCopy, name: str, data: bytes) -> Path:
    path = copy.directory / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


def contents(store: Store) -> dict[str, bytes]:
    return {name: store.read(name) for name in store.entries()}


def test_what_was_pushed_is_pulled_elsewhere(copy, store):
    files = {"run.json": b"{}", "empty": b"", f"{LATEST}step-0000000010.npz": os.urandom(10**6)}
    for name, data in files.items():
        write(copy, name, data)
    write(copy, ".lock", b"of this machine")
    write(copy, f"{LATEST}.step-0000000020.npz.1.tmp", b"half")
    copy.push()
    assert contents(store) == files

    other = WorkingCopy(store)
    other.pull(list)
    for name, data in files.items():
        assert (other.directory / name).read_bytes() == data
    assert other.directory.name == "1"
    assert other.shown(f"{other.directory}/run.json") == f"{store}/run.json"


def test_only_what_has_changed_is_put_and_what_is_gone_deleted(copy, store, object_store):
    grown = write(copy, "tensorboard/events.out.tfevents.1", b"one")
    write(copy, "run.json", b"{}")
    replaced = write(copy, f"{LATEST}step-0000000010.npz", b"10")
    copy.push()
    object_store.requests.clear()
    copy.push()
    assert not object_store.requests

    with open(grown, "ab") as file:
        file.write(b"two")
    replaced.rename(replaced.with_name("step-0000000020.npz"))
    copy.push()
    asked = [(method, path.rpartition("/")[2]) for method, path, _ in object_store.requests]
    assert asked == [
        ("PUT", "events.out.tfevents.1"),
        ("PUT", "step-0000000020.npz"),  # which says how far the curves are good
        ("DELETE", "step-0000000010.npz"),
    ]
    assert contents(store)["tensorboard/events.out.tfevents.1"] == b"onetwo"


class MemoryStore:
    """A store whose owner may be killed after any change: each leaves a run to resume."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self._resumes_at = 0

    def write(self, name: str, data: bytes) -> None:
        self.objects[name] = data
        self._require_run()

    def delete(self, name: str) -> None:
        del self.objects[name]
        self._require_run()

    def _require_run(self) -> None:
        latest = max((name for name in self.objects if name.startswith(LATEST)), default=None)
        epoch = int(latest[-14:-4]) if latest else 0
        assert epoch >= self._resumes_at
        self._resumes_at = epoch
        if latest:
            assert f"{BEST}step-{int(self.objects[latest]):010}.npz" in self.objects


def train_epochs(copy: WorkingCopy, improved: list[bool]) -> Iterator[None]:
    """What a trainer does to its checkpoints, in each epoch; the latest names the best."""
    best = 0
    for epoch, is_better in enumerate(improved, start=1):
        if is_better:
            best = epoch
            write(copy, f"{BEST}step-{best:010}.npz", b"%d" % best)
            yield
        write(copy, f"{LATEST}step-{epoch:010}.npz", b"%d" % best)
        yield
        for kind in (LATEST, BEST):
            for old in sorted((copy.directory / kind).glob("*"))[:-1]:
                old.unlink()
                yield


@given(
    improved=st.lists(st.booleans(), min_size=1, max_size=6),
    pace=st.lists(st.integers(0, 4), min_size=1, max_size=40),
)
def test_whenever_it_is_killed_the_bucket_holds_a_run_that_was(improved, pace):
    """The trainer goes on while its folder is looked at, file by file, and pushed."""
    store = MemoryStore()
    copy = WorkingCopy(store)
    trainer, paces = train_epochs(copy, [True, *improved]), itertools.cycle(pace)
    files = copy._files

    def files_late() -> Iterator:
        for found in files():
            for _ in range(next(paces)):
                next(trainer, None)
            yield found

    copy._files = files_late
    for _ in range(20):
        next(trainer, None)
        copy.push()
    for _ in trainer:
        pass
    copy.push()
    left = {f"{LATEST}step-{len(improved) + 1:010}.npz"}
    assert {name for name in store.objects if name.startswith(LATEST)} == left


class HostileStore(MemoryStore):
    """Names that a store may have, and a folder may not."""

    names = ("run.json", "../outside", "a/../../outside", "/outside", "a//b", "folder/", ".", "..")

    def entries(self) -> dict[str, Entry]:
        return {name: Entry(1, "tag") for name in self.names}

    def read(self, name: str, *_: object, **__: object) -> bytes:
        return b"x"


def test_a_name_cannot_lead_out_of_the_folder():
    copy = WorkingCopy(HostileStore())
    copy.pull(list)
    assert [path.name for path in copy.directory.rglob("*")] == ["run.json"]
    names = {path.name for path in copy.directory.parent.iterdir()}
    assert names == {copy.directory.name, ".owner"}


def test_objects_that_were_not_pulled_are_left_alone(copy, store):
    store.write("export/saved_model.pb", b"model")
    store.write("run.json", b"{}")
    copy.pull(choices.to_go_on)
    assert not (copy.directory / "export").exists()
    (copy.directory / "run.json").unlink()
    copy.push()
    assert contents(store) == {"export/saved_model.pb": b"model"}


def test_curves_alone_can_wait(copy, store):
    write(copy, "tensorboard/events.out.tfevents.1", b"one")
    copy.push(curves_every_secs=3600)
    assert not store.entries()
    write(copy, "history.csv", b"epoch")
    copy.push(curves_every_secs=3600)
    assert store.entries().keys() == {"tensorboard/events.out.tfevents.1", "history.csv"}


def test_results_never_stand_beside_what_they_are_not_of(copy, store, object_store):
    """`metrics.json` says which weights the predictions are of; a push may end anywhere."""
    folder = "evaluation/test/"

    def evaluate(of: bytes) -> None:
        (copy.directory / folder / "metrics.json").unlink(missing_ok=True)
        for name in ("predictions.npz", "confusion.npy", "metrics.json"):
            write(copy, folder + name, of)

    evaluate(b"first")
    copy.push()
    evaluate(b"second")
    for _ in range(9):  # more than there are requests
        object_store.faults.denied, object_store.faults.only = 1, "confusion"
        with pytest.raises(DataError, match="access denied"):
            copy.push()
        found = contents(store)
        assert folder + "metrics.json" not in found
    copy.push()
    assert set(contents(store).values()) == {b"second"}


def test_what_is_pruned_while_it_is_pulled_is_looked_for_anew(copy, store, monkeypatch):
    store.write("run.json", b"{}")
    store.write(f"{BEST}step-0000000010.npz", b"10")
    read = Store.read

    def read_late(self, name, *arguments, **keywords):
        if name.endswith("10.npz"):
            store.write(f"{BEST}step-0000000020.npz", b"20")
            store.delete(f"{BEST}step-0000000010.npz")
        return read(self, name, *arguments, **keywords)

    monkeypatch.setattr(Store, "read", read_late)
    copy.pull(choices.to_use())
    assert [path.name for path in (copy.directory / BEST).iterdir()] == ["step-0000000020.npz"]


def test_of_a_large_file_the_ends_are_enough(copy, store, object_store):
    data = os.urandom(5 * 2**20)
    store.write(f"{LATEST}step-0000000010.npz", data)
    object_store.requests.clear()
    copy.pull_ends(choices.newest_of_both)
    found = (copy.directory / LATEST / "step-0000000010.npz").read_bytes()
    ends = working_copy._END_BYTES
    assert (found[:ends], found[-ends:]) == (data[:ends], data[-ends:])
    assert len(found) == len(data)
    assert not any(found[ends:-ends])
    assert sum(method == "GET" for method, *_ in object_store.requests) == 3  # one lists


def test_the_folder_ends_with_the_copy(store):
    copy = WorkingCopy(store)
    directory = copy.directory
    assert directory.is_dir()
    del copy
    assert not directory.exists()


HOLDING_A_COPY = """
import sys
import time
from quickdraw_tfrecords.base.stores import open_store
from trainer.run_directory.working_copy import WorkingCopy

copy = WorkingCopy(open_store(sys.argv[1]))
print("holds", flush=True)
time.sleep(60)
"""


def test_that_of_a_process_that_was_killed_goes_with_the_next_of_any_run(
    store, tmp_path, monkeypatch
):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with holding(HOLDING_A_COPY, str(store)) as process:
        held = set(tmp_path.iterdir())
        other = WorkingCopy(store / "other")
        assert len(held) == 1
        assert held < set(tmp_path.iterdir())
        process.kill()
        process.wait()
        WorkingCopy(store / "other")
        (left,) = tmp_path.iterdir()
        assert other.directory.is_relative_to(left)


def test_a_thread_pushes_what_is_written_and_the_end_all(copy, store, monkeypatch):
    monkeypatch.setattr("trainer.run_directory.upkeep._ROUND_SECS", 0.01)
    required = []
    with Upkeep(copy, lambda: required.append(True)):
        write(copy, "a", b"1")
        while not store.entries():
            pass
        write(copy, "b", b"2")
    assert contents(store) == {"a": b"1", "b": b"2"}
    assert len(required) == 2


def test_a_store_out_of_reach_ends_with_the_files_kept(copy, store, object_store, capsys):
    object_store.faults.denied = 10**6
    with pytest.raises(DataError, match="access denied") as caught, Upkeep(copy, lambda: None):
        write(copy, "a", b"1")
    directory = copy.directory
    del copy
    assert f"what it lacks is in {directory}: copy that there" in str(caught.value)
    assert (directory / "a").read_bytes() == b"1"
    shutil.rmtree(directory)


def test_a_failure_of_the_run_is_told_first(copy, object_store, capsys):
    object_store.faults.denied = 10**6
    write(copy, "a", b"1")
    with pytest.raises(KeyError), Upkeep(copy, lambda: None):
        raise KeyError
    assert "access denied" in capsys.readouterr().err
    shutil.rmtree(copy.directory)


def test_a_run_goes_on_for_a_while_without_its_store(
    copy, store, object_store, monkeypatch, capsys
):
    monkeypatch.setattr("trainer.run_directory.upkeep._ROUND_SECS", 0.01)
    object_store.faults.denied = 10**6
    with Upkeep(copy, lambda: None) as upkeep:
        write(copy, "a", b"1")
        while not upkeep._error:
            upkeep.check()
        monkeypatch.setattr("trainer.run_directory.upkeep.PATIENCE_SECS", 0.0)
        with pytest.raises(DataError, match="access denied"):
            upkeep.check()
        object_store.faults.denied = 0
        while upkeep._error:
            pass
        upkeep.check()
    assert contents(store) == {"a": b"1"}
    assert capsys.readouterr().err.count("the run goes on, and tries again") == 1
