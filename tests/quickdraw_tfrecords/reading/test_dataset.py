"""Tests of quickdraw_tfrecords.reading.dataset, with TensorFlow's and TFDS' readers as oracles."""

import functools
import hashlib
import logging
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import absl.logging
import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from google.protobuf.internal import encoder
from hypothesis import given, settings
from hypothesis import strategies as st

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.format.manifest import FILE_NAME, read_manifest
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig

SPLITS = {"train": 720, "validation": 80, "test": 200}
MODES = {
    "resident": {"cache": "memory"},
    "streaming in one window": {"cache": "none"},
    "streaming, two shards a window": {"cache": "none", "window_mib": 0.25},
    "streaming, one shard a window": {"cache": "none", "window_mib": 0.001},
}

Batch = tuple[np.ndarray, np.ndarray]
any_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)
any_shuffle = pytest.mark.parametrize("shuffle", [False, True])


def read(*args, **kwargs) -> list[Batch]:
    return list(qt.load(*args, **kwargs).as_numpy_iterator())


def drawings(batches: Iterable[Batch]) -> list[tuple[bytes, int]]:
    """The drawings of some batches in order, as things that can be counted and compared."""
    return [
        (image.tobytes(), int(label))
        for images, labels in batches
        for image, label in zip(images, labels, strict=True)
    ]


def assert_same(some: list[Batch], others: list[Batch]) -> None:
    assert [len(labels) for _, labels in some] == [len(labels) for _, labels in others]
    assert drawings(some) == drawings(others)


def contexts(count: int) -> list[tf.distribute.InputContext]:
    return [tf.distribute.InputContext(count, worker, count) for worker in range(count)]


@functools.cache
def tfds_drawings(directory: Path, split: str) -> Counter:
    """What TFDS reads of a split."""
    records = tfds.builder_from_directory(directory).as_dataset(split=split).as_numpy_iterator()
    return Counter((record["image"].tobytes(), int(record["label"])) for record in records)


@pytest.fixture(scope="module")
def directory(data_dir: Path) -> Path:
    return data_dir / "quickdraw" / "1.0.0"


def test_open_dataset_says_what_is_there(data_dir, directory, source):
    info = qt.open_dataset(data_dir)
    assert info.class_names == source.class_names
    assert dict(info.num_examples) == SPLITS
    assert info.side == 28
    assert info.manifest == read_manifest(directory)
    assert info.directory == directory
    assert qt.open_dataset(str(directory)) == info


@pytest.mark.parametrize("split", SPLITS)
@any_shuffle
@any_mode
def test_an_epoch_is_what_tfds_reads(data_dir, directory, split, shuffle, mode):
    batches = read(data_dir, split, 64, shuffle=shuffle, seed=5, **mode)
    assert Counter(drawings(batches)) == tfds_drawings(directory, split)


@any_mode
def test_without_shuffling_the_order_is_that_on_disk(data_dir, directory, mode):
    files = sorted(str(path) for path in directory.glob("quickdraw-train.*"))
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "label": tf.io.FixedLenFeature([], tf.int64),
    }
    records = tf.data.TFRecordDataset(files).batch(1000).get_single_element()
    parsed = tf.io.parse_example(records, features)
    expected = list(zip(parsed["image"].numpy(), parsed["label"].numpy(), strict=True))
    assert drawings(read(data_dir, "train", 100, **mode)) == expected


@any_mode
def test_batches_have_the_shape_and_type_promised(data_dir, mode):
    dataset = qt.load(data_dir, "train", 100, shuffle=True, **mode)
    images, labels = dataset.element_spec
    assert images.shape[1:] == (28, 28, 1)
    assert (images.dtype, labels.dtype) == (tf.uint8, tf.int32)
    batches = list(dataset.as_numpy_iterator())
    assert [images.shape for images, _ in batches] == [(100, 28, 28, 1)] * 7 + [(20, 28, 28, 1)]
    assert [labels.shape for _, labels in batches] == [(100,)] * 7 + [(20,)]
    assert {(images.dtype, labels.dtype) for images, labels in batches} == {
        (np.dtype(np.uint8), np.dtype(np.int32))
    }


@any_mode
def test_a_remainder_can_be_dropped(data_dir, mode):
    options = {"shuffle": True, "seed": 1, **mode}
    everything = read(data_dir, "train", 100, **options)
    assert_same(read(data_dir, "train", 100, drop_remainder=True, **options), everything[:-1])
    assert_same(
        read(data_dir, "train", 90, drop_remainder=True, **options),
        read(data_dir, "train", 90, **options),
    )
    assert read(data_dir, "train", 721, drop_remainder=True, **options) == []


