"""Drawings in the order on disk, and by their places in it."""

import dataclasses
import shutil

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.reading import drawings
from quickdraw_tfrecords.reading.dataset import DatasetInfo


@pytest.fixture(scope="module")
def info(data_dir) -> DatasetInfo:
    return qt.open_dataset(data_dir)


@pytest.fixture(scope="module")
def expected(info) -> drawings.Drawings:
    """The test split as TFDS reads it."""
    builder = tfds.builder_from_directory(info.directory)
    in_order = tfds.ReadConfig(interleave_cycle_length=1)
    examples = list(builder.as_dataset("test", read_config=in_order).as_numpy_iterator())
    columns = ([e[name] for e in examples] for name in ("image", "label", "source_row"))
    images, labels, rows = map(np.array, columns)
    return drawings.Drawings(images[..., 0], labels, rows)


def test_all_drawings_are_those_of_tfds(info, expected):
    found = list(drawings.read_all(info, "test"))
    for index, column in enumerate(expected):
        np.testing.assert_array_equal(np.concatenate([part[index] for part in found]), column)


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(st.integers(0, 199), max_size=30))
def test_places_may_come_in_any_order_and_more_than_once(info, expected, places):
    found = drawings.read_at(info, "test", np.array(places, int))
    np.testing.assert_array_equal(found, expected.images[places])


def test_another_tools_data_set_knows_no_rows(info, expected):
    foreign = dataclasses.replace(info, manifest=None)
    parts = list(drawings.read_all(foreign, "test"))
    np.testing.assert_array_equal(np.concatenate([p.labels for p in parts]), expected.labels)
    assert {row for part in parts for row in part.source_rows} == {-1}
    places = np.array([130, 2, 2, 63, 64])
    np.testing.assert_array_equal(
        drawings.read_at(foreign, "test", places), expected.images[places]
    )


def test_damage_is_one_line_that_names_the_shard(info, tmp_path):
    copy = qt.open_dataset(shutil.copytree(info.directory, tmp_path / "copy"))
    shard = copy.directory / copy.manifest.splits["test"][0].name
    content = bytearray(shard.read_bytes())
    content[500] ^= 1
    shard.write_bytes(content)
    with pytest.raises(DataError, match=shard.name):
        list(drawings.read_all(copy, "test"))
    with pytest.raises(DataError, match=f"{shard.name}: its bytes differ"):
        drawings.read_at(copy, "test", np.array([0]))
    foreign = dataclasses.replace(copy, manifest=None)
    with pytest.raises(DataError, match=f"{shard.name}: the record at byte .* is damaged"):
        list(drawings.read_all(foreign, "test"))


def test_a_missing_shard_is_named(info, tmp_path):
    copy = qt.open_dataset(shutil.copytree(info.directory, tmp_path / "copy"))
    shard = copy.directory / copy.manifest.splits["test"][1].name
    shard.unlink()
    with pytest.raises(DataError, match=f"{shard.name}: missing"):
        drawings.read_at(copy, "test", np.array([199]))
