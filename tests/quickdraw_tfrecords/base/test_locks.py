"""One process at a time in a directory, whether or not its file system has locks."""

import errno
import fcntl
import json
import os
import signal
import time
from pathlib import Path

import pytest

from quickdraw_tfrecords.base import leases, locks
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.leases import LEASE_NAME
from quickdraw_tfrecords.base.locks import LOCK_NAME, locked
from tests.processes import holding

ROOT = Path(__file__).parents[3]
LEASE_SECS, BEAT_SECS = 0.5, 0.05

# Holds a directory until it is killed; as on another machine, or on a file system without locks.
HOLDER = f"""
import fcntl, sys, time
from pathlib import Path
from quickdraw_tfrecords.base import leases, locks
def fail(*_): raise OSError({errno.ENOLCK}, "No locks available")
if "no_locks" in sys.argv: fcntl.flock = fail
if "elsewhere" in sys.argv: leases._machine = lambda: "another machine"
leases.LEASE_SECS, leases._BEAT_SECS, leases._SETTLE_SECS = {LEASE_SECS}, {BEAT_SECS}, 0
with locks.locked(Path(sys.argv[1]), work="test"):
    print("holds", flush=True)
    time.sleep(100)
"""


@pytest.fixture(params=["locks", "no_locks"])
def options(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.setattr(leases, "LEASE_SECS", LEASE_SECS)
    monkeypatch.setattr(leases, "_BEAT_SECS", BEAT_SECS)
    monkeypatch.setattr(leases, "_SETTLE_SECS", 0)
    if request.param == "locks":
        return []

    def fail(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", fail)
    return ["no_locks"]


def test_the_second_is_told_who_holds_it(tmp_path, options):
    with holding(HOLDER, str(tmp_path), *options) as process:
        who = rf"{tmp_path}: another run is writing here \(process {process.pid} on .*, since 2"
        with pytest.raises(UsageError, match=who), locked(tmp_path, work="run"):
            pytest.fail("both hold it")


def test_what_was_killed_is_free_at_once(tmp_path, options):
    with holding(HOLDER, str(tmp_path), *options) as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
    start = time.monotonic()
    with locked(tmp_path, work="run"):
        assert time.monotonic() - start < LEASE_SECS
    assert not list(tmp_path.iterdir())


def test_what_ends_by_itself_leaves_nothing(tmp_path, options):
    for _ in range(2):
        with locked(tmp_path, work="run"):
            assert len(list(tmp_path.iterdir())) == 1
        assert not list(tmp_path.iterdir())


def test_after_an_error_it_is_free(tmp_path, options):
    with pytest.raises(KeyError), locked(tmp_path, work="run"):
        raise KeyError
    with locked(tmp_path, work="run"):
        pass


def test_one_process_does_not_hold_it_twice(tmp_path, options):
    with locked(tmp_path, work="run"), pytest.raises(UsageError, match="another run"):
        locked(tmp_path, work="run").__enter__()


@pytest.mark.parametrize("options", ["no_locks"], indirect=True)
def test_a_lease_of_another_machine_is_respected_while_its_holder_counts(tmp_path, options):
    with (
        holding(HOLDER, str(tmp_path), *options, "elsewhere") as process,
        pytest.raises(UsageError, match=f"process {process.pid}"),
    ):
        locked(tmp_path, work="run").__enter__()


@pytest.mark.parametrize("options", ["no_locks"], indirect=True)
def test_a_lease_of_another_machine_ends_when_its_holder_has_died(tmp_path, options, capsys):
    with holding(HOLDER, str(tmp_path), *options, "elsewhere") as process:
        process.kill()
        process.wait()
    start = time.monotonic()
    with locked(tmp_path, work="run"):
        assert time.monotonic() - start >= LEASE_SECS
    assert "waiting to see whether it is still in use" in capsys.readouterr().err


@pytest.mark.parametrize("options", ["no_locks"], indirect=True)
def test_who_was_taken_for_dead_ends_before_it_writes_more(tmp_path, options):
    with holding(HOLDER, str(tmp_path), *options, "elsewhere") as process:
        process.send_signal(signal.SIGSTOP)
        with locked(tmp_path, work="run"):
            process.send_signal(signal.SIGCONT)
            assert process.wait(30) == 1
            assert "was taken over by another" in process.stderr.read()
            assert json.loads((tmp_path / LEASE_NAME).read_bytes())["pid"] == os.getpid()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"\xff" * 9000, b'{"beat": 1}'])
def test_a_file_that_says_nothing_does_not_hold_it(tmp_path, options, content):
    (tmp_path / (LEASE_NAME if options else LOCK_NAME)).write_bytes(content)
    with locked(tmp_path, work="run"):
        pass


@pytest.mark.parametrize("options", ["no_locks"], indirect=True)
def test_the_number_of_an_ended_process_may_be_anothers(tmp_path, options):
    with locked(tmp_path, work="run"):
        fields = json.loads((tmp_path / LEASE_NAME).read_bytes())
    (tmp_path / LEASE_NAME).write_text(json.dumps(fields | {"started": 1.0}))
    start = time.monotonic()
    with locked(tmp_path, work="run"):
        assert time.monotonic() - start < LEASE_SECS


def test_other_failures_are_not_taken_for_a_lack_of_locks(tmp_path):
    with pytest.raises(FileNotFoundError), locked(tmp_path / "nowhere", work="run"):
        pass


def test_one_who_only_looks_is_told(tmp_path, options):
    assert not locks.is_held(tmp_path)
    with holding(HOLDER, str(tmp_path), *options) as process:
        assert locks.is_held(tmp_path)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert not locks.is_held(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [LEASE_NAME if options else LOCK_NAME]


def test_one_who_looks_keeps_nobody_out(tmp_path, monkeypatch):
    """Its shared lock is taken for a moment; the one who wants it alone tries twice."""
    (tmp_path / LOCK_NAME).touch()
    with open(tmp_path / LOCK_NAME, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        monkeypatch.setattr(locks.time, "sleep", lambda _: fcntl.flock(file, fcntl.LOCK_UN))
        with locked(tmp_path, work="run"):
            assert locks.is_held(tmp_path)
