"""No damage to a data set is read as if nothing were wrong, wherever it is."""

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.audit.catalogue import Catalogue
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.commands import inspect, verify
from quickdraw_tfrecords.format.manifest import FILE_NAME
from quickdraw_tfrecords.reading import drawings
from quickdraw_tfrecords.reading.epoch import WorkerSlice
from quickdraw_tfrecords.sources.synthetic import SyntheticSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig

# How many damages each test tries. All of them were tried with 10,000 once; to repeat that:
# QUICKDRAW_DAMAGES=10000 python -m pytest tests/quickdraw_tfrecords/reading/test_integrity.py
DAMAGES = int(os.environ.get("QUICKDRAW_DAMAGES", "0"))

SPLITS = ("train", "validation", "test")

Read = Callable[[Path], int]
Drawings = list[tuple[bytes, int]]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory: pytest.TempPathFactory, pool) -> Path:
    """72 drawings: 52 / 6 / 14 in 4 / 1 / 2 shards of 4 to 12 KB."""
    path = tmp_path_factory.mktemp("pristine")
    source = SyntheticSource(("cat", "tree"))
    return converter.convert(source, path, ConvertConfig(per_class=36, shards=4), pool=pool)


@pytest.fixture
def copy(pristine: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pristine, tmp_path / "copy")


def damage(content: bytes, other: bytes, generator: np.random.Generator) -> bytes | None:
    """What becomes of a file by accident; None: it is lost.

    Args:
      content: The file's.
      other: Another file's.
      generator: Decides what happens, and where.
    """
    damaged = bytearray(content)
    kinds = ("flip one", "flip some", "zero", "cut", "append", "insert", "remove")
    kind = generator.choice([*kinds, "missing", "other file", "part of other"])
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
    elif kind == "remove":
        del damaged[place : place + extent]
    elif kind == "missing":
        return None
    elif kind == "other file":
        damaged[:] = other
    else:
        stop = min(place + 40 * extent, len(content), len(other))
        damaged[place:stop] = other[place:stop]
        if damaged == content:  # both have the same bytes there
            damaged[place] ^= 1
    assert damaged != content
    return bytes(damaged)


def replace(path: Path, content: bytes | None) -> None:
    """Writes a new file: a file system may wait for the disk when one is cut to nothing."""
    path.unlink(missing_ok=True)
    if content is not None:
        path.write_bytes(content)


def each_damage(directory: Path, cases: int, seed: int) -> Iterator[tuple[Path, bytes | None]]:
    """Gives a file and what becomes of it, and mends it again."""
    files = sorted([directory / FILE_NAME, *directory.glob("*.tfrecord-*")])
    originals = [path.read_bytes() for path in files]
    generator = np.random.default_rng(seed)
    for case in range(cases):
        number = case % len(files)
        other = originals[(number + int(generator.integers(1, len(files)))) % len(files)]
        yield files[number], damage(originals[number], other, generator)
        replace(files[number], originals[number])


# Everything that reads a data set: each reads all of it and returns the number of drawings.


def read_blocks(directory: Path) -> int:
    """The reader by itself."""
    info, count = qt.open_dataset(directory), 0
    for split, total in info.num_examples.items():
        split_slice = info.split_slice(split, WorkerSlice(total))
        reader = split_slice.open_reader()
        for block in split_slice.blocks:
            images = np.empty((len(block), info.side**2), np.uint8)
            reader.read([block], (images, np.empty(len(block), np.int32)))
            count += len(block)
    return count


def read_with(library: str, cache: str) -> Read:
    def read(directory: Path) -> int:
        info, count = qt.open_dataset(directory), 0
        for split in SPLITS:
            options = {"shuffle": True, "cache": cache, "window_mib": 0.01}
            for _, labels in getattr(qt, library)(info, split, 8, **options):
                count += len(labels)
        return count

    return read


def read_arrays(directory: Path) -> int:
    return sum(len(qt.arrays(directory, split)[1]) for split in SPLITS)


def read_drawings(directory: Path) -> int:
    info = qt.open_dataset(directory)
    return sum(len(p.labels) for split in SPLITS for p in drawings.read_all(info, split))


