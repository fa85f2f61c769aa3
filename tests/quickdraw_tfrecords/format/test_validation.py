"""A manifest whose checksum is right is still believed only where it agrees with itself."""

import json
import math
import random
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.base.files import crc32c
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import shards
from quickdraw_tfrecords.format.records import RecordLayout, varint_width
from quickdraw_tfrecords.format.validation import make_layout
from tools.fuzzing.mutations import mutate_json


@pytest.fixture(scope="module")
def fields(data_dir: Path) -> dict[str, Any]:
    return json.loads((manifests.find_directory(data_dir) / manifests.FILE_NAME).read_text())


def read(directory: Path, fields: dict[str, Any]) -> manifests.Manifest:
    """Reads a manifest of some fields with a right checksum."""
    body = json.dumps({key: value for key, value in fields.items() if key != "crc32c"})[1:].encode()
    path = directory / manifests.FILE_NAME
    path.unlink(missing_ok=True)
    path.write_bytes(b'{"crc32c": "%08x",\n' % crc32c(body) + body)
    return manifests.read_manifest(directory)


def changed(fields: dict[str, Any], *path: Any, value: Any) -> dict[str, Any]:
    """The fields with another value at a path."""
    copy = json.loads(json.dumps(fields))
    target = copy
    for key in path[:-1]:
        target = target[key]
    target[path[-1]] = value
    return copy


@settings(max_examples=300, deadline=None)
@given(numbers=st.randoms(use_true_random=False))
def test_what_is_read_is_sound_whatever_was_edited(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, Any], numbers: random.Random
):
    directory = tmp_path_factory.getbasetemp()
    try:
        found = read(directory, mutate_json(numbers, fields))
    except DataError:
        return
    assert found.layout == make_layout(
        found.layout.side, varint_width(len(found.class_names) - 1), found.layout.source_row.width
    )
    for split, members in found.splits.items():
        for index, shard in enumerate(members):
            assert shard.name == shards.shard_name(split, index, len(members))
            assert shard.bytes == shard.records * found.layout.stride
            assert sum(shard.class_counts) == shard.records
    total = [sum(counts) for counts in zip(*(s.class_counts for s in found.shards), strict=True)]
    assert total == found.request["drawings"]


FIRST = ("splits", "train", 0)  # the path of a shard


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("layout", "image", "offset"), 30, r"layout\.image\.offset is 30, must be 34"),
        (("layout", "label", "width"), 2, r"layout\.label\.width is 2, must be 1"),
        (("layout", "side"), 2**31, r"layout\.side is 2147483648, must be whole, up to 4096"),
        (("layout", "side"), True, r"layout\.side is True, must be whole"),
        (("layout", "constant_bytes"), "00", r"layout\.constant_bytes is '00', must be"),
        ((*FIRST, "name"), "../../x", r"splits\.train\[0\]\.name is '\.\./\.\./x', must be"),
        ((*FIRST, "name"), "quickdraw-train.tfrecord-00001-of-00006", "must be 'quickdraw-train"),
        ((*FIRST, "bytes"), 7, r"splits\.train\[0\]\.bytes is 7, must be"),
        ((*FIRST, "records"), -1, r"records is -1, must be whole, from 0 on"),
        ((*FIRST, "prefix_crc32c"), [], r"prefix_crc32c is \[\], must be a list of 1"),
        ((*FIRST, "prefix_crc32c", 0), 2**32, r"prefix_crc32c .* up to 4294967295"),
        ((*FIRST, "class_counts"), [1, 2], r"class_counts is \[1, 2\], must be a list of 5"),
        ((*FIRST, "class_counts"), [0] * 5, r"class_counts add to 0, must be 120"),
        ((*FIRST, "extra"), 1, r"must not have the key extra"),
        (("splits", "train"), {}, r"splits\.train is .*, must be a list"),
        (("splits", "../x"), [], r"splits\.\.\./x is \[\], must be named as a split"),
        (("request",), [], r"request is \[\], must be an object"),
        (("request", "class_names", 0), "a\nb", "a class name must have"),
        (("request", "class_names", 0), "cat", "each once"),
        (("request", "drawings"), [200, 200, 200, 200, 10**30], "up to 9223372036854775807"),
        (("request", "source"), {}, "request.source must have the key 'kind'"),
        (("request", "test_fraction"), math.nan, "test_fraction is nan, must be a number"),
        (("request", "shards"), {"train": 5}, r"request\.shards"),
        (("request", "drop"), {"blank": [1]}, r"request\.drop\.blank is \[1\], must be a list"),
    ],
)
def test_an_edit_is_told_with_its_place(tmp_path, fields, path, value, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, changed(fields, *path, value=value))


def test_the_manifest_of_the_fixture_itself_is_read(tmp_path, fields):
    assert read(tmp_path, fields).request == fields["request"]


def test_a_key_that_is_there_twice_is_refused(tmp_path):
    body = b'"format": 1, "format": 2}'
    path = tmp_path / manifests.FILE_NAME
    path.write_bytes(b'{"crc32c": "%08x",\n' % crc32c(body) + body)
    with pytest.raises(DataError, match="a key is there twice"):
        manifests.read_manifest(tmp_path)


@settings(deadline=None)
@given(
    side=st.integers(1, 300),
    max_label=st.integers(0, 2**21),
    max_source_row=st.integers(0, 2**63 - 1),
)
def test_the_layout_is_that_of_protobuf(side: int, max_label: int, max_source_row: int):
    found = make_layout(side, varint_width(max_label), varint_width(max_source_row))
    expected = RecordLayout.create(side=side, max_label=max_label, max_source_row=max_source_row)
    assert found == expected
