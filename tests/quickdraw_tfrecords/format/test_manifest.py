"""Tests of quickdraw_tfrecords.format.manifest."""

import itertools
from pathlib import Path

import pytest
import tensorflow_datasets as tfds
from hypothesis import example, given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.format import manifest as manifests
from quickdraw_tfrecords.format import tfds_metadata
from quickdraw_tfrecords.format.manifest import FILE_NAME, Manifest
from quickdraw_tfrecords.format.records import RecordLayout
from quickdraw_tfrecords.format.shards import ShardInfo


def make_manifest(kind: str = "synthetic") -> Manifest:
    request = {
        "source": {"kind": kind, "seed": 7},
        "class_names": ["cat", "The Mona Lisa", "naïve"],
        "drawings": [5, 6, 4],
        "test_fraction": 0.1 + 0.2,
        "validation_fraction": 0,
        "shards": {"train": 2, "validation": 0, "test": 1},
        "seed": 3,
    }
    layout = RecordLayout.create(side=28, max_label=2, max_source_row=1000)
    splits = {
        "train": tuple(
            ShardInfo(
                f"quickdraw-train.tfrecord-0000{index}-of-00002", 5, 4300, (7, index), (2, 2, 1)
            )
            for index in range(2)
        ),
        "test": (ShardInfo("quickdraw-test.tfrecord-00000-of-00001", 5, 4300, (8, 9), (1, 2, 2)),),
    }
    return Manifest(request, layout, splits)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    manifests.write_manifest(path, make_manifest())
    return path


@pytest.fixture(scope="module")
def content(directory: Path) -> bytes:
    return (directory / FILE_NAME).read_bytes()


def assert_damaged(directory: Path, content: bytes) -> None:
    path = directory / FILE_NAME
    path.unlink()  # a file system may wait for the disk when a file is cut to nothing
    path.write_bytes(content)
    with pytest.raises(DataError, match=f"{path}: damaged.*restore"):
        manifests.read_manifest(directory)


def test_a_manifest_reads_back(directory, content):
    (directory / FILE_NAME).write_bytes(content)
    assert manifests.read_manifest(directory) == make_manifest()
    assert manifests.read_manifest(directory).class_names == ("cat", "The Mona Lisa", "naïve")


def test_a_manifest_without_shards_reads_back(tmp_path):
    manifest = Manifest(make_manifest().request, make_manifest().layout, splits={})
    manifests.write_manifest(tmp_path, manifest)
    assert manifests.read_manifest(tmp_path, finished=False) == manifest
    with pytest.raises(DataError, match="was not finished"):
        manifests.read_manifest(tmp_path)


def test_the_same_manifest_gives_the_same_bytes(tmp_path, content):
    manifests.write_manifest(tmp_path, make_manifest())
    assert (tmp_path / FILE_NAME).read_bytes() == content


def test_every_single_byte_that_changes_is_noticed(directory, content):
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << place % 8
        assert_damaged(directory, bytes(changed))


@settings(deadline=None)
@given(data=st.data())
def test_any_change_of_a_byte_is_noticed(directory, content, data):
    changed = bytearray(content)
    changed[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    assert_damaged(directory, bytes(changed))


@settings(deadline=None)
@given(data=st.data())
def test_a_cut_is_noticed_wherever_it_is(directory, content, data):
    assert_damaged(directory, content[: data.draw(st.integers(0, len(content) - 1))])


@settings(deadline=None)
@given(tail=st.binary(min_size=1, max_size=50))
@example(tail=b"\n")
@example(tail=b"\0")
def test_whatever_is_appended_is_noticed(directory, content, tail):
    assert_damaged(directory, content + tail)


def test_a_missing_manifest_says_how_to_make_one(tmp_path):
    with pytest.raises(
        DataError, match=f"{tmp_path}: has no manifest.json.*make one with `quickdraw convert`"
    ):
        manifests.read_manifest(tmp_path)


def test_another_format_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(manifests, "_FORMAT", "quickdraw-tfrecords 9")
    manifests.write_manifest(tmp_path, make_manifest())
    monkeypatch.undo()
    with pytest.raises(DataError, match="format is 'quickdraw-tfrecords 9', this version reads"):
        manifests.read_manifest(tmp_path)


@pytest.mark.parametrize("kind", ["synthetic", "numpy_bitmap"])
def test_tfds_understands_the_metadata(tmp_path, kind):
    manifest = make_manifest(kind)
    for shard in itertools.chain.from_iterable(manifest.splits.values()):
        (tmp_path / shard.name).touch()
    tfds_metadata.write(tmp_path, manifest)
    info = tfds.builder_from_directory(tmp_path).info
    assert info.name == "quickdraw"
    assert info.features["label"].names == ["cat", "The Mona Lisa", "naïve"]
    assert info.features["image"].shape == (28, 28, 1)
    assert info.supervised_keys == ("image", "label")
    assert {name: split.num_examples for name, split in info.splits.items()} == {
        "train": 10,
        "test": 5,
    }
    assert info.splits["train"].num_bytes == 10 * manifest.layout.example_bytes
    assert ("no drawing of Google's" in info.description) == (kind == "synthetic")
