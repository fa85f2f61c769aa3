"""Leases in an object store: one process at a time, on whichever machine."""

import json
import os
import signal
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from s3fs import S3FileSystem

from quickdraw_tfrecords.base import leases
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.leases import LEASE_NAME, Lease, LeaseObject
from quickdraw_tfrecords.base.store_backends import Backend
from quickdraw_tfrecords.base.store_kinds import open_backend
from quickdraw_tfrecords.base.stores import Store, open_store
from tests.object_store import ObjectStore
from tests.processes import holding

ROOT = Path(__file__).parents[3]
LEASE_SECS, BEAT_SECS = 1.0, 0.05

# Holds a folder until it is killed; as on another machine.
HOLDER = f"""
import sys, time
from quickdraw_tfrecords.base import leases, stores
if "elsewhere" in sys.argv: leases._machine = lambda: "another machine"
leases.LEASE_SECS, leases._BEAT_SECS, leases._SETTLE_SECS = {LEASE_SECS}, {BEAT_SECS}, 0
with leases.Lease(leases.LeaseObject(stores.open_store(sys.argv[1])), "run"):
    print("holds", flush=True)
    time.sleep(100)
"""


@pytest.fixture
def store(any_object_store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(leases, "LEASE_SECS", LEASE_SECS)
    monkeypatch.setattr(leases, "_BEAT_SECS", BEAT_SECS)
    monkeypatch.setattr(leases, "_SETTLE_SECS", 0)
    return open_store(f"{any_object_store.url}/runs/1")


@pytest.fixture
def backend(store: Store) -> type[Backend]:
    """What asks the store."""
    return type(open_backend(str(store).partition(":")[0], None, os.getpid()))


def hold(store: Store) -> Lease:
    return Lease(LeaseObject(store), "run")


def test_the_second_is_told_who_holds_it_and_what_was_killed_is_free_at_once(store):
    with holding(HOLDER, str(store)) as process:
        who = rf"{store}: another run is writing here \(process {process.pid} on .*, since 2"
        with pytest.raises(UsageError, match=who), hold(store):
            pytest.fail("both hold it")
    start = time.monotonic()
    with hold(store):
        assert time.monotonic() - start < LEASE_SECS
        assert store.entries().keys() == {LEASE_NAME}
    assert not store.entries()


def test_a_holder_on_another_machine_is_respected_until_it_stops_counting(store, capsys):
    with holding(HOLDER, str(store), "elsewhere") as process:
        with pytest.raises(UsageError, match=f"process {process.pid}"), hold(store):
            pytest.fail("both hold it")
        process.send_signal(signal.SIGSTOP)
        start = time.monotonic()
        with hold(store) as lease:
            assert time.monotonic() - start >= LEASE_SECS
            process.send_signal(signal.SIGCONT)
            assert process.wait(30) == 1
            assert "was taken over by another" in process.stderr.read()
            assert json.loads(store.read(LEASE_NAME))["pid"] == os.getpid()
            lease.require()
    assert "waiting to see whether it is still in use" in capsys.readouterr().err


def test_what_was_made_behind_a_broken_connection_is_held(store, backend, monkeypatch):
    create, broken = backend.create, iter([True])

    async def create_unheard(self, path: str, data: bytes) -> bool:
        made = await create(self, path, data)
        if next(broken, False):
            raise ConnectionResetError
        return made

    monkeypatch.setattr(backend, "create", create_unheard)
    with hold(store):
        assert json.loads(store.read(LEASE_NAME))["pid"] == os.getpid()


def test_while_the_store_is_out_of_reach_the_lease_is_kept(store, any_object_store):
    with hold(store) as lease:
        any_object_store.faults.denied = 3
        while any_object_store.faults.denied:
            time.sleep(BEAT_SECS)
        lease.require()


def test_of_two_that_make_an_object_one_does(store, backend, monkeypatch):
    assert store.create("a", b"first")
    assert not store.create("a", b"second")

    async def info(*_: object) -> None:
        raise FileNotFoundError  # as if the other made it between the look and the put

    with monkeypatch.context() as late:
        late.setattr(backend, "info", info)
        assert not store.create("a", b"second")
    assert store.read("a") == b"first"


def test_a_store_without_conditions_is_written_to_all_the_same(object_store, monkeypatch):
    call = S3FileSystem._call_s3

    async def call_without_conditions(self, method: str, **arguments: object) -> object:
        if "IfNoneMatch" in arguments:
            answer = {"ResponseMetadata": {"HTTPStatusCode": 501}, "Error": {"Code": "501"}}
            raise OSError from ClientError(answer, method)
        return await call(self, method, **arguments)

    monkeypatch.setattr(S3FileSystem, "_call_s3", call_without_conditions)
    store = open_store(object_store.url)
    with hold(store) as lease:
        lease.require()
        with pytest.raises(UsageError, match="another run"), hold(store):
            pytest.fail("both hold it")
