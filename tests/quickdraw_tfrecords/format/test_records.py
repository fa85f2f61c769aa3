"""Tests of quickdraw_tfrecords.format.records, with TensorFlow's own readers as the oracle."""

import json

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.format.records import RecordLayout, varint_width

FEATURES = {
    "image": tf.io.FixedLenFeature([], tf.string),
    "label": tf.io.FixedLenFeature([], tf.int64),
    "source_row": tf.io.FixedLenFeature([], tf.int64),
}


@st.composite
def drawings(draw: st.DrawFn) -> tuple[RecordLayout, np.ndarray, np.ndarray, np.ndarray]:
    """A layout, and images, labels and source rows that fit it; the largest ones among them."""
    side = draw(st.integers(1, 40))
    max_label = draw(st.integers(0, 2**31 - 1))
    max_source_row = draw(st.integers(0, 2**63 - 1))
    labels = [0, max_label, *draw(st.lists(st.integers(0, max_label), max_size=5))]
    rows = [draw(st.integers(0, max_source_row)) for _ in labels[1:]] + [max_source_row]
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    images = generator.integers(0, 256, (len(labels), side * side), np.uint8)
    layout = RecordLayout.create(side=side, max_label=max_label, max_source_row=max_source_row)
    return layout, images, np.array(labels, np.int32), np.array(rows, np.int64)


@settings(deadline=None, max_examples=150)
@given(drawings())
def test_views_give_back_what_was_encoded(case):
    layout, images, labels, rows = case
    matrix = layout.encode(images, labels, rows)
    np.testing.assert_array_equal(layout.images(matrix), images)
    np.testing.assert_array_equal(layout.labels(matrix), labels)
    np.testing.assert_array_equal(layout.source_rows(matrix), rows)
    assert np.shares_memory(layout.images(matrix), matrix)
    assert layout.labels(matrix).dtype == np.int32
    assert layout.is_sound(matrix).all()


@settings(deadline=None, max_examples=150)
@given(drawings())
def test_protobuf_parses_every_record(case):
    layout, images, labels, rows = case
    for record, image, label, row in zip(
        layout.encode(*case[1:]), images, labels, rows, strict=True
    ):
        example = tf.train.Example.FromString(record[12:-4].tobytes())
        feature = example.features.feature
        assert set(feature) == set(FEATURES)
        assert feature["image"].bytes_list.value == [image.tobytes()]
        assert feature["label"].int64_list.value == [label]
        assert feature["source_row"].int64_list.value == [row]
        assert len(record) == layout.stride == layout.example_bytes + 16


@settings(deadline=None, max_examples=40)
@given(drawings())
def test_tensorflow_reads_the_file_and_parses_it(tmp_path_factory, case):
    layout, images, labels, rows = case
    path = tmp_path_factory.mktemp("shard") / "shard"
    layout.encode(images, labels, rows).tofile(path)
    dataset = tf.data.TFRecordDataset(str(path)).batch(100)  # checks both CRCs of each record
    parsed = tf.io.parse_example(dataset.get_single_element(), FEATURES)
    assert parsed["image"].numpy().tolist() == [image.tobytes() for image in images]
    np.testing.assert_array_equal(parsed["label"], labels)
    np.testing.assert_array_equal(parsed["source_row"], rows)


@settings(deadline=None, max_examples=200)
@given(data=st.data(), case=drawings())
def test_a_flipped_byte_is_never_sound(data, case):
    layout, *values = case
    matrix = layout.encode(*values)
    record = data.draw(st.integers(0, len(matrix) - 1))
    column = data.draw(st.integers(0, layout.stride - 1))
    matrix[record, column] ^= data.draw(st.integers(1, 255))
    sound = layout.is_sound(matrix)
    assert not sound[record]
    assert np.delete(sound, record).all()


def test_every_byte_of_a_record_is_covered():
    layout = RecordLayout.create(side=4, max_label=344, max_source_row=200_000)
    good = layout.encode(np.arange(16, dtype=np.uint8)[None], np.array([344]), np.array([5]))
    flipped = np.repeat(good, layout.stride, axis=0)
    np.fill_diagonal(flipped, good[0] ^ 1)
    assert not layout.is_sound(flipped).any()


@pytest.mark.parametrize("column", [0, 8, 12, 40, -5, -1])
def test_tensorflow_refuses_a_flipped_byte(tmp_path, column):
    layout = RecordLayout.create(side=28, max_label=4, max_source_row=99)
    matrix = layout.encode(np.zeros((3, 784), np.uint8), np.arange(3), np.arange(3))
    matrix[1, column] ^= 0x10
    matrix.tofile(tmp_path / "shard")
    with pytest.raises(tf.errors.DataLossError):
        list(tf.data.TFRecordDataset(str(tmp_path / "shard")))


@settings(deadline=None, max_examples=50)
@given(drawings())
def test_layout_round_trips_through_json(case):
    layout = case[0]
    assert RecordLayout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@settings(deadline=None)
@given(st.integers(0, 2**63 - 1))
def test_varint_width_is_that_of_protobuf(value):
    feature = tf.train.Int64List(value=[value])
    overhead = 2  # the field's tag and the length of the packed values
    assert varint_width(value) == feature.ByteSize() - overhead


def test_no_drawings_are_no_bytes():
    layout = RecordLayout.create(side=28, max_label=4, max_source_row=99)
    empty = np.empty(0, np.int64)
    matrix = layout.encode(np.empty((0, 784), np.uint8), empty, empty)
    assert matrix.shape == (0, layout.stride)
    assert layout.is_sound(matrix).shape == (0,)