@any_mode
def test_epochs_and_seeds_have_orders_of_their_own(data_dir, mode):
    orders = [
        drawings(read(data_dir, "train", 100, shuffle=True, seed=seed, epoch=epoch, **mode))
        for seed, epoch in ((0, 0), (0, 1), (1, 0), (1, 1), (0, 0))
    ]
    assert orders[0] == orders[4]
    for index, order in enumerate(orders[:4]):
        assert sorted(order) == sorted(orders[0])
        assert all(order != other for other in orders[:index])


@any_mode
def test_a_shuffled_batch_mixes_shards_and_classes(data_dir, directory, mode):
    layout = read_manifest(directory).layout
    shard_of = {}
    for number, path in enumerate(sorted(directory.glob("quickdraw-train.*"))):
        matrix = np.fromfile(path, np.uint8).reshape(-1, layout.stride)
        shard_of |= {image.tobytes(): number for image in layout.images(matrix)}
    batch = read(data_dir, "train", 120, shuffle=True, **mode)[2]
    assert set(batch[1]) == set(range(5))
    shards = {shard_of[image] for image, _ in drawings([batch])}
    windowed = mode.get("window_mib")
    assert len(shards) >= {None: 6, 0.25: 2, 0.001: 1}[windowed]


@any_mode
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_epochs_follow_each_other(data_dir, mode, drop_remainder):
    options = {"shuffle": True, "seed": 2, "drop_remainder": drop_remainder, **mode}
    options |= {"input_context": contexts(7)[6]}  # a share that is smaller than others
    single = [read(data_dir, "train", 17, epoch=epoch, **options) for epoch in (4, 5, 6)]
    dataset = qt.load(data_dir, "train", 17, epoch=4, epochs=3, start_step=3, **options)
    batches = list(dataset.as_numpy_iterator())
    assert dataset.cardinality() == len(batches)
    assert_same(batches, [*single[0][3:], *single[1], *single[2]])


EXITS = """
import sys
import quickdraw_tfrecords as qt
batches = iter(qt.load(sys.argv[1], "train", 8, shuffle=True, epochs=10**6, cache=sys.argv[2]))
for _ in range(200):
    next(batches)
print("done")
sys.exit(3)
"""


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_a_process_may_end_in_the_middle_of_an_epoch(data_dir, cache):
    """TensorFlow's threads, which read ahead, do not hold it up."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", EXITS, data_dir, cache]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert (result.returncode, result.stdout) == (3, "done\n")


@pytest.mark.slow
@settings(deadline=None, max_examples=40)
@given(data=st.data())
def test_any_step_can_be_the_first(data_dir, data):
    batch_size = data.draw(st.integers(1, 800))
    workers = data.draw(st.integers(1, 4))
    options = {
        "shuffle": data.draw(st.booleans()),
        "seed": data.draw(st.integers(0, 2**32)),
        "epoch": data.draw(st.integers(0, 1000)),
        "drop_remainder": data.draw(st.booleans()),
        "cache": data.draw(st.sampled_from(["memory", "none"])),
        "window_mib": data.draw(st.floats(0.001, 1)),
        "input_context": contexts(workers)[data.draw(st.integers(0, workers - 1))],
    }
    everything = read(data_dir, "train", batch_size, **options)
    first = data.draw(st.integers(0, len(everything) + 2))
    dataset = qt.load(data_dir, "train", batch_size, start_step=first, **options)
    tail = list(dataset.as_numpy_iterator())
    assert dataset.cardinality() == len(tail) == max(0, len(everything) - first)
    assert_same(tail, everything[first:])


DIGESTS = """
import hashlib, sys
import quickdraw_tfrecords as qt
for cache in ("memory", "none"):
    digest = hashlib.sha256()
    for images, labels in qt.load(sys.argv[1], "train", 100, shuffle=True, seed=8, epoch=2,
                                  cache=cache, window_mib=0.25).as_numpy_iterator():
        digest.update(images.tobytes() + labels.tobytes())
    print(digest.hexdigest())
