"""Tests of quickdraw_tfrecords.sources.tfds; TFDS' own builder and reader are the oracle."""

import importlib.resources.abc
import io
import json
import pickle
import shutil
import struct
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image
from tensorflow_datasets.proto import tf_example_pb2

from quickdraw_tfrecords.base.class_names import quickdraw_class_names
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.sources.tfds import TfdsSource
from quickdraw_tfrecords.sources.tfds_images import DECODERS
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig

PER_CLASS = 5


@pytest.fixture(scope="module")
def tfds_dir(tmp_path_factory) -> Path:
    """A data_dir with `quickdraw_bitmap`, prepared by TFDS from files of random drawings."""
    root = tmp_path_factory.mktemp("tfds")
    random = np.random.default_rng(0)
    for name in quickdraw_class_names():
        np.save(root / f"{name}.npy", random.integers(0, 256, (PER_CLASS, 784), np.uint8))

    def download(_manager, urls: dict[str, str]) -> dict[str, str]:
        return {name: str(root / f"{name}.npy") for name in urls}

    with pytest.MonkeyPatch.context() as patch:
        # TFDS uses this package without requiring it; the standard library's is the same.
        patch.setitem(sys.modules, "importlib_resources", importlib.resources)
        patch.setattr(tfds.download.DownloadManager, "download", download)
        builder = tfds.builder("quickdraw_bitmap", data_dir=root / "data")
        config = tfds.download.DownloadConfig(num_shards=3)
        builder.download_and_prepare(download_config=config)
    return root / "data"


@pytest.fixture(scope="module")
def bitmaps(tfds_dir) -> TfdsSource:
    return TfdsSource.open(tfds_dir, None)


@pytest.fixture
def copy(tfds_dir, tmp_path) -> Path:
    """A version directory that a test may damage."""
    return shutil.copytree(tfds_dir / "quickdraw_bitmap" / "3.0.0", tmp_path / "3.0.0")


def read_with_tfds(directory: Path) -> list[tuple[str, int | None, np.ndarray]]:
    """Class name, source row if there is one, and image of all records, in order."""
    builder = tfds.builder_from_directory(directory)
    config = tfds.ReadConfig(interleave_cycle_length=1)
    names = builder.info.features["label"].names
    return [
        (names[record["label"]], record.get("source_row"), record["image"].ravel())
        for split in builder.info.splits
        for record in builder.as_dataset(split=split, read_config=config).as_numpy_iterator()
    ]


def by_class(records) -> dict[str, np.ndarray]:
    """uint8[n, pixels] of each class, in order."""
    images = {}
    for name, _, image in records:
        images.setdefault(name, []).append(image)
    return {name: np.stack(members) for name, members in images.items()}


def shards(directory: Path) -> list[Path]:
    return sorted(directory.glob("*.tfrecord*"))


def starts(path: Path) -> list[int]:
    """Where the records of a TFRecord file begin."""
    data, offsets = path.read_bytes(), [0]
    while offsets[-1] < len(data):
        offsets.append(offsets[-1] + struct.unpack_from("<Q", data, offsets[-1])[0] + 16)
    return offsets[:-1]


def test_drawings_are_those_that_tfds_reads(bitmaps, tfds_dir):
    expected = by_class(read_with_tfds(tfds_dir / "quickdraw_bitmap" / "3.0.0"))
    assert bitmaps.class_names == quickdraw_class_names()
    assert bitmaps.counts == (PER_CLASS,) * 345
    assert bitmaps.side == 28
    for label, name in enumerate(bitmaps.class_names):
        images = bitmaps.read(label, np.arange(PER_CLASS))
        assert images.dtype == np.uint8
        np.testing.assert_array_equal(images, expected[name])


def test_raw_images_in_several_splits_are_those_that_tfds_reads(data_dir):
    directory = data_dir / "quickdraw" / "1.0.0"
    source = TfdsSource.open(directory)
    expected = by_class(read_with_tfds(directory))
    assert set(source.class_names) == set(expected)
    for label, name in enumerate(source.class_names):
        images = source.read(label, np.arange(source.counts[label]))
        np.testing.assert_array_equal(images, expected[name])


