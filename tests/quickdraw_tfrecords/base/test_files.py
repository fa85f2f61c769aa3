"""Tests of quickdraw_tfrecords.base.files."""

import errno
import os
from pathlib import Path

import google_crc32c
import numpy as np
import pytest

from quickdraw_tfrecords.base import files
from quickdraw_tfrecords.base.files import atomic_write, crc32c, sync_to_disk, write_in_chunks

LONG = np.resize(np.arange(1000, dtype=np.uint8), 1_000_001)


def test_a_file_appears_only_once_it_is_complete(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with atomic_write(path) as file:
        file.write(b"new")
        file.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["file"]


def test_a_file_is_on_disk_before_it_has_its_name(tmp_path, monkeypatch):
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append("sync"), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda *names: (calls.append("name"), replace(*names)))
    with atomic_write(tmp_path / "file") as file:
        file.write(b"new")
    assert calls == ["sync", "name", "sync"]


def test_a_file_can_be_put_on_disk_later(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(os, "fsync", calls.append)
    with atomic_write(tmp_path / "file", sync=False) as file:
        write_in_chunks(file, LONG)
        assert not (tmp_path / "file").exists()
    assert not calls
    sync_to_disk(tmp_path / "file")
    assert len(calls) == 1
    np.testing.assert_array_equal(np.fromfile(tmp_path / "file", np.uint8), LONG)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_exception_leaves_the_old_file_and_nothing_else(tmp_path, error):
    def write(path: Path) -> None:
        with atomic_write(path) as file:
            file.write(b"new")
            raise error

    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(error):
        write(path)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_failed_write_names_the_file(tmp_path, monkeypatch):
    def fail(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space") as caught, atomic_write(tmp_path / "file"):
        pass
    assert caught.value.filename == str(tmp_path / "file")
    assert os.listdir(tmp_path) == []


def test_a_folder_that_is_not_there_is_an_error_of_the_file(tmp_path):
    path = tmp_path / "nowhere" / "file"
    with pytest.raises(FileNotFoundError) as caught, atomic_write(path):
        pass
    assert caught.value.filename == str(path)


def test_crc32c_is_the_one_of_rfc_3720():
    assert crc32c(b"123456789") == 0xE3069283
    assert crc32c(np.zeros(32, np.uint8)) == 0x8A9136AA
    assert crc32c(b"456789", crc32c(b"123")) == 0xE3069283


@pytest.mark.parametrize("extend", [files._extend, None])
def test_a_large_crc32c_is_googles(extend, monkeypatch):
    monkeypatch.setattr(files, "_extend", extend)
    data = np.random.default_rng(0).integers(0, 256, 2**18 + 3, np.uint8)
    data.flags.writeable = False
    assert crc32c(data[1:], crc=7) == google_crc32c.extend(7, data[1:].tobytes())
