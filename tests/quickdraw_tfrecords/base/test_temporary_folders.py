"""Folders that are deleted: with their objects, with their processes, or by the next process."""

import dataclasses
from pathlib import Path

import pytest

from quickdraw_tfrecords.base.leases import Holder
from quickdraw_tfrecords.base.temporary_folders import TemporaryFolder
from tests.processes import holding

PROGRAM = """
import sys
import time
from pathlib import Path
from quickdraw_tfrecords.base.temporary_folders import TemporaryFolder

folder = TemporaryFolder("work-", Path(sys.argv[1]))
(folder.path / "file").write_text("x")
print("holds", flush=True)
time.sleep(60)
"""


def test_it_ends_with_its_object(tmp_path: Path):
    folder = TemporaryFolder("work-", tmp_path)
    path = folder.path
    (path / "in" / "it").mkdir(parents=True)
    del folder
    assert not path.exists()
    with TemporaryFolder("work-", tmp_path) as path:
        assert path.parent == tmp_path
    assert not path.exists()


def test_what_is_kept_stays(tmp_path: Path):
    folder = TemporaryFolder("work-", tmp_path)
    path = folder.path
    folder.keep()
    del folder
    TemporaryFolder("work-", tmp_path)
    assert list(path.iterdir()) == []


def test_that_of_a_process_that_was_killed_is_deleted_by_the_next(tmp_path: Path):
    others = ["work-of-somebody", "other-"]
    for name in others:
        (tmp_path / name).mkdir()
    with holding(PROGRAM, str(tmp_path)) as process:
        TemporaryFolder("work-", tmp_path)
        (held,) = {path.name for path in tmp_path.iterdir()} - set(others)
        assert (tmp_path / held / "file").exists()  # its process lives
        process.kill()
        process.wait()
        TemporaryFolder("another-", tmp_path)
        assert (tmp_path / held).exists()
        TemporaryFolder("work-", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(others)


@pytest.mark.parametrize("change", [{"machine": "another"}, {"started": 0.0}, None])
def test_of_another_machine_nothing_is_known(tmp_path: Path, change: dict | None):
    folder = tmp_path / "work-1"
    folder.mkdir()
    holder = dataclasses.replace(Holder.me(), **(change or {}))
    data = holder.to_bytes(beat=0) if change else b"damaged"
    (folder / ".owner").write_bytes(data)
    TemporaryFolder("work-", tmp_path)
    is_of_a_process_before = bool(change) and "started" in change  # its number is another's now
    assert folder.exists() != is_of_a_process_before