def test_any_rows_of_some_classes(bitmaps, tfds_dir):
    some = TfdsSource.open(tfds_dir / "quickdraw_bitmap" / "3.0.0", ["zebra", "cat"])
    assert some.class_names == ("cat", "zebra")
    rows = np.array([1, 4])
    for label, name in enumerate(some.class_names):
        expected = bitmaps.read(bitmaps.class_names.index(name), np.arange(PER_CLASS))[rows]
        np.testing.assert_array_equal(some.read(label, rows), expected)
    assert some.read(0, np.array([], np.int64)).shape == (0, 784)


def test_a_conversion_holds_every_drawing_of_tfds_once(bitmaps, tmp_path, pool):
    settings = ConvertConfig(per_class=PER_CLASS, test_fraction=0.4, validation_fraction=0.34)
    directory = converter.convert(bitmaps, tmp_path, settings, pool=pool)
    records = read_with_tfds(directory)
    assert len({(name, row) for name, row, _ in records}) == len(records) == 345 * PER_CLASS
    for name, row, image in records:
        label = bitmaps.class_names.index(name)
        np.testing.assert_array_equal(image, bitmaps.read(label, np.array([row]))[0])


def test_what_is_sent_to_workers_is_small_and_reads_the_same(bitmaps, pool):
    assert len(pickle.dumps(bitmaps)) < 8192
    rows = np.arange(PER_CLASS)
    images = pool.submit(bitmaps.read, 7, rows).result()
    np.testing.assert_array_equal(images, bitmaps.read(7, rows))


def test_the_description_tells_one_data_set_from_another(bitmaps, copy):
    source = TfdsSource.open(copy)
    assert json.loads(json.dumps(source.describe())) == bitmaps.describe()
    first, second = shards(copy)[:2]
    shutil.copy(first, second)
    assert TfdsSource.open(copy).describe() != bitmaps.describe()


def test_opening_and_reading_need_no_tensorflow(tfds_dir):
    program = (
        "import sys, numpy, pathlib\n"
        "from quickdraw_tfrecords.sources.tfds import TfdsSource\n"
        f"TfdsSource.open(pathlib.Path({str(tfds_dir)!r})).read(0, numpy.arange(3))\n"
        "print('tensorflow' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "False\n", run.stderr


@pytest.mark.parametrize("place", ["length", "length CRC", "data", "data CRC"])
def test_a_changed_byte_is_found_and_named(copy, place):
    path = shards(copy)[1]
    start, end = starts(path)[4:6]
    offset = {"length": start, "length CRC": start + 9, "data": start + 40, "data CRC": end - 2}
    data = bytearray(path.read_bytes())
    data[offset[place]] ^= 4
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"{path.name}: the record at byte {start} is damaged"):
        TfdsSource.open(copy)


@pytest.mark.parametrize("kept", [3, 11, 100])
def test_a_record_cut_short_is_found_and_named(copy, kept):
    path = shards(copy)[2]
    start = starts(path)[-1]
    path.write_bytes(path.read_bytes()[: start + kept])
    with pytest.raises(DataError, match=rf"{path.name}: the record at byte {start} .* cut short"):
        TfdsSource.open(copy)


def test_a_file_cut_between_records_is_found(copy):
    path = shards(copy)[0]
    path.write_bytes(path.read_bytes()[: starts(path)[-1]])
    with pytest.raises(DataError, match=rf"{path.name}: ends after 574 records, .* says 575"):
        TfdsSource.open(copy)


def test_a_missing_file_is_named(copy):
    shards(copy)[0].unlink()
    with pytest.raises(DataError, match=rf"{shards(copy)[0].name[:-14]}.*00000-of-00003: missing"):
        TfdsSource.open(copy)


def test_a_file_changed_after_opening_is_found(copy):
    source = TfdsSource.open(copy)
    for path in shards(copy):
        path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match="the record at byte"):
        source.read(0, np.arange(PER_CLASS))


def test_another_file_format_is_refused_with_the_remedy(copy):
    info = copy / "dataset_info.json"
    info.write_text(info.read_text().replace('"tfrecord"', '"array_record"'))
    with pytest.raises(DataError, match=r"array_record, must have tfrecord.*download_and_prepare"):
        TfdsSource.open(copy)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"1"', '"3"'),
        ('"uint8"', '"uint16"'),
        ('"label":', '"class":'),
    ],
)
def test_other_features_are_refused(copy, old, new):
    path = copy / "features.json"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(DataError, match="must have the features image"):
        TfdsSource.open(copy)


