"""Tests of quickdraw_tfrecords.format.shards."""

import dataclasses
import itertools
import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.shards import ShardInfo
from quickdraw_tfrecords.writing import planning

CONTENT = np.arange(1000, dtype=np.uint8)
RESTORE = "restore it from a copy"


@pytest.fixture
def shard(tmp_path: Path) -> ShardInfo:
    CONTENT.tofile(tmp_path / "shard")
    return ShardInfo.of("shard", np.frombuffer(CONTENT, np.uint8).reshape(10, -1), (4, 6))


def read(directory: Path, shard: ShardInfo, *, check_crc: bool = True) -> np.ndarray:
    return shards.read_shard(directory, shard, check_crc=check_crc).reshape(-1)


@settings(deadline=None)
@given(
    split=st.sampled_from(planning.SPLITS),
    index=st.integers(0, planning.MAX_SHARDS - 1),
    count=st.integers(1, planning.MAX_SHARDS),
)
def test_names_are_those_of_tfds(split, index, count):
    template = tfds.core.ShardedFileTemplate(
        data_dir="/", dataset_name="quickdraw", split=split, filetype_suffix="tfrecord"
    )
    name = template.sharded_filepath(shard_index=index, num_shards=count).name
    assert shards.shard_name(split, index, count) == name
    assert shards.parse_shard_name(name) == (split, index, count)


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "quickdraw-train.tfrecord-00000-of-00004.tmp",
        ".quickdraw-train.tfrecord-00000-of-00004",
        "quickdraw-train.tfrecord-0-of-4",
        "other-train.tfrecord-00000-of-00004",
    ],
)
def test_other_names_are_not_shards(name):
    assert shards.parse_shard_name(name) is None


def test_shard_info_round_trips_through_json(shard):
    assert ShardInfo.from_json(json.loads(json.dumps(dataclasses.asdict(shard)))) == shard


def test_a_sound_shard_is_read(tmp_path, shard):
    np.testing.assert_array_equal(read(tmp_path, shard), CONTENT)


def test_a_missing_shard_is_named(tmp_path, shard):
    (tmp_path / "shard").unlink()
    with pytest.raises(DataError, match=f"{tmp_path}/shard: missing.*{RESTORE}"):
        read(tmp_path, shard)


@pytest.mark.parametrize("length", [0, 1, 999, 1001])
@pytest.mark.parametrize("check_crc", [True, False])
def test_a_shard_of_another_length_is_named(tmp_path, shard, length, check_crc):
    np.resize(CONTENT, length).tofile(tmp_path / "shard")
    with pytest.raises(DataError, match=f"{tmp_path}/shard: {length:,} bytes.*1,000; {RESTORE}"):
        read(tmp_path, shard, check_crc=check_crc)


def test_a_changed_shard_is_named(tmp_path, shard):
    changed = CONTENT.copy()
    changed[500] ^= 1
    changed.tofile(tmp_path / "shard")
    with pytest.raises(DataError, match=f"{tmp_path}/shard: its bytes differ.*{RESTORE}"):
        read(tmp_path, shard)


def test_a_shard_that_shrinks_while_it_is_open_is_named(tmp_path, shard):
    file = shards.ShardFile(tmp_path, shard)
    os.truncate(tmp_path / "shard", 999)
    with pytest.raises(DataError, match=f"{tmp_path}/shard: ended 1 bytes early"):
        file.read(np.zeros(shard.bytes, np.uint8), check_crc=False)


def test_a_shard_that_cannot_be_read_is_named(tmp_path, shard):
    (tmp_path / "shard").unlink()
    (tmp_path / "shard").symlink_to("shard")
    with pytest.raises(DataError, match=f"{tmp_path}/shard: Too many levels of symbolic links"):
        read(tmp_path, shard)


def test_a_shard_is_closed_when_nothing_refers_to_it(tmp_path, shard):
    before = os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")
    for _ in range(20):
        read(tmp_path, shard)
    assert len(os.listdir("/proc/self/fd" if sys.platform == "linux" else "/dev/fd")) <= len(before)


def test_who_expects_what_is_not_there_is_told_when_it_is_read(tmp_path, shard):
    file = shards.ShardFile(tmp_path, shard)
    os.truncate(tmp_path / "shard", 0)
    file.expect(0, 10, 10)
    with pytest.raises(DataError, match="bytes early"):
        file.read(np.zeros(shard.bytes, np.uint8), check_crc=False)


def test_short_reads_are_continued(tmp_path, shard, monkeypatch):
    preadv = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: preadv(fd, [views[0][:7]], at))
    np.testing.assert_array_equal(read(tmp_path, shard), CONTENT)


@settings(deadline=None)
@given(records=st.integers(0, 100), width=st.integers(1, 20), data=st.data())
def test_each_block_is_checked_alone(tmp_path_factory, records, width, data):
    """The last of the running checksums is that of the file; any one shows damage in its block."""
    directory = tmp_path_factory.mktemp("blocks")
    seed = data.draw(st.integers(0, 2**32))
    matrix = np.random.default_rng(seed).integers(0, 256, (records, width), np.uint8)
    info = ShardInfo.of("shard", matrix, ())
    assert info.crc32c == crc32c(matrix)
    assert (info.block_bounds[0], info.block_bounds[-1]) == (0, records)
    damaged = data.draw(st.integers(0, records - 1)) if records else None
    written = matrix.copy()
    if records:
        written[damaged, 0] ^= 1
    written.tofile(directory / "shard")
    file = shards.ShardFile(directory, info)
    for index, (start, stop) in enumerate(itertools.pairwise(info.block_bounds)):
        scratch = np.zeros((data.draw(st.integers(1, 20)), width), np.uint8)
        pieces = (piece.copy() for piece in file.checked_block(index, scratch))
        if damaged is not None and start <= damaged < stop:
            with pytest.raises(DataError, match="shard: its bytes differ"):
                list(pieces)
        else:
            found = np.concatenate([np.empty((0, width), np.uint8), *pieces])
            np.testing.assert_array_equal(found, matrix[start:stop])