"""


@pytest.mark.slow
def test_another_process_reads_the_same_batches(data_dir):
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", DIGESTS, data_dir]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    digests = []
    for cache in ("memory", "none"):
        digest = hashlib.sha256()
        options = {"seed": 8, "epoch": 2, "cache": cache, "window_mib": 0.25}
        for images, labels in read(data_dir, "train", 100, shuffle=True, **options):
            digest.update(images.tobytes() + labels.tobytes())
        digests.append(digest.hexdigest())
    assert result.stdout.split() == digests


@pytest.mark.parametrize(
    ("workers", "batch_size"),
    [
        (2, 13),
        (3, 64),
        pytest.param(7, 1, marks=pytest.mark.slow),
        pytest.param(11, 1000, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("drop_remainder", [False, True])
@pytest.mark.parametrize("cache", ["memory", "none"])
def test_workers_share_the_epoch(data_dir, directory, workers, batch_size, drop_remainder, cache):
    options = {"shuffle": True, "drop_remainder": drop_remainder, "cache": cache}
    options |= {"window_mib": 0.1}
    datasets = [
        qt.load(data_dir, "validation", batch_size, input_context=context, **options)
        for context in contexts(workers)
    ]
    shares = [list(dataset.as_numpy_iterator()) for dataset in datasets]
    steps = {len(share) for share in shares} | {int(d.cardinality()) for d in datasets}
    assert len(steps) == 1
    union = Counter(drawings(batch for share in shares for batch in share))
    if drop_remainder:
        assert steps == {80 // workers // batch_size}
        assert {len(labels) for share in shares for _, labels in share} <= {batch_size}
        assert union <= tfds_drawings(directory, "validation")
    else:
        assert union == tfds_drawings(directory, "validation")
        sizes = [sum(len(labels) for _, labels in share) for share in shares]
        assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_more_workers_than_drawings_still_agree(source, tmp_path, pool, cache):
    directory = converter.convert(source, tmp_path, ConvertConfig(per_class=14), pool=pool)
    assert qt.open_dataset(directory).num_examples["validation"] == 5
    shares = [
        read(directory, "validation", 4, cache=cache, input_context=context)
        for context in contexts(8)
    ]
    assert {len(share) for share in shares} == {1}
    assert Counter(drawings(batch for (batch,) in shares)) == tfds_drawings(directory, "validation")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"split": "dev"}, "split='dev': .* has train, validation, test"),
        ({"batch_size": 0}, "batch_size=0: must be at least 1"),
        ({"seed": -1}, "seed=-1: must be at least 0"),
        ({"epoch": -1}, "epoch=-1: must be at least 0"),
        ({"epochs": 0}, "epochs=0: must be at least 1"),
        ({"start_step": -2}, "start_step=-2: must be at least 0"),
        ({"cache": "disk"}, "cache='disk': must be one of auto, memory, none"),
        ({"cache": "device"}, "cache='device': "),
    ],
)
def test_a_bad_argument_is_named(data_dir, arguments, said):
    with pytest.raises(UsageError, match=said):
        qt.load(data_dir, **{"split": "train", "batch_size": 10} | arguments)


def test_what_is_no_data_set_is_refused(data_dir, directory, tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path}/nowhere: no such directory"):
        qt.open_dataset(tmp_path / "nowhere")
    with pytest.raises(DataError, match=f"{tmp_path}: has no manifest.json"):
        qt.open_dataset(tmp_path)


def test_a_conversion_under_way_is_refused(directory, tmp_path):
    incomplete = tmp_path / "quickdraw" / "1.0.0.incomplete"
    shutil.copytree(directory, incomplete)
    for path in (tmp_path, incomplete):
        with pytest.raises(DataError, match=f"{path}: its conversion was not finished; run the"):
            qt.open_dataset(path)


def test_a_data_set_that_lost_its_manifest_is_refused(directory, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(directory, copy)
    (copy / FILE_NAME).unlink()
    with pytest.raises(DataError, match=f"{copy}: has no manifest.json.*restore it"):
        qt.open_dataset(copy)


# Data sets that another tool wrote


def serialize(image: np.ndarray, label: int, comment: str, order: random.Random) -> bytes:
    """An Example with ordinary varints, its features in any order, of any length."""
    features = {
        "image": tf.train.Feature(bytes_list={"value": [image.tobytes()]}),
        "label": tf.train.Feature(int64_list={"value": [label]}),
        "comment": tf.train.Feature(bytes_list={"value": [comment.encode()]}),
    }
    entries = [
        tf.train.Features(feature={name: feature}).SerializeToString()
        for name, feature in features.items()
    ]
    order.shuffle(entries)
    body = b"".join(entries)
    return b"\x0a" + encoder._VarintBytes(len(body)) + body


def write_foreign(directory: Path, image: tfds.features.FeatureConnector) -> dict[str, Counter]:
    """Writes a TFDS folder data set; returns the drawings of each split."""
    order, numbers = random.Random(0), np.random.default_rng(0)
    template = tfds.core.ShardedFileTemplate(
        dataset_name="doodles", data_dir=tfds.core.Path(directory), filetype_suffix="tfrecord"
    )
    written, split_infos = {}, []
    for split, lengths in (("train", [30, 0, 17]), ("test", [11])):
        written[split] = Counter()
        for index, length in enumerate(lengths):
            name = template.replace(split=split).sharded_filepath(
                shard_index=index, num_shards=len(lengths)
            )
            with tf.io.TFRecordWriter(str(name)) as writer:
                for row in range(length):
                    drawing = numbers.integers(0, 256, (28, 28, 1), np.uint8)
                    label = int(numbers.integers(200))
                    writer.write(serialize(drawing, label, "so " * row, order))
                    written[split][drawing.tobytes(), label] += 1
        info = tfds.core.SplitInfo(
            name=split,
            shard_lengths=lengths,
            num_bytes=0,
            filename_template=template.replace(split=split),
        )
        split_infos.append(info)
    names = [f"class {label}" for label in range(200)]
    features = {
        "image": image,
        "label": tfds.features.ClassLabel(names=names),
        "comment": tfds.features.Text(),
    }
    tfds.folder_dataset.write_metadata(
        data_dir=directory,
        features=tfds.features.FeaturesDict(features),
        split_infos=split_infos,
        filename_template=template,
        version="1.0.0",
        check_data=False,
    )
    return written


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Counter]]:
    path = tmp_path_factory.mktemp("foreign")
    image = tfds.features.Tensor(
        shape=(28, 28, 1), dtype=np.uint8, encoding=tfds.features.Encoding.BYTES
    )
    return path, write_foreign(path, image)


def test_a_foreign_data_set_is_described(foreign):
    info = qt.open_dataset(foreign[0])
    assert info.class_names[:2] == ("class 0", "class 1")
    assert info.num_examples == {"train": 47, "test": 11}
    assert info.side == 28
    assert info.manifest is None


@pytest.mark.parametrize("split", ["train", "test"])
@any_shuffle
def test_a_foreign_data_set_is_read_all_the_same(foreign, split, shuffle):
    path, written = foreign
    assert written[split] == tfds_drawings(path, split)
    batches = read(path, split, 10, shuffle=shuffle)
    assert Counter(drawings(batches)) == written[split]
    assert batches[0][0].shape == (10, 28, 28, 1)
    assert (batches[0][0].dtype, batches[0][1].dtype) == (np.uint8, np.int32)


@any_shuffle
def test_a_foreign_epoch_can_begin_anywhere(foreign, shuffle):
    options = {"shuffle": shuffle, "seed": 4, "epoch": 1}
    everything = read(foreign[0], "train", 10, **options)
    for first in (0, 2, 4, 5, 9):
        tail = read(foreign[0], "train", 10, start_step=first, **options)
        assert_same(tail, everything[first:])
    if shuffle:
        other = read(foreign[0], "train", 10, **options | {"epoch": 2})
        assert drawings(other) != drawings(everything)


@pytest.mark.parametrize(
    ("workers", "batch_size"),
    [(2, 1), (2, 5), (2, 6), (3, 2), pytest.param(13, 4, marks=pytest.mark.slow)],
)
@pytest.mark.parametrize("drop_remainder", [False, True])
def test_workers_share_a_foreign_epoch(foreign, workers, batch_size, drop_remainder):
    path, written = foreign
    shares = [
        read(path, "test", batch_size, drop_remainder=drop_remainder, input_context=context)
        for context in contexts(workers)
    ]
    assert len({len(share) for share in shares}) == 1
    union = Counter(drawings(batch for share in shares for batch in share))
    assert union <= written["test"] if drop_remainder else union == written["test"]


def test_a_foreign_data_set_warns_once(foreign, caplog, monkeypatch):
    monkeypatch.setattr(absl.logging, "_log_counter_per_token", {})
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            qt.load(foreign[0], "train", 10)
    warnings = [record.getMessage() for record in caplog.records if "--source=tfds" in record.msg]
    assert len(warnings) == 1
    assert str(foreign[0]) in warnings[0]


def test_a_foreign_file_cut_at_a_record_is_no_shorter_file(foreign, tmp_path):
    shutil.copytree(foreign[0], tmp_path / "cut")
    path = tmp_path / "cut" / "doodles-test.tfrecord-00000-of-00001"
    records = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in records[:-1]:
            writer.write(record)
    with pytest.raises(tf.errors.OpError, match=r"holds 10 records, dataset_info\.json says 11"):
        read(tmp_path / "cut", "test", 10)


def test_compressed_images_must_be_converted_first(tmp_path):
    write_foreign(tmp_path, tfds.features.Image(shape=(28, 28, 1)))
    with pytest.raises(DataError, match=f"images are compressed.*--source_dir={tmp_path}"):
        qt.open_dataset(tmp_path)


@pytest.mark.parametrize(
    "image", [tfds.features.Text(), tfds.features.Tensor(shape=(28, 28, 3), dtype=np.uint8)]
)
def test_features_of_other_things_are_refused(tmp_path, image):
    write_foreign(tmp_path, image)
    with pytest.raises(DataError, match=f"{tmp_path}: must have the features image"):
        qt.open_dataset(tmp_path)