def test_damaged_metadata_is_named(copy):
    (copy / "features.json").write_text("{")
    with pytest.raises(DataError, match=r"3\.0\.0: its TFDS metadata cannot be read"):
        TfdsSource.open(copy)


def test_a_folder_without_a_data_set_is_misuse(tmp_path):
    with pytest.raises(UsageError, match=r"--source_dir=.*holds no dataset_info\.json"):
        TfdsSource.open(tmp_path)


def test_an_unknown_class_is_misuse(tfds_dir):
    with pytest.raises(UsageError, match=r"no class 'zebr'.*Did you mean 'zebra'"):
        TfdsSource.open(tfds_dir, ["zebr"])


LABELS = ["T-shirt/top", "bag", "10", "9"]
SIDES = {"small": 28, "large": 36}  # by configuration


class TinyFashion(tfds.core.GeneratorBasedBuilder):
    """As MNIST and its like: PNG images, two splits, names that are no file names."""

    VERSION = tfds.core.Version("1.2.0")
    BUILDER_CONFIGS = tuple(tfds.core.BuilderConfig(name=name) for name in SIDES)

    def _info(self) -> tfds.core.DatasetInfo:
        side = SIDES[self.builder_config.name]
        features = {
            "image": tfds.features.Image(shape=(side, side, 1)),
            "label": tfds.features.ClassLabel(names=LABELS),
        }
        return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

    def _split_generators(self, dl_manager):
        return {"train": self._generate_examples(40, 0), "test": self._generate_examples(20, 1)}

    def _generate_examples(self, count: int, seed: int):
        side, random = SIDES[self.builder_config.name], np.random.default_rng(seed)
        for i in range(count):
            image = random.integers(0, 256, (side, side, 1), np.uint8)
            yield i, {"image": image, "label": i % len(LABELS)}


@pytest.fixture(scope="module")
def fashion_dir(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("fashion")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "importlib_resources", importlib.resources)
        for config in SIDES:
            TinyFashion(config=config, data_dir=root).download_and_prepare()
    return root


@pytest.mark.parametrize(("config", "side"), SIDES.items())
@pytest.mark.parametrize("splits", [None, "train", "test", "test+train"])
def test_a_data_set_by_name_and_split(fashion_dir, config, side, splits):
    source = TfdsSource.open(fashion_dir, name=f"tiny_fashion/{config}", splits=splits)
    assert source.class_names == tuple(LABELS)  # its own order
    assert source.side == side
    builder = tfds.builder_from_directory(fashion_dir / "tiny_fashion" / config / "1.2.0")
    reading = tfds.ReadConfig(interleave_cycle_length=1)
    for label in range(len(LABELS)):
        expected = [
            example["image"].ravel()
            for split in (splits or "train+test").split("+")
            for example in builder.as_dataset(split=split, read_config=reading).as_numpy_iterator()
            if example["label"] == label
        ]
        np.testing.assert_array_equal(source.read(label, np.arange(source.counts[label])), expected)


def test_another_data_set_keeps_its_classes_through_a_conversion(fashion_dir, tmp_path, pool):
    source = TfdsSource.open(fashion_dir, ["9", "T-shirt/top"], name="tiny_fashion/small:1.2.0")
    settings = ConvertConfig(per_class=15, test_fraction=0.4, validation_fraction=0.34)
    directory = converter.convert(source, tmp_path, settings, pool=pool)
    assert tfds.builder_from_directory(directory).info.features["label"].names == [
        "T-shirt/top",
        "9",
    ]
    for name, row, image in read_with_tfds(directory):
        label = source.class_names.index(name)
        np.testing.assert_array_equal(image, source.read(label, np.array([row]))[0])


@pytest.mark.parametrize("name", ["mnist", "tiny_fashion/huge", "a b", "/"])
def test_a_name_that_is_not_there_is_misuse(fashion_dir, name):
    with pytest.raises(UsageError, match=rf"--tfds_name={name}: .* holds no data set of this name"):
        TfdsSource.open(fashion_dir, name=name)


@pytest.mark.parametrize("splits", ["valid", "train+", "train[:50%]", "train+train"])
def test_a_split_that_is_not_there_is_misuse(fashion_dir, splits):
    with pytest.raises(UsageError, match=r"--tfds_split=.*: must be some of t.*, each once"):
        TfdsSource.open(fashion_dir, name="tiny_fashion/small", splits=splits)


# Records that other programs have written, with right CRCs.


