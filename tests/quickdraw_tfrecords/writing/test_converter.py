"""Tests of quickdraw_tfrecords.writing.converter and of the command around it."""

import dataclasses
import fcntl
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tensorflow_datasets as tfds

from quickdraw_tfrecords.base import workers
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.format import manifest, tfds_metadata
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource
from quickdraw_tfrecords.sources.synthetic import SyntheticSource
from quickdraw_tfrecords.writing import converter, filling, passes, planning
from quickdraw_tfrecords.writing.config import ConvertConfig

TIMEOUT_SECS = 120
SETTINGS = ConvertConfig(per_class=200, shards=6, seed=3)  # those of the fixture data_dir
SMALL = ConvertConfig(per_class=30, shards=3)


def contents(directory: Path) -> dict[str, bytes]:
    """All files below a directory."""
    paths = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in paths}


def identities(directory: Path) -> dict[str, tuple[int, int]]:
    """Tells whether a shard was written anew: its inode and time of change, by name."""
    stats = {path.name: path.stat() for path in directory.glob("quickdraw-*")}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


COMMAND = ("-m", "quickdraw_tfrecords")
# In small pieces and with pauses there are many moments to stop it at.
SLOWLY = (
    "-c",
    "import time\n"
    "from quickdraw_tfrecords.base import cli, workers\n"
    "from quickdraw_tfrecords.commands import convert\n"
    "from quickdraw_tfrecords.writing import filling\n"
    "filling._LEAST_PIECE_BYTES = filling._LARGEST_PIECE_BYTES = 1 << 18\n"
    "bounded_map = workers.bounded_map\n"
    "def slow_map(*args):\n"
    "    for result in bounded_map(*args):\n"
    "        time.sleep(0.01)\n"
    "        yield result\n"
    "workers.bounded_map = slow_map\n"
    "convert.define_flags()\n"
    "cli.run(convert.main)",
)


def start(*flags: str, command: tuple[str, str] = COMMAND, **options) -> subprocess.Popen:
    """Starts the command; it and its workers are a process group of their own."""
    return subprocess.Popen(
        [sys.executable, *command, *flags],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        **options,
    )


def run(*flags: str, **options) -> tuple[int, str, str]:
    """Runs the command; returns its exit code, output, and error messages."""
    process = start(*flags, **options)
    output, errors = process.communicate(timeout=TIMEOUT_SECS)
    assert "Traceback" not in errors
    return process.returncode, output, errors


def wait_for_shards(process: subprocess.Popen, data_dir: Path, count: int) -> None:
    """Waits until the command has written some shards, of those still to be published."""
    deadline = time.monotonic() + TIMEOUT_SECS
    while len(written_shards(data_dir)) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)


def written_shards(data_dir: Path) -> dict[str, tuple[int, int]]:
    return identities(data_dir / "quickdraw" / "1.0.0.incomplete")


# What is written


