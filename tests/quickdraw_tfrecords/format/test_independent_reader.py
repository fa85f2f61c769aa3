"""A reader written from docs/format.md alone, with Python's standard library and none of ours.

What it reads is compared with what this project and TFDS read, so the page is right.
"""

import functools
import json
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format.records import RecordLayout

FORMAT_PAGE = Path(__file__).parents[3] / "docs" / "format.md"


# The reader: everything from here to the next comment of this kind.

TABLE = [
    functools.reduce(lambda crc, _: crc >> 1 ^ 0x82F63B78 * (crc & 1), range(8), byte)
    for byte in range(256)
]


def extend(crc: int, data: bytes) -> int:
    """The CRC32C of some bytes, whose own is `crc`, followed by `data`."""
    crc ^= 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def masked_crc(data: bytes) -> bytes:
    crc = extend(0, data)
    return (((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF).to_bytes(4, "little")


def varint(data: bytes) -> int:
    return sum((byte & 0x7F) << (7 * index) for index, byte in enumerate(data))


def read_manifest(directory: Path) -> dict:
    text = (directory / "manifest.json").read_bytes()
    manifest = json.loads(text)
    assert int(manifest["crc32c"], 16) == extend(0, text[23:])
    assert manifest["format"] == "quickdraw-tfrecords 2"
    return manifest


def parse_record(record: bytes, layout: dict) -> tuple[bytes, int, int]:
    """The pixels, the label and the source row of a framed record."""
    assert int.from_bytes(record[:8], "little") == len(record) - 16
    assert masked_crc(record[:8]) == record[8:12]
    assert masked_crc(record[12:-4]) == record[-4:]
    slots = (layout[name] for name in ("image", "label", "source_row"))
    image, *integers = (record[slot["offset"] :][: slot["width"]] for slot in slots)
    return image, *map(varint, integers)


def read_split(directory: Path, split: str) -> Iterator[tuple[bytes, int, int]]:
    manifest = read_manifest(directory)
    layout, stride = manifest["layout"], manifest["layout"]["stride"]
    for shard in manifest["splits"][split]:
        data, records, crc = (directory / shard["name"]).read_bytes(), shard["records"], 0
        assert len(data) == shard["bytes"] == records * stride
        for block, expected in enumerate(shard["prefix_crc32c"]):
            first, end = (records * b // len(shard["prefix_crc32c"]) for b in (block, block + 1))
            crc = extend(crc, data[first * stride : end * stride])
            assert crc == expected
        for start in range(0, len(data), stride):
            yield parse_record(data[start : start + stride], layout)


# The tests.


@pytest.fixture(scope="module")
def directory(data_dir: Path) -> Path:
    return manifests.find_directory(data_dir)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_it_reads_what_this_project_reads(directory: Path, split: str):
    images, labels, _ = zip(*read_split(directory, split), strict=True)
    ((expected_images, expected_labels),) = qt.load(directory, split, batch_size=1000)
    assert list(labels) == expected_labels.numpy().tolist()
    assert b"".join(images) == expected_images.numpy().tobytes()


def test_it_reads_what_tfds_reads(directory: Path):
    dataset = tfds.builder_from_directory(directory).as_dataset("test", shuffle_files=False)
    expected = [
        (row["image"].tobytes(), row["label"], row["source_row"]) for row in tfds.as_numpy(dataset)
    ]
    assert sorted(read_split(directory, "test")) == sorted(expected)
    names = (directory / "label.labels.txt").read_text().splitlines()
    assert names == read_manifest(directory)["request"]["class_names"]


@pytest.mark.parametrize("position", [0, 10, 40, 835, 860, -1])
def test_it_notices_a_flipped_bit(directory: Path, position: int):
    layout = read_manifest(directory)["layout"]
    (path,) = directory.glob("quickdraw-validation.*")
    record = bytearray(path.read_bytes()[: layout["stride"]])
    parse_record(bytes(record), layout)
    record[position] ^= 1
    with pytest.raises(AssertionError):
        parse_record(bytes(record), layout)


def test_its_checksum_is_crc32c():
    assert extend(0, b"123456789") == 0xE3069283


# The page's own example.


@pytest.fixture(scope="module")
def record() -> bytes:
    """The bytes of the page's hexdump."""
    lines = re.findall(r"^[0-9a-f]{8}  (.+?)\|", FORMAT_PAGE.read_text(), re.MULTILINE)
    return bytes.fromhex("".join(lines))


@pytest.fixture(scope="module")
def layout() -> dict:
    """The layout that the page states for it."""
    (text,) = re.findall(r'^(\{"stride".*?"\})', FORMAT_PAGE.read_text(), re.M | re.S)
    return json.loads(re.sub(r"\n\s*", "", text))


def test_the_record_on_the_page_is_read_as_the_page_says(record: bytes, layout: dict):
    image, label, source_row = parse_record(record, layout)
    assert (label, source_row) == (300, 5)
    rows = [image[start : start + 8] for start in range(0, 64, 8)]
    assert rows == [bytes(8), *[bytes([0, 0, 0, 255, 96, 0, 0, 0])] * 6, bytes(8)]


def test_the_record_on_the_page_is_the_one_that_is_written(record: bytes, layout: dict):
    found = RecordLayout.create(side=8, max_label=344, max_source_row=6449)
    assert found.to_json() == layout
    image, label, source_row = parse_record(record, layout)
    pixels = np.frombuffer(image, np.uint8)[np.newaxis]
    written = found.encode(pixels, np.array([label]), np.array([source_row]))
    assert written.tobytes() == record


def test_the_table_of_the_page_is_the_record(record: bytes):
    """Every row that gives its bytes in full."""
    table = FORMAT_PAGE.read_text().partition("One record, byte by byte")[2]
    rows = re.findall(r"^\| (\d+) \| ((?:`[0-9a-f ]+` ?)+)\|", table, re.MULTILINE)
    assert len(rows) == 12
    for offset, cells in rows:
        expected = bytes.fromhex(cells.replace("`", ""))
        assert record[int(offset) :][: len(expected)] == expected
