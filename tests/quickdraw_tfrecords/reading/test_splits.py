"""Slices of splits, with TFDS' own as the oracle."""

import numpy as np
import pytest
import tensorflow_datasets as tfds
from hypothesis import assume, given
from hypothesis import strategies as st

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.reading.splits import parse_split

TOTALS = st.integers(1, 10**6)


def of_tfds(split: str, total: int) -> tuple[int, int]:
    template = tfds.core.ShardedFileTemplate("/nowhere", dataset_name="x", filetype_suffix="y")
    info = tfds.core.SplitInfo(
        name="train", shard_lengths=[total], num_bytes=0, filename_template=template
    )
    (found,) = tfds.core.ReadInstruction.from_spec(split).to_absolute({"train": info})
    return found.from_ or 0, total if found.to is None else found.to


@given(TOTALS, st.data())
def test_slices_in_drawings_are_those_of_tfds(total, data):
    boundaries = st.none() | st.integers(-total, total)
    start, stop = data.draw(boundaries), data.draw(boundaries)
    assume((start, stop) != (None, None))  # `train[:]` is no slice of TFDS'
    check(f"train[{'' if start is None else start}:{'' if stop is None else stop}]", total)


@given(TOTALS, st.integers(-99, 100), st.integers(-99, 100))
def test_slices_in_percent_are_those_of_tfds(total, start, stop):
    # TFDS takes -1 % of few drawings for 0, which is the beginning.
    assume(all(percent >= 0 or round(percent * total / 100) for percent in (start, stop)))
    check(f"train[{start}%:{stop}%]", total)


def check(split: str, total: int) -> None:
    start, stop = of_tfds(split, total)
    if start < stop:
        found = parse_split(split, {"train": total})
        assert (found.name, found.start, found.stop) == ("train", start, stop)
        assert len(found) == stop - start
    else:
        with pytest.raises(UsageError, match="must be a slice with drawings in it"):
            parse_split(split, {"train": total})


@pytest.mark.parametrize(
    "split", ["dev", "train[", "train[5]", "train[1:2:3]", "train+test", "train[:1.5%]", ""]
)
def test_what_is_no_slice_is_refused(split):
    with pytest.raises(UsageError, match="must be one of those there are"):
        parse_split(split, {"train": 10, "test": 5})


@pytest.mark.parametrize("split", ["train[5:5]", "train[7:3]", "train[:11]", "train[-11:]"])
def test_a_slice_without_drawings_is_refused(split):
    with pytest.raises(UsageError, match="train has 10"):
        parse_split(split, {"train": 10})


def test_a_slice_is_a_fair_sample(data_dir):
    """144 of 720 drawings of 5 classes: each class has its share, to within one per shard."""
    labels = qt.arrays(data_dir, "train[20%:40%]")[1]
    assert len(labels) == qt.open_dataset(data_dir).count("train[20%:40%]") == 144
    assert np.ptp(np.bincount(labels)) <= 12


@pytest.mark.parametrize("cache", ["memory", "none"])
def test_slices_make_up_the_split(data_dir, cache):
    parts = ["train[:10%]", "train[10%:500]", "train[500:]"]
    found = [
        np.concatenate([images for images, _ in qt.batches(data_dir, part, 50, cache=cache)])
        for part in parts
    ]
    assert [len(images) for images in found] == [72, 428, 220]
    np.testing.assert_array_equal(np.concatenate(found), qt.arrays(data_dir, "train")[0])
