"""Where a run is trained: held by one, in a folder or in a bucket."""

from pathlib import Path

import pytest

from quickdraw_tfrecords.base import leases
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.stores import Location, open_store
from tests.object_store import ObjectStore
from trainer.run_directory.workplace import Workplace

LATEST = "checkpoints/latest/step-0000000010.npz"


@pytest.fixture(params=["folder", "bucket"])
def location(
    request, tmp_path: Path, object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch
) -> Location:
    monkeypatch.setattr(leases, "_SETTLE_SECS", 0)
    if request.param == "folder":
        return tmp_path / "runs" / "1"
    return open_store(f"{object_store.url}/runs/1")


def test_the_second_trainer_is_told_and_the_next_finds_what_was_left(location):
    with Workplace(location, is_chief=True) as place:
        (place.directory / "run.json").write_bytes(b"{}")
        who = f"{location}: another training run is writing here \\(process "
        with pytest.raises(UsageError, match=who), Workplace(location, is_chief=True):
            pytest.fail("both hold it")
    with Workplace(location, is_chief=True) as place:
        assert (place.directory / "run.json").read_bytes() == b"{}"
        place.check()
        assert place.shown(f"{place.directory}/run.json") == f"{location}/run.json"


def test_a_worker_has_what_the_chief_resumes_from_once_both_are_there(location):
    with Workplace(location, is_chief=True) as chief:
        path = chief.directory / LATEST
        path.parent.mkdir(parents=True)
        path.write_bytes(b"checkpoint")
        (chief.directory / "run.json").write_bytes(b"{}")
    called = []
    with Workplace(location, is_chief=False) as worker:
        worker.join(lambda: called.append((worker.directory / LATEST).exists()))
        assert (worker.directory / LATEST).read_bytes() == b"checkpoint"
    assert called == [isinstance(location, Path)]


def test_what_a_worker_writes_stays_with_it(object_store):
    store = open_store(f"{object_store.url}/runs/1")
    with Workplace(store, is_chief=False) as worker:
        worker.join(lambda: None)
        (worker.directory / "profile").write_bytes(b"of this worker")
    assert not store.entries()


@pytest.mark.parametrize("url", ["s3://no-such-bucket/runs/1", "{}/runs/1"])
def test_where_nothing_can_be_written_is_one_line(object_store, web_server, url):
    url = url.format(web_server.url)
    with (
        pytest.raises((DataError, UsageError), match=url) as caught,
        Workplace(open_store(url), is_chief=True),
    ):
        pytest.fail("it cannot be held")
    assert "\n" not in str(caught.value)