def read_places(directory: Path) -> int:
    info = qt.open_dataset(directory)
    places = {split: np.arange(count)[::-1] for split, count in info.num_examples.items()}
    return sum(len(drawings.read_at(info, split, at)) for split, at in places.items())


def read_for_verify(directory: Path) -> int:
    verify.verify(directory)
    return sum(qt.open_dataset(directory).num_examples.values())


def read_for_inspect(directory: Path) -> int:
    info = qt.open_dataset(directory)
    found = (inspect.first_drawings(directory, info.manifest, split, 99) for split in SPLITS)
    return sum(len(images) for by_class in found for images in by_class.values())


def read_for_audit(directory: Path) -> int:
    catalogue = Catalogue.read(directory, qt.open_dataset(directory).require_manifest())
    return len(catalogue.images(np.arange(len(catalogue))))


READS: dict[str, Read] = {
    "blocks": read_blocks,
    "batches, in memory": read_with("batches", "memory"),
    "batches, streaming": read_with("batches", "none"),
    "load, in memory": read_with("load", "memory"),
    "load, streaming": read_with("load", "none"),
    "arrays": read_arrays,
    "drawings": read_drawings,
    "places": read_places,
    "verify": read_for_verify,
    "inspect": read_for_inspect,
    "audit": read_for_audit,
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
def test_what_is_whole_is_read(pristine, read):
    assert read(pristine) == 72


@pytest.mark.parametrize("name", READS)
def test_no_damage_goes_unnoticed(copy, name):
    default = {"blocks": 2500, "load, in memory": 25, "load, streaming": 25}.get(name, 100)
    for path, content in each_damage(copy, DAMAGES or default, seed=0):
        replace(path, content)
        with pytest.raises((DataError, tf.errors.OpError), match=re.escape(path.name)):
            READS[name](copy)
    assert READS[name](copy) == 72


@pytest.mark.parametrize("library", ["load", "batches"])
def test_no_damage_during_an_epoch_gives_a_wrong_drawing(copy, library):
    """The shards are read again in each epoch. What was read from them before is right."""
    info = qt.open_dataset(copy)
    options = {"shuffle": True, "cache": "none", "window_mib": 0.002}
    expected = as_drawings(qt.batches(info, "train", 2, epochs=3, **options))
    noticed = 0
    default = 20 if library == "load" else 100
    for path, content in each_damage(copy, DAMAGES or default, seed=1):
        batches = iter(getattr(qt, library)(info, "train", 2, epochs=3, **options))
        found: Drawings = []
        # No other split is read, and no more of a file than the manifest says; a file that was
        # deleted is still open.
        original = path.read_bytes()
        is_read = path.name.startswith("quickdraw-train") and content is not None
        is_changed = is_read and not content.startswith(original)
        try:
            found += as_drawings(itertools.islice(batches, 9))
            overwrite(path, content)
            for batch in batches:
                found += as_drawings([batch])
            said = ""
        except (DataError, tf.errors.OpError) as error:
            said = str(error)
            noticed += 1
        assert bool(said) == is_changed
        assert path.name in said or len(found) == len(expected)
        assert found == expected[: len(found)]
    assert noticed > 0


def overwrite(path: Path, content: bytes | None) -> None:
    """Changes a file that may be open."""
    if content is None:
        path.unlink()
        return
    with open(path, "r+b") as file:
        file.write(content)
        file.truncate()


def as_drawings(batches: Iterable) -> Drawings:
    return [
        (np.asarray(image).tobytes(), int(label))
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    ]


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
        read_with("load", cache)(copy)


@pytest.mark.parametrize("mixed_up", [FILE_NAME, "quickdraw-test.tfrecord-00001-of-00002"])
def test_files_of_another_conversion_are_noticed(copy, tmp_path, pool, mixed_up):
    source, settings = (
        SyntheticSource(("cat", "tree")),
        ConvertConfig(per_class=36, shards=4, seed=1),
    )
    other = converter.convert(source, tmp_path / "other", settings, pool=pool)
    shutil.copy(other / mixed_up, copy / mixed_up)
    with pytest.raises(DataError, match=r"tfrecord-.*: its bytes differ"):
        read_blocks(copy)