def frame(data: bytes, length: int | None = None) -> bytes:
    """A TFRecord, which may lie about its length."""

    def masked(part: bytes) -> bytes:
        crc = google_crc32c.value(part)
        return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)

    header = struct.pack("<Q", len(data) if length is None else length)
    return header + masked(header) + data + masked(data)


def feature_of(values: list[int] | list[bytes]) -> Any:
    feature = tf_example_pb2.Example().features.feature["any"]
    are_bytes = all(isinstance(value, bytes) for value in values)
    (feature.bytes_list if are_bytes else feature.int64_list).value.extend(values)
    return feature


def replace_first(path: Path, **features: Any) -> int:
    """Replaces features of a file's first record; its label before."""
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    example = tf_example_pb2.Example.FromString(content[12 : 12 + length])
    (label,) = example.features.feature["label"].int64_list.value
    for name, values in features.items():
        example.features.feature[name].CopyFrom(feature_of(values))
    path.write_bytes(frame(example.SerializeToString()) + content[16 + length :])
    return label


def png(mode: str = "L", side: int = 28, form: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, (side, side), 1).save(buffer, form)
    return buffer.getvalue()


@pytest.mark.parametrize("labels", [[345], [-1], [2**32 + 1], [], [1, 2], [b"cat"]])
def test_a_label_of_no_class_is_an_error(copy, labels):
    replace_first(shards(copy)[0], label=labels)
    with pytest.raises(DataError, match=r"the record at byte 0 .*: it has no valid label"):
        TfdsSource.open(copy)


@pytest.mark.parametrize(
    "images",
    [
        [png(side=1)],
        [png(side=29)],
        [png("P")],
        [png("RGB")],
        [png("I;16")],
        [png("LA")],
        [png(form="GIF")],
        [b"\x01"],
        [bytes(784)],
        [png(), png()],
        [],
        [7] * 784,
    ],
    ids=range(12),
)
def test_an_image_of_another_form_is_an_error(copy, images):
    label = replace_first(shards(copy)[0], image=images)
    with pytest.raises(DataError, match=r"the record at byte 0 .* its image cannot be decoded"):
        TfdsSource.open(copy).read(label, np.arange(PER_CLASS))


def test_an_image_of_one_bit_is_black_and_white(copy):
    label = replace_first(shards(copy)[0], image=[png("1")])
    assert (TfdsSource.open(copy).read(label, np.arange(PER_CLASS)) == 255).all(axis=1).any()


@pytest.mark.parametrize(
    ("encoding", "values"),
    [
        ("none", [256] + [0] * 783),
        ("none", [2**32 + 1] + [0] * 783),
        ("none", [-1] + [0] * 783),
        ("none", [0] * 783),
        ("none", [b"\0" * 784]),
        ("bytes", [b"\1"]),
        ("bytes", [b"\0" * 785]),
        ("bytes", [b"\0" * 784] * 2),
        ("bytes", [0] * 784),
        ("zlib", [zlib.compress(bytes(783))]),
        ("zlib", [zlib.compress(bytes(1 << 24))]),
    ],
)
def test_a_tensor_of_another_form_is_an_error(encoding, values):
    with pytest.raises(ValueError, match=r"must have 784|must be in range|not enough|too many"):
        DECODERS[encoding](feature_of(values), 28)


@pytest.mark.parametrize("encoding", ["none", "bytes", "zlib"])
def test_every_encoding_of_a_tensor_is_read(encoding):
    image = np.random.default_rng(0).integers(0, 256, (28, 28, 1), np.uint8)
    kind = tfds.features.Tensor(shape=(28, 28, 1), dtype=np.uint8, encoding=encoding)
    features = tfds.features.FeaturesDict({"image": kind})
    example = tf_example_pb2.Example.FromString(features.serialize_example({"image": image}))
    found = DECODERS[encoding](example.features.feature["image"], 28)
    np.testing.assert_array_equal(found, image.ravel())


@pytest.mark.parametrize("length", [2**62, 2**63, 2**40, 2**64 - 1])
def test_a_record_that_claims_more_than_memory_is_an_error(copy, length):
    path = shards(copy)[0]
    path.write_bytes(frame(b"", length) + path.read_bytes())
    with pytest.raises(DataError, match=rf"the record at byte 0 .* it claims {length:,} bytes"):
        TfdsSource.open(copy)
