"""Hostile and damaged data sets of other tools: one clear error, and never wrong data."""

import json
import os
import random
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from tensorflow_datasets.proto import tf_example_pb2

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.reading import drawings
from quickdraw_tfrecords.sources.tfds import TfdsSource
from tools.fuzzing.mutations import frame
from tools.fuzzing.tfds_folders import TfdsMetadata, TfdsRecords, write_metadata

SIDE = 8
PIXELS = bytes(range(64))


def example(pixels: object = (PIXELS,), labels: object = (1,)) -> bytes:
    made = tf_example_pb2.Example()
    made.features.feature["image"].bytes_list.value.extend(pixels)
    made.features.feature["label"].int64_list.value.extend(labels)
    return made.SerializeToString()


def numbers_as_pixels() -> bytes:
    made = tf_example_pb2.Example()
    made.features.feature["image"].int64_list.value.extend(PIXELS)
    made.features.feature["label"].int64_list.value.append(1)
    return made.SerializeToString()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A data set of five drawings of three classes, that a test may damage."""
    TfdsRecords(tmp_path)
    return tmp_path


def shard(folder: Path) -> Path:
    (path,) = folder.glob("*.tfrecord-*")
    return path


def write(folder: Path, damaged: bytes) -> None:
    shard(folder).write_bytes(b"".join([frame(example())] * 3 + [damaged] + [frame(example())]))


def test_a_sound_one_is_read(folder):
    write(folder, frame(example(labels=[2])))
    found = drawings.read_at(qt.open_dataset(folder), "train", np.arange(5))
    assert found.reshape(5, -1).tolist() == [list(PIXELS)] * 5


@pytest.mark.parametrize(
    ("damaged", "reason"),
    [
        (frame(example(labels=[99])), "its label is 99, and there are 3 classes"),
        (frame(example(labels=[-1])), "its label is -1, and"),
        (frame(example(labels=[3])), "its label is 3, and"),
        (frame(example(labels=[2**32 + 1])), "its label is 4294967297, and"),
        (frame(example(labels=[])), "it holds no drawing"),
        (frame(example(labels=[1, 1])), "it holds no drawing"),
        (frame(example(pixels=[b"x"])), "its image has 1 bytes"),
        (frame(example(pixels=[b""])), "its image has 0 bytes"),
        (frame(example(pixels=[PIXELS * 2])), "its image has 128 bytes"),
        (frame(example(pixels=[PIXELS, PIXELS])), "it holds no drawing"),
        (frame(numbers_as_pixels()), "it holds no drawing"),
        (frame(b"\xff" * 50), "it holds no drawing"),
        (frame(b""), "it holds no drawing"),
        (frame(example(), length=2**62), "it claims 4,611,686,018,427,387,904 bytes"),
        (frame(example(), length=2**64 - 1), "it claims"),
        (frame(example(), length=2**20), "the CRC of its data does not hold"),
        (frame(example())[:-1] + b"\0", "the CRC of its data does not hold"),
    ],
    # Not the bytes: protobuf orders a map anew in each process, and xdist wants the same names.
    ids=lambda value: value if isinstance(value, str) else "record",
)
def test_a_record_that_is_no_drawing_is_named(folder, damaged, reason):
    write(folder, damaged)
    place = rf"{shard(folder)}: the record at byte {3 * len(frame(example()))} is damaged .*"
    with pytest.raises(DataError, match=place + reason):
        list(drawings.read_all(qt.open_dataset(folder), "train"))


def test_a_fifo_in_place_of_a_file_is_told(folder):
    shard(folder).unlink()
    os.mkfifo(folder / "doodles-train.tfrecord-00000-of-00001")
    info = qt.open_dataset(folder)
    with pytest.raises(DataError, match="is not a regular file"):
        list(drawings.read_all(info, "train"))
    with pytest.raises(DataError, match="is not a regular file"):
        assert info.fingerprint


@pytest.mark.parametrize(
    "image",
    [
        tfds.features.Tensor(shape=(8, 8, 1), dtype=np.bool_, encoding="bytes"),
        tfds.features.Tensor(shape=(8, 8, 1), dtype=np.int8, encoding="bytes"),
        tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8, encoding="zlib"),
        tfds.features.Tensor(shape=(8, 8, 1), dtype=np.uint8),
        tfds.features.Tensor(shape=(0, 0, 1), dtype=np.uint8, encoding="bytes"),
        tfds.features.Tensor(shape=(2**20, 2**20, 1), dtype=np.uint8, encoding="bytes"),
    ],
    ids=["bool", "int8", "zlib", "none", "empty", "huge"],
)
def test_images_of_another_kind_are_refused(folder, image):
    write_metadata(folder, image)
    with pytest.raises(DataError, match=r"must have the features image|--source=tfds"):
        qt.open_dataset(folder)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("{FILEFORMAT}", "{FILEFoRMAT}", "metadata cannot be read: Could not format template"),
        ("{DATASET}", "../{DATASET}", "must be in the same folder"),
        ('"5"', '"-5"', "must be in the same folder and have 0 or more"),
    ],
)
def test_files_elsewhere_or_nowhere_are_refused(folder, old, new, reason):
    path = folder / "dataset_info.json"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    with pytest.raises(DataError, match=reason):
        qt.open_dataset(folder)
    with pytest.raises(DataError, match=reason):
        TfdsSource.open(folder)


def test_metadata_without_a_file_is_refused_as_a_source(folder):
    path = folder / "dataset_info.json"
    facts = json.loads(path.read_text())
    facts["splits"][0]["shardLengths"] = []
    path.write_text(json.dumps(facts))
    with pytest.raises(DataError, match="names no files with drawings"):
        TfdsSource.open(folder)


def test_class_names_are_by_the_rule(folder):
    (folder / "label.labels.txt").write_text("cat\nt\x1b[2Jree\nzigzag\n")
    with pytest.raises(DataError, match="a class name must have"):
        qt.open_dataset(folder)


@pytest.mark.parametrize("change", ["label", "pixel", "order"])
def test_other_contents_have_another_fingerprint(folder, change):
    """Though names, counts and sizes are the same."""
    before = qt.open_dataset(folder).fingerprint
    assert qt.open_dataset(folder).fingerprint == before
    changed = {
        "label": [example(labels=[label]) for label in (0, 1, 2, 0, 2)],
        "pixel": [example([PIXELS[:-1] + b"x"], [label]) for label in (0, 1, 2, 0, 1)],
        "order": [example(labels=[label]) for label in (1, 0, 2, 0, 1)],
    }
    size = shard(folder).stat().st_size
    shard(folder).write_bytes(b"".join(map(frame, changed[change])))
    assert shard(folder).stat().st_size == size
    assert qt.open_dataset(folder).fingerprint != before


@pytest.mark.parametrize("target", [TfdsRecords, TfdsMetadata])
def test_whatever_is_in_it_is_read_or_refused(tmp_path, target):
    made = target(tmp_path)
    for case in range(60):
        try:
            made.run(made.make(random.Random(f"{target.__name__}/{case}")))
        except DataError:
            continue
