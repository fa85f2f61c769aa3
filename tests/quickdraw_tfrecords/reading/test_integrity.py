"""No damage to a data set is read as if nothing were wrong, wherever it is."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.format.manifest import FILE_NAME
from quickdraw_tfrecords.reading.blocks import BlockReader
from quickdraw_tfrecords.reading.epoch import WorkerSlice
from quickdraw_tfrecords.sources.synthetic import SyntheticSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig

CASES = 2500
END_TO_END_CASES = 25  # for each cache


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, pool) -> Path:
    """72 drawings: 52 / 6 / 14 in 4 / 1 / 2 shards of 4 to 12 KB."""
    path = tmp_path_factory.mktemp("pristine")
    source = SyntheticSource(("cat", "tree"))
    return converter.convert(source, path, ConvertConfig(per_class=36, shards=4), pool=pool)


@pytest.fixture
def copy(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "copy")


def damage(content: bytes, generator: np.random.Generator) -> bytes:
    """Flips bytes, cuts or appends at a random place."""
    damaged = bytearray(content)
    kind = generator.choice(["flip one", "flip some", "zero", "cut", "append", "insert", "remove"])
    place = int(generator.integers(len(content)))
    extent = int(generator.integers(1, 40))
    noise = generator.bytes(extent)
    if kind == "flip one":
        damaged[place] ^= int(generator.integers(1, 256))
    elif kind == "flip some":
        for somewhere in generator.choice(len(content), extent, replace=False):
            damaged[somewhere] ^= int(generator.integers(1, 256))
    elif kind == "zero":
        damaged[place : place + extent] = bytes(len(damaged[place : place + extent]))
        damaged[place] = content[place] ^ 0xFF
    elif kind == "cut":
        del damaged[place:]
    elif kind == "append":
        damaged += noise
    elif kind == "insert":
        damaged[place:place] = noise
    else:
        del damaged[place : place + extent]
    assert damaged != content
    return bytes(damaged)


def replace(path: Path, content: bytes) -> None:
    """Writes a new file: a file system may wait for the disk when one is cut to nothing."""
    path.unlink()
    path.write_bytes(content)


def read_all(directory: Path) -> int:
    """Reads every record of every split through the reader's own path, without tf.data."""
    info, count = qt.open_dataset(directory), 0
    for split, total in info.num_examples.items():
        split_slice = info.split_slice(split, WorkerSlice(total))
        reader = BlockReader(split_slice)
        for block in split_slice.blocks:
            images = np.empty((len(block), info.side**2), np.uint8)
            reader.read([block], images, np.empty(len(block), np.int32))
            count += len(block)
    return count


def load_all(directory: Path, cache: str) -> int:
    """Reads every drawing as a user would."""
    count = 0
    for split in ("train", "validation", "test"):
        for _, labels in qt.load(directory, split, 8, shuffle=True, cache=cache):
            count += len(labels)
    return count


def test_what_is_whole_is_read(pristine):
    assert read_all(pristine) == load_all(pristine, "memory") == load_all(pristine, "none") == 72


def each_damage(directory: Path, cases: int, seed: int) -> Iterator[str]:
    """Damages one file after the other, and mends it again; gives each one's name."""
    files = sorted([directory / FILE_NAME, *directory.glob("*.tfrecord-*")])
    originals = [path.read_bytes() for path in files]
    generator = np.random.default_rng(seed)
    for case in range(cases):
        number = case % len(files)
        replace(files[number], damage(originals[number], generator))
        yield files[number].name
        replace(files[number], originals[number])


def test_no_damage_goes_unnoticed(copy):
    for name in each_damage(copy, CASES, seed=0):
        with pytest.raises(DataError, match=re.escape(name)):
            read_all(copy)
    assert read_all(copy) == 72


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_no_damage_goes_unnoticed_in_a_data_set_that_is_loaded(copy, cache):
    for name in each_damage(copy, END_TO_END_CASES, seed=1):
        with pytest.raises((DataError, tf.errors.OpError), match=re.escape(name)):
            load_all(copy, cache)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_the_worker_that_reads_it_notices_damage(copy, cache):
    shard = copy / "quickdraw-validation.tfrecord-00000-of-00001"
    content = bytearray(shard.read_bytes())
    content[5] ^= 1
    shard.write_bytes(content)
    first, second = (tf.distribute.InputContext(2, worker, 2) for worker in range(2))
    with pytest.raises((DataError, tf.errors.OpError), match=shard.name):
        list(qt.load(copy, "validation", 2, cache=cache, input_context=first))
    assert len(list(qt.load(copy, "validation", 1, cache=cache, input_context=second))) == 3


def test_damage_between_opening_and_reading_is_noticed(copy):
    dataset = qt.load(copy, "train", 8, cache="none", window_mib=0.001)
    shard = copy / "quickdraw-train.tfrecord-00003-of-00004"
    with open(shard, "r+b") as file:
        file.truncate(100)
    with pytest.raises(tf.errors.OpError, match=f"{shard.name}: 100 bytes"):
        list(dataset)


@pytest.mark.parametrize("change", ["remove", "rename"])
def test_a_shard_that_is_not_there_is_named(copy, change):
    shard = copy / "quickdraw-train.tfrecord-00002-of-00004"
    if change == "remove":
        shard.unlink()
    else:
        shard.rename(copy / "quickdraw-train.tfrecord-00004-of-00005")
    with pytest.raises(DataError, match=f"{shard}: missing, but the manifest lists it"):
        qt.open_dataset(copy)


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_swapped_shards_of_equal_length_are_noticed(copy, cache):
    one, other = (copy / f"quickdraw-train.tfrecord-0000{index}-of-00004" for index in (0, 3))
    assert one.stat().st_size == other.stat().st_size
    one.rename(copy / "aside")
    other.rename(one)
    (copy / "aside").rename(other)
    with pytest.raises(
        (DataError, tf.errors.OpError), match=r"0000[03]-of-00004: its bytes differ"
    ):
        load_all(copy, cache)


@pytest.mark.parametrize("mixed_up", [FILE_NAME, "quickdraw-test.tfrecord-00001-of-00002"])
def test_files_of_another_conversion_are_noticed(copy, tmp_path, pool, mixed_up):
    source, settings = (
        SyntheticSource(("cat", "tree")),
        ConvertConfig(per_class=36, shards=4, seed=1),
    )
    other = converter.convert(source, tmp_path / "other", settings, pool=pool)
    shutil.copy(other / mixed_up, copy / mixed_up)
    with pytest.raises(DataError, match=r"tfrecord-.*: its bytes differ"):
        read_all(copy)