def test_tfds_reads_every_drawing_as_the_source_has_it(data_dir, source):
    builder = tfds.builder_from_directory(data_dir / "quickdraw" / "1.0.0")
    assert tuple(builder.info.features["label"].names) == source.class_names
    sizes = {name: split.num_examples for name, split in builder.info.splits.items()}
    assert sizes == {"train": 720, "validation": 80, "test": 200}
    seen = []
    for split, size in sizes.items():
        records = list(builder.as_dataset(split=split).as_numpy_iterator())
        assert len(records) == size
        per_class = np.bincount([record["label"] for record in records])
        np.testing.assert_array_equal(per_class, [size // 5] * 5)
        for record in records:
            label, row = record["label"], record["source_row"]
            expected = source.read(label, np.array([row])).reshape(28, 28, 1)
            np.testing.assert_array_equal(record["image"], expected)
            seen.append((label, row))
    drawn = [planning.draw(name, source.counts[0], 200, seed=3) for name in source.class_names]
    wanted = [(label, row) for label, rows in enumerate(drawn) for row in rows.tolist()]
    assert sorted(seen) == wanted  # each once, none but those taken


def test_the_manifest_tells_of_each_shard_what_is_in_it(data_dir):
    directory = data_dir / "quickdraw" / "1.0.0"
    found = manifest.read_manifest(directory)
    listed = {shard.name: shard for members in found.splits.values() for shard in members}
    assert set(listed) == {path.name for path in directory.glob("*.tfrecord-*")}
    for name, shard in listed.items():
        content = np.fromfile(directory / name, np.uint8)
        assert (shard.bytes, shard.crc32c) == (len(content), crc32c(content))
        matrix = content.reshape(shard.records, found.layout.stride)
        assert found.layout.is_sound(matrix).all()
        labels = found.layout.labels(matrix)
        np.testing.assert_array_equal(np.bincount(labels, minlength=5), shard.class_counts)


@pytest.mark.parametrize("count", [1, 3])
def test_the_bytes_do_not_depend_on_the_workers(data_dir, source, tmp_path, count):
    with workers.pool(count) as executor:
        converter.convert(source, tmp_path, SETTINGS, pool=executor)
    assert contents(tmp_path) == contents(data_dir)


def test_the_bytes_are_the_same_each_time(data_dir, source, tmp_path, pool):
    converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert contents(tmp_path) == contents(data_dir)


def test_another_seed_gives_other_shards(data_dir, source, tmp_path, pool):
    converter.convert(source, tmp_path, ConvertConfig(per_class=200, shards=6, seed=4), pool=pool)
    mine, other = contents(tmp_path), contents(data_dir)
    assert mine.keys() == other.keys()
    assert not any(mine[name] == other[name] for name in mine if "tfrecord" in name)


def test_other_sides_are_written(tmp_path, pool):
    source = SyntheticSource(("cat", "tree"), side=40)
    directory = converter.convert(source, tmp_path, SMALL, pool=pool)
    records = tfds.builder_from_directory(directory).as_dataset(split="test")
    for record in records.as_numpy_iterator():
        expected = source.read(record["label"], np.array([record["source_row"]]))
        np.testing.assert_array_equal(record["image"].reshape(1, -1), expected)


def test_real_drawings_come_back(real_bitmaps, tmp_path, pool):
    source = NumpyBitmapSource.open(real_bitmaps, ["The Mona Lisa", "cat", "bee"])
    settings = ConvertConfig(allow_fewer=True, shard_mib=1)
    directory = converter.convert(source, tmp_path, settings, pool=pool)
    originals = [np.load(real_bitmaps / f"{name}.npy") for name in source.class_names]
    builder = tfds.builder_from_directory(directory)
    seen = [set() for _ in originals]
    for split in builder.info.splits:
        for record in builder.as_dataset(split=split).as_numpy_iterator():
            label, row = record["label"], record["source_row"]
            np.testing.assert_array_equal(record["image"].reshape(-1), originals[label][row])
            seen[label].add(row)
    assert [len(rows) for rows in seen] == [len(original) for original in originals]
    assert sum(map(len, originals)) == sum(s.num_examples for s in builder.info.splits.values())


def test_everything_is_on_disk_before_it_gets_its_name(source, tmp_path, pool, monkeypatch):
    synced, fsync, rename = set(), os.fsync, os.rename

    def note(descriptor: int) -> None:
        synced.add(os.fstat(descriptor).st_ino)
        fsync(descriptor)

    def publish(directory: Path, final: Path) -> None:
        names = {path.name: path.stat().st_ino for path in directory.iterdir()}
        assert {"dataset_info.json", "features.json", "label.labels.txt"} < names.keys()
        assert [name for name, inode in names.items() if inode not in synced] == []
        assert directory.stat().st_ino in synced
        rename(directory, final)

    monkeypatch.setattr(os, "fsync", note)
    monkeypatch.setattr(os, "rename", publish)
    assert converter.convert(source, tmp_path, SMALL, pool=pool).exists()


# Running again


def test_a_finished_conversion_is_left_alone(data_dir, source, tmp_path, pool):
    shutil.copytree(data_dir, tmp_path / "data")
    before = identities(tmp_path / "data" / "quickdraw" / "1.0.0")
    directory = converter.convert(source, tmp_path / "data", SETTINGS, pool=pool)
    assert identities(directory) == before


@pytest.mark.parametrize(
    ("source", "settings", "difference"),
    [
        (
            SyntheticSource(("cat", "tree")),
            ConvertConfig(per_class=30, shards=3, seed=9),
            "seed is 0, wanted 9",
        ),
        (
            SyntheticSource(("cat", "tree")),
            ConvertConfig(per_class=31, shards=3),
            r"\[30, 30\], wanted \[31, 31\]",
        ),
        (SyntheticSource(("cat", "zigzag")), SMALL, r"class_names is \['cat', 'tree'\], wanted"),
        (SyntheticSource(("cat", "tree"), seed=1), SMALL, "source is .*seed 0.* wanted .*seed 1"),
        (
            SyntheticSource(("cat", "tree")),
            ConvertConfig(per_class=30, shards=4),
            "shards is {'train': 3",
        ),
        (
            SyntheticSource(("cat", "tree")),
            ConvertConfig(per_class=30, shards=3, test_fraction=0.3),
            "test_fraction is 0.2, wanted 0.3",
        ),
    ],
)
@pytest.mark.parametrize("finished", [True, False])
def test_another_request_is_refused(
    two_classes, tmp_path, pool, source, settings, difference, finished
):
    root = tmp_path / "quickdraw"
    shutil.copytree(two_classes, root / ("1.0.0" if finished else "1.0.0.incomplete"))
    before = contents(tmp_path)
    with pytest.raises(UsageError, match=rf"{root}/1.0.0.*: .*{difference}.*--overwrite"):
        converter.convert(source, tmp_path, settings, pool=pool)
    assert contents(tmp_path) == before


@pytest.fixture(scope="module")
def two_classes(tmp_path_factory: pytest.TempPathFactory, pool) -> Path:
    """A data set's own directory. Do not change it."""
    path = tmp_path_factory.mktemp("two")
    return converter.convert(SyntheticSource(("cat", "tree")), path, SMALL, pool=pool)


@pytest.mark.parametrize("left", ["1.0.0", "1.0.0.incomplete", "1.0.0.replaced"])
def test_overwrite_replaces_what_another_conversion_left(
    two_classes, source, tmp_path, pool, data_dir, left
):
    shutil.copytree(two_classes, tmp_path / "quickdraw" / left)
    settings = ConvertConfig(per_class=200, shards=6, seed=3, overwrite=True)
    converter.convert(source, tmp_path, settings, pool=pool)
    assert contents(tmp_path) == contents(data_dir)


@pytest.mark.parametrize("failing", [1, 2])
def test_a_replacement_cut_short_leaves_one_whole_data_set(
    two_classes, source, tmp_path, pool, data_dir, monkeypatch, failing
):
    shutil.copytree(two_classes, tmp_path / "quickdraw" / "1.0.0")
    settings = ConvertConfig(per_class=200, shards=6, seed=3, overwrite=True)
    renames, rename = [], os.rename

    def fail(*paths: Path) -> None:
        renames.append(paths)
        if len(renames) == failing:
            raise KeyboardInterrupt
        rename(*paths)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(KeyboardInterrupt):
        converter.convert(source, tmp_path, settings, pool=pool)
    monkeypatch.undo()
    # The old one is back when the next conversion begins, which is refused beside it.
    with pytest.raises(UsageError, match="holds another conversion"):
        converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert contents(tmp_path / "quickdraw" / "1.0.0") == contents(two_classes)
    converter.convert(source, tmp_path, settings, pool=pool)
    assert contents(tmp_path) == contents(data_dir)


def test_damage_done_between_two_runs_is_mended(data_dir, source, tmp_path, pool):
    directory = tmp_path / "quickdraw" / "1.0.0.incomplete"
    shutil.copytree(data_dir / "quickdraw" / "1.0.0", directory)
    flipped, cut, missing, *others = sorted(directory.glob("*.tfrecord-*"))
    content = bytearray(flipped.read_bytes())
    content[len(content) // 2] ^= 4
    flipped.write_bytes(content)
    os.truncate(cut, 500)
    missing.unlink()
    (directory / f".{missing.name}.123.tmp").write_bytes(b"left over by a killed worker")
    before = identities(directory)
    final = converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert contents(tmp_path) == contents(data_dir)
    assert all(identities(final)[path.name] == before[path.name] for path in others)


@pytest.fixture
def filled(source, tmp_path, pool, monkeypatch) -> Path:
    """An incomplete directory whose shards are all filled, and none of them in its order."""
    with monkeypatch.context() as patch:
        patch.setattr(passes.ShardWriter, "write", property())  # which has no value
        with pytest.raises(AttributeError):
            converter.convert(source, tmp_path, SETTINGS, pool=pool)
    return tmp_path / "quickdraw" / "1.0.0.incomplete"


def test_what_is_filled_is_not_read_again(filled, data_dir, source, tmp_path, pool, monkeypatch):
    def no_portions(filler: filling.ShardFiller, wanted: np.ndarray, _) -> list:
        assert not wanted.any()
        return []

    assert len(list(filled.glob(".*.filling"))) == 9
    monkeypatch.setattr(filling.ShardFiller, "portions", no_portions)
    converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert contents(tmp_path) == contents(data_dir)


@pytest.mark.parametrize("damage", ["flip", "cut", "delete", "zero", "half in order"])
def test_damage_done_to_what_is_filled_is_mended(filled, data_dir, source, tmp_path, pool, damage):
    for path in sorted(filled.glob(".*.filling"))[::2]:
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        if damage == "flip":
            content[middle] ^= 4
        elif damage == "cut":
            del content[middle + 3 :]
        elif damage == "zero":
            content[middle:] = bytes(len(content) - middle)
        path.write_bytes(content)
        if damage == "delete":
            path.unlink()
        elif damage == "half in order":
            path.rename(path.with_name(f"{path.stem}.tmp"))
    converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert contents(tmp_path) == contents(data_dir)


@pytest.mark.parametrize("piece_bytes", [1, 30_000])
def test_the_bytes_do_not_depend_on_how_much_is_read_at_once(
    data_dir, source, tmp_path, pool, monkeypatch, piece_bytes
):
    monkeypatch.setattr(filling, "_LEAST_PIECE_BYTES", piece_bytes)
    monkeypatch.setattr(filling, "_WRITE_BYTES", 1)
    converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert contents(tmp_path) == contents(data_dir)


def test_an_incomplete_directory_of_unknown_contents_is_begun_anew(
    data_dir, source, tmp_path, pool
):
    directory = tmp_path / "quickdraw" / "1.0.0.incomplete"
    directory.mkdir(parents=True)
    (directory / "quickdraw-train.tfrecord-00000-of-00006").write_bytes(b"who knows")
    converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert contents(tmp_path) == contents(data_dir)


# What becomes of a source in between


@pytest.fixture
def folder(source, tmp_path) -> Path:
    """Bitmaps in files, 230 of each class."""
    path = tmp_path / "source"
    path.mkdir()
    for label, name in enumerate(source.class_names):
        np.save(path / f"{name}.npy", source.read(label, np.arange(230)))
        os.utime(path / f"{name}.npy", (1e9, 1e9))  # a change shows, however soon it comes
    return path


def change_drawing(path: Path, row: int) -> None:
    with open(path, "rb+") as file:
        file.seek(128 + row * 784)
        file.write(bytes(784))


def test_a_finished_conversion_is_left_alone_as_long_as_its_drawings_are_the_same(
    folder, tmp_path, pool
):
    directory = converter.convert(NumpyBitmapSource.open(folder), tmp_path, SETTINGS, pool=pool)
    assert "version" not in (directory / manifest.FILE_NAME).read_text()
    before = contents(directory)
    taken = planning.draw("cat", 230, 200, seed=3)
    (other,) = np.setdiff1d(np.arange(230), taken)[:1]
    copy = shutil.copytree(folder, tmp_path / "copy")
    change_drawing(copy / "cat.npy", other)
    source = NumpyBitmapSource.open(copy)
    assert converter.convert(source, tmp_path, SETTINGS, pool=pool) == directory
    change_drawing(copy / "cat.npy", taken[7])
    with pytest.raises(UsageError, match=r"another conversion: .* class 'cat' were others.*--over"):
        converter.convert(NumpyBitmapSource.open(copy), tmp_path, SETTINGS, pool=pool)
    assert contents(directory) == before


def test_an_unfinished_conversion_is_not_resumed_from_files_that_have_changed(
    folder, tmp_path, pool, monkeypatch
):
    source = NumpyBitmapSource.open(folder)
    monkeypatch.setattr(converter.DataDirectory, "publish", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        converter.convert(source, tmp_path, SETTINGS, pool=pool)
    monkeypatch.undo()
    os.utime(folder / "cat.npy", (2e9, 2e9))
    source = NumpyBitmapSource.open(folder)
    with pytest.raises(UsageError, match="holds another conversion: source is kind numpy_bitmap"):
        converter.convert(source, tmp_path, SETTINGS, pool=pool)
    settings = dataclasses.replace(SETTINGS, overwrite=True)
    assert converter.convert(source, tmp_path, settings, pool=pool).exists()


def test_a_conversion_stopped_just_before_it_was_published_is_finished(
    folder, tmp_path, pool, monkeypatch
):
    source = NumpyBitmapSource.open(folder)
    monkeypatch.setattr(os, "rename", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        converter.convert(source, tmp_path, SETTINGS, pool=pool)
    monkeypatch.undo()
    assert manifest.read_manifest(tmp_path / "quickdraw" / "1.0.0.incomplete").splits
    assert converter.convert(source, tmp_path, SETTINGS, pool=pool).exists()


# What changes meanwhile


@pytest.mark.parametrize("keeps_mtime", [False, True])
def test_a_source_that_is_overwritten_meanwhile_is_not_published(
    source, tmp_path, pool, monkeypatch, keeps_mtime
):
    """In place, to the same size, between the description and the reading of the drawings."""
    folder, write_shards = tmp_path / "source", passes.write_shards
    folder.mkdir()
    for label, name in enumerate(source.class_names):
        np.save(folder / f"{name}.npy", source.read(label, np.arange(200)))

    def overwrite_and_write_shards(*args, **kwargs):
        for path in folder.iterdir():
            times = path.stat().st_atime_ns, path.stat().st_mtime_ns
            with open(path, "rb+") as file:
                file.seek(128)
                file.write(bytes(50 * 784))
            if keeps_mtime:
                os.utime(path, ns=times)
        return write_shards(*args, **kwargs)

    monkeypatch.setattr(passes, "write_shards", overwrite_and_write_shards)
    with pytest.raises(DataError, match=r"\.npy: was changed while it was being read"):
        converter.convert(NumpyBitmapSource.open(folder), tmp_path, SETTINGS, pool=pool)
    assert not (tmp_path / "quickdraw" / "1.0.0").exists()


def test_class_names_that_tfds_would_read_otherwise_are_not_published(
    source, tmp_path, pool, monkeypatch
):
    write = tfds_metadata.write

    def write_and_damage(directory: Path, *args) -> None:
        write(directory, *args)
        path = directory / "label.labels.txt"
        path.write_text(path.read_text().replace("cat", "c\nat"))

    monkeypatch.setattr(tfds_metadata, "write", write_and_damage)
    with pytest.raises(DataError, match=r"label\.labels\.txt: .*class names"):
        converter.convert(source, tmp_path, SMALL, pool=pool)
    assert not (tmp_path / "quickdraw" / "1.0.0").exists()


def test_two_conversions_do_not_write_to_one_directory(source, tmp_path, pool):
    (tmp_path / "quickdraw").mkdir()
    descriptor = os.open(tmp_path / "quickdraw" / ".lock", os.O_RDWR | os.O_CREAT)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        with pytest.raises(UsageError, match=f"{tmp_path}/quickdraw: another conversion"):
            converter.convert(source, tmp_path, SETTINGS, pool=pool)
    finally:
        os.close(descriptor)
    converter.convert(source, tmp_path, SETTINGS, pool=pool)


def test_a_disk_too_small_is_noticed_beforehand(source, tmp_path, pool, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2**19))
    with pytest.raises(DataError, match=r"needs 0.8 MiB more, 0.5 MiB are free; make room"):
        converter.convert(source, tmp_path, SETTINGS, pool=pool)
    assert not list(tmp_path.rglob("*.tfrecord-*"))


# Leaving drawings out

DROP = ConvertConfig(per_class=300, shards=5, seed=1, drop=("blank", "duplicates"))


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> NumpyBitmapSource:
    """Of each class 400 drawings, of which 60 are blank or the same as others."""
    path = tmp_path_factory.mktemp("faulty")
    for seed, name in enumerate(("airplane", "cat", "The Mona Lisa")):
        random = np.random.default_rng(seed)
        images = random.integers(0, 256, (400, 784), np.uint8)
        rows = random.permutation(400)
        images[rows[:20]] = 0
        images[rows[20:60]] = images[rows[60:80]].repeat(2, axis=0)
        np.save(path / f"{name}.npy", images)
    return NumpyBitmapSource.open(path)


@pytest.fixture(scope="module")
def sifted(faulty, tmp_path_factory: pytest.TempPathFactory, pool) -> Path:
    """A data set's own directory. Do not change it."""
    return converter.convert(faulty, tmp_path_factory.mktemp("sifted"), DROP, pool=pool)


def test_with_drop_there_are_as_many_as_asked_for_none_blank_and_no_two_alike(faulty, sifted):
    layout = manifest.read_manifest(sifted).layout
    shard_bytes = [np.fromfile(path, np.uint8) for path in sifted.glob("*.tfrecord-*")]
    matrix = np.concatenate(shard_bytes).reshape(-1, layout.stride)
    labels, rows, images = layout.labels(matrix), layout.source_rows(matrix), layout.images(matrix)
    assert np.bincount(labels).tolist() == [300] * 3
    for label in range(3):
        members = np.flatnonzero(labels == label)
        members = members[np.argsort(rows[members])]
        of_class, originals = images[members], faulty.read(label, rows[members])
        np.testing.assert_array_equal(of_class, originals)  # so source_row is true
        assert of_class.any(axis=1).all()
        assert len(np.unique(of_class, axis=0)) == 300


def test_the_manifest_says_what_was_dropped(sifted):
    dropped = manifest.read_manifest(sifted).request["drop"]
    assert list(dropped) == ["blank", "duplicates"]
    assert all(1 <= n <= 20 for n in dropped["blank"])
    assert all(1 <= n <= 40 for n in dropped["duplicates"])


def test_with_drop_the_bytes_do_not_depend_on_the_workers(faulty, sifted, tmp_path):
    with workers.pool(1) as executor:
        directory = converter.convert(faulty, tmp_path, DROP, pool=executor)
    assert contents(directory) == contents(sifted)


@pytest.mark.parametrize("drop", [(), ("blank",), ("duplicates",), ("nearly_blank", "duplicates")])
def test_a_conversion_that_dropped_others_is_refused(faulty, sifted, tmp_path, pool, drop):
    shutil.copytree(sifted, tmp_path / "quickdraw" / "1.0.0")
    settings = dataclasses.replace(DROP, drop=drop)
    with pytest.raises(UsageError, match=r"drop is {'blank': \[\d+, .*, wanted"):
        converter.convert(faulty, tmp_path, settings, pool=pool)
    assert converter.convert(faulty, tmp_path, DROP, pool=pool) == tmp_path / "quickdraw" / "1.0.0"


def test_what_was_converted_without_drop_is_refused_with_it(faulty, tmp_path, pool):
    settings = dataclasses.replace(DROP, drop=())
    directory = converter.convert(faulty, tmp_path, settings, pool=pool)
    assert "drop" not in manifest.read_manifest(directory).request
    with pytest.raises(UsageError, match=r"drop is None, wanted \{'blank': "):
        converter.convert(faulty, tmp_path, DROP, pool=pool)


def test_the_command_says_what_it_dropped_or_that_too_few_are_left(faulty, tmp_path):
    flags = "--source=numpy_bitmap", f"--source_dir={faulty.files[0].path.parent}", "--workers=1"
    flags += (f"--data_dir={tmp_path}", "--drop=duplicates,blank", "--classes=cat")
    exit_code, output, error = run(*flags, "--per_class=341")
    assert (exit_code, output) == (2, "")
    (last,) = error.splitlines()  # without a terminal there are no bars
    assert last.startswith(
        "error: --per_class=341 is more than 1 of 1 classes have; the smallest, 'cat', has 340"
        " drawings left after --drop"
    )
    assert not list(tmp_path.iterdir())
    exit_code, output, _ = run(*flags, "--per_class=341", "--allow_fewer")
    assert exit_code == 0
    assert [line.split() for line in output.splitlines()[:-1]] == [
        ["dropped", "blank", "duplicates"],
        ["cat", "20", "40"],
        ["in", "all", "20", "40"],
    ]


@pytest.mark.slow
def test_a_conversion_with_drop_that_was_killed_is_finished_with_the_same_bytes(
    faulty, sifted, tmp_path
):
    flags = "--source=numpy_bitmap", f"--source_dir={faulty.files[0].path.parent}", "--workers=2"
    flags += (f"--data_dir={tmp_path}", "--drop=duplicates,blank", "--per_class=300", "--seed=1")
    flags += ("--shards=5",)
    for goal in (0, 3):
        with start(*flags, command=SLOWLY) as process:
            wait_for_shards(process, tmp_path, goal)
            kill(process)
    kept = written_shards(tmp_path)
    assert run(*flags)[0] == 0
    assert contents(tmp_path / "quickdraw" / "1.0.0") == contents(sifted)
    assert kept.items() <= identities(tmp_path / "quickdraw" / "1.0.0").items()


# Stopping the command

BIG = ("--source=synthetic", "--classes=airplane,cat,tree", "--per_class=5000")
BIG += ("--shards=80", "--seed=5", "--workers=2")


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("undisturbed")
    exit_code, output, _ = run(*BIG, f"--data_dir={path}")
    assert (exit_code, output) == (0, f"the data set is in {path}/quickdraw/1.0.0\n")
    return path


def kill(process: subprocess.Popen) -> None:
    """kill -9, and waits until the worker processes have noticed."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=TIMEOUT_SECS)
    assert not alive


@pytest.mark.slow
def test_a_conversion_killed_anywhere_is_finished_by_running_it_again(undisturbed, tmp_path):
    generator = random.Random(0)
    incomplete = tmp_path / "quickdraw" / "1.0.0.incomplete"
    for _ in range(3):  # while the drawings are read
        with start(*BIG, f"--data_dir={tmp_path}", command=SLOWLY) as process:
            while not list(incomplete.glob(".quickdraw-*")):
                assert process.poll() is None
            time.sleep(generator.uniform(0, 0.3))
            kill(process)
        assert not written_shards(tmp_path)
    kept = {}
    for goal in (0, 1, 9, 20, 40):  # of 80 + 9 + 23 shards
        with start(*BIG, f"--data_dir={tmp_path}", command=SLOWLY) as process:
            wait_for_shards(process, tmp_path, goal)
            time.sleep(generator.uniform(0, 0.05))
            kill(process)
        now = written_shards(tmp_path)
        assert kept.items() <= now.items()  # what was whole was not written again
        kept = now
    assert len(kept) >= 40
    assert run(*BIG, f"--data_dir={tmp_path}")[0] == 0
    assert contents(tmp_path) == contents(undisturbed)
    assert kept.items() <= identities(tmp_path / "quickdraw" / "1.0.0").items()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["the workers start", "they write"])
def test_an_interrupted_conversion_says_so_in_one_line(undisturbed, tmp_path, moment):
    process = start(*BIG, f"--data_dir={tmp_path}", command=SLOWLY)
    while not (tmp_path / "quickdraw").exists():
        assert process.poll() is None
        time.sleep(0.005)
    if moment == "they write":
        wait_for_shards(process, tmp_path, 1)
    children = psutil.Process(process.pid).children(recursive=True)
    os.killpg(process.pid, signal.SIGINT)  # as the terminal does on Ctrl-C
    _, errors = process.communicate(timeout=TIMEOUT_SECS)
    assert process.returncode == 130
    assert errors.split("\n")[-2:] == ["error: interrupted", ""]
    assert "Traceback" not in errors
    assert not psutil.wait_procs(children, timeout=TIMEOUT_SECS)[1]
    assert run(*BIG, f"--data_dir={tmp_path}")[0] == 0
    assert contents(tmp_path) == contents(undisturbed)


def test_a_worker_that_dies_ends_the_conversion(tmp_path):
    process = start(*BIG, f"--data_dir={tmp_path}", command=SLOWLY)
    wait_for_shards(process, tmp_path, 1)
    children = psutil.Process(process.pid).children()
    next(child for child in children if "spawn_main" in " ".join(child.cmdline())).kill()
    _, errors = process.communicate(timeout=TIMEOUT_SECS)
    assert process.returncode == 1
    assert "error: a worker process died" in errors
    assert "Traceback" not in errors


def test_a_write_that_fails_is_one_line_and_can_be_resumed(undisturbed, tmp_path):
    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))  # less than a shard

    exit_code, _, error = run(*BIG, f"--data_dir={tmp_path}", preexec_fn=limit)
    assert exit_code == 1
    *_, last, end = error.split("\n")  # after the progress bar
    assert last.startswith(f"error: {tmp_path}/quickdraw/1.0.0.incomplete/.quickdraw-")
    assert last.endswith(": File too large")
    assert end == ""
    assert not list(tmp_path.rglob("*.tmp"))
    assert run(*BIG, f"--data_dir={tmp_path}")[0] == 0
    assert contents(tmp_path) == contents(undisturbed)


# Using the command


@pytest.fixture(scope="module")
def bitmaps(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("bitmaps")
    for seed, name in enumerate(("airplane", "cat", "The Mona Lisa")):
        images = np.random.default_rng(seed).integers(0, 256, (50, 784), np.uint8)
        np.save(path / f"{name}.npy", images)
    return path


def test_classes_are_chosen_by_name_or_by_file(bitmaps, tmp_path):
    (tmp_path / "classes.txt").write_text("The Mona Lisa\ncat\n")
    flags = "--source=numpy_bitmap", f"--source_dir={bitmaps}", "--per_class=50", "--workers=1"
    for number, classes in enumerate(("cat,The Mona Lisa", tmp_path / "classes.txt")):
        data_dir = tmp_path / str(number)
        assert run(*flags, f"--classes={classes}", f"--data_dir={data_dir}")[0] == 0
    assert contents(tmp_path / "0") == contents(tmp_path / "1")
    directory = tmp_path / "0" / "quickdraw" / "1.0.0"
    assert (directory / "label.labels.txt").read_text().split("\n") == ["cat", "The Mona Lisa", ""]


BITMAPS = ("--source=numpy_bitmap", "--source_dir={bitmaps}", "--data_dir={data_dir}")
BITMAPS += ("--per_class=50", "--workers=1")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--data_dir={data_dir}"], "--source is required"),
        (["--source=synthetic"], "--data_dir is required"),
        (["--source=dropbox", "--data_dir={data_dir}"], "--source=dropbox"),
        (["--source=numpy_bitmap", "--data_dir={data_dir}"], "needs --source_dir"),
        ([*BITMAPS, "--source_dir=/nowhere"], "--source_dir=/nowhere: no such directory"),
        ([*BITMAPS, "--sead=1"], "--sead: there is no such flag; did you mean --seed?"),
        ([*BITMAPS, "seed=1"], "unexpected argument 'seed=1'"),
        ([*BITMAPS, "--seed=-1"], "--seed"),
        ([*BITMAPS, "--workers=0"], "--workers"),
        ([*BITMAPS, "--per_class=0"], "--per_class"),
        ([*BITMAPS, "--test_fraction=0"], "--test_fraction=0.0: must be above 0"),
        ([*BITMAPS, "--test_fraction=nan"], "--test_fraction=nan: must be a finite number"),
        ([*BITMAPS, "--validation_fraction=1"], "--validation_fraction=1.0: must be"),
        ([*BITMAPS, "--test_fraction=0.001"], "the test split would be left without class"),
        ([*BITMAPS, "--test_fraction=0.9999"], "would be left without class 'airplane'"),
        (
            [*BITMAPS, "--per_class=51"],
            "more than 3 of 3 classes have; the smallest, 'airplane', has 50",
        ),
        (
            [*BITMAPS, "--classes=cat,aeroplane"],
            "'aeroplane'; it has 3 classes. Did you mean 'airp",
        ),
        ([*BITMAPS, "--classes=cat,cat"], "'cat' is listed more than once"),
        ([*BITMAPS, "--classes=../cat"], "'../cat' is not a class name"),
        ([*BITMAPS, "--shards=0"], "--shards"),
        ([*BITMAPS, "--shard_mib=0"], "--shard_mib"),
        ([*BITMAPS, "--shard_mib=nan"], "--shard_mib=nan: must be a finite number"),
        ([*BITMAPS, "--shard_mib=inf"], "--shard_mib=inf: must be a finite number"),
        ([*BITMAPS, "--drop=blank,twins"], "--drop=twins: must be one of blank, nearly_blank,"),
        ([*BITMAPS, "--shards=9999"], "--shards=9999 is more than the 108 training drawings"),
        ([*BITMAPS, "--flagfile=/nowhere/flags.txt"], "/nowhere/flags.txt"),
    ],
)
def test_misuse_is_one_line_and_exits_with_2(bitmaps, tmp_path, flags, said):
    data_dir = tmp_path / "data"
    flags = [flag.format(bitmaps=bitmaps, data_dir=data_dir) for flag in flags]
    exit_code, output, error = run(*flags)
    assert (exit_code, output) == (2, "")
    assert error.startswith("error: ")
    assert said in error
    assert error.count("\n") == 1
    assert not data_dir.exists()


def test_another_request_exits_with_2(two_classes, tmp_path):
    shutil.copytree(two_classes, tmp_path / "quickdraw" / "1.0.0")
    flags = "--source=synthetic", "--classes=cat,tree", f"--data_dir={tmp_path}", "--workers=1"
    flags += ("--per_class=30", "--shards=3")
    exit_code, _, error = run(*flags, "--seed=1")
    assert exit_code == 2
    assert "seed is 0, wanted 1" in error
    assert error.count("\n") == 1
    assert run(*flags)[0] == 0


def test_a_file_where_the_directory_should_be_is_named(bitmaps, tmp_path):
    (tmp_path / "data").write_text("a file")
    flags = [flag.format(bitmaps=bitmaps, data_dir=tmp_path / "data") for flag in BITMAPS]
    assert run(*flags) == (1, "", f"error: {tmp_path}/data/quickdraw: Not a directory\n")
    assert (tmp_path / "data").read_text() == "a file"


def test_a_damaged_source_is_named(bitmaps, tmp_path):
    shutil.copytree(bitmaps, tmp_path / "bitmaps")
    os.truncate(tmp_path / "bitmaps" / "cat.npy", 1000)
    data_dir = tmp_path / "data"
    flags = [flag.format(bitmaps=tmp_path / "bitmaps", data_dir=data_dir) for flag in BITMAPS]
    exit_code, _, error = run(*flags)
    assert exit_code == 1
    assert error.startswith(f"error: {tmp_path}/bitmaps/cat.npy: 1,000 bytes, its header promises")
    assert error.count("\n") == 1


# How the package is built


def test_the_converter_does_not_import_tensorflow():
    modules = "__main__ writing.converter writing.planning writing.shard_writer base.workers"
    modules += " format.records format.manifest format.shards sources sources.numpy_bitmap"
    modules += " sources.synthetic sources.download.downloader sources.tfds"
    code = "import importlib, sys\n"
    code += (
        f"for name in {modules.split()}: importlib.import_module('quickdraw_tfrecords.' + name)\n"
    )
    code += "sys.exit('tensorflow' in sys.modules)"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


def test_a_small_conversion_is_shared_among_the_workers(pool, tmp_path, monkeypatch):
    read = []

    def submit(function, *args):
        portions = [arg for arg in args if isinstance(arg, list)]
        read.extend(sum(piece.size for piece in portion) for portion in portions)
        return type(pool).submit(pool, function, *args)

    monkeypatch.setattr(pool, "submit", submit)
    source = SyntheticSource(("cat",))
    converter.convert(source, tmp_path, ConvertConfig(per_class=200), pool=pool)
    assert read == [100, 100]  # the pool has two workers
