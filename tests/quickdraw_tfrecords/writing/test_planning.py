"""Tests of quickdraw_tfrecords.writing.planning."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.writing import planning

FRACTIONS = st.floats(0.001, 0.999)


def test_the_full_data_set_has_the_sizes_of_the_study():
    names, takes = [f"class {label}" for label in range(345)], [6450] * 345
    shares = planning.split_counts(names, takes, test_fraction=0.2, validation_fraction=0.1)
    assert shares == {"train": [4644] * 345, "validation": [516] * 345, "test": [1290] * 345}


def test_a_class_too_small_for_a_split_is_named():
    with pytest.raises(UsageError, match=r"validation split .* 'zigzag', of which there are 5"):
        planning.split_counts(
            ["cat", "zigzag"], [200, 5], test_fraction=0.2, validation_fraction=0.1
        )


@settings(deadline=None, max_examples=300)
@given(count=st.integers(1, 300), data=st.data(), seed=st.integers(0, 2**32 - 1))
def test_as_many_rows_are_drawn_as_are_wanted_each_once(count, data, seed):
    wanted = data.draw(st.integers(1, count))
    rows = planning.draw("cat", count, wanted, seed=seed)
    assert len(rows) == wanted
    assert (np.diff(rows) > 0).all()
    assert rows[0] >= 0
    assert rows[-1] < count


@pytest.mark.parametrize(("count", "wanted"), [(37, 5), (37, 30), (37, 36), (32, 16), (50, 17)])
def test_every_row_is_as_likely_to_be_drawn(count, wanted):
    times = np.zeros(count)
    for seed in range(3000):
        times[planning.draw("cat", count, wanted, seed=seed)] += 1
    share = wanted / count
    deviations = (times - 3000 * share) / np.sqrt(3000 * share * (1 - share))
    assert abs(deviations).max() < 4.5  # of a normal distribution: once in 4,000 such tests


def test_rows_are_drawn_in_runs_from_all_parts_of_a_file():
    rows = planning.draw("cat", 100_000, 1600, seed=0)
    runs = np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1)
    assert 80 <= len(runs) <= 102
    assert sum(len(run) % 16 > 0 for run in runs) <= 3  # one that was cut short, or at the ends
    per_tenth = np.bincount(rows // 10_000, minlength=10)
    assert per_tenth.min() > 40


def test_other_names_and_seeds_draw_other_drawings():
    def rows(name: str, seed: int) -> list[int]:
        return planning.draw(name, 1000, 100, seed=seed).tolist()

    assert rows("cat", 0) == rows("cat", 0)
    assert rows("cat", 0) != rows("dog", 0)
    assert rows("cat", 0) != rows("cat", 1)


def test_too_few_drawings_are_refused_or_taken():
    arguments = ["cat", "dog"], [100, 7]
    said = "--per_class=50 is more than 1 of 2 classes have; the smallest, 'dog', has 7 drawings"
    with pytest.raises(UsageError, match=said):
        planning.how_many(*arguments, per_class=50, allow_fewer=False)
    assert planning.how_many(*arguments, per_class=50, allow_fewer=True) == [50, 7]


def test_an_empty_class_is_refused():
    with pytest.raises(UsageError, match="'dog' has no drawings"):
        planning.how_many(["cat", "dog"], [100, 0], per_class=50, allow_fewer=True)


SIZES = {"train": 720, "validation": 80, "test": 200}


def test_shards_of_all_splits_are_of_about_one_size():
    assert planning.shard_counts(SIZES, stride=860, shards=6, shard_mib=20) == {
        "train": 6,
        "validation": 1,
        "test": 2,
    }
    assert planning.shard_counts(SIZES, stride=1024, shards=None, shard_mib=0.1) == {
        "train": 8,  # 720 KiB of 102.4 KiB each
        "validation": 1,
        "test": 2,
    }


@settings(deadline=None)
@given(shard_mib=st.floats(1e-9, 1e9), stride=st.integers(20, 20_000))
def test_no_shard_is_planned_empty(shard_mib, stride):
    counts = planning.shard_counts(SIZES, stride=stride, shards=None, shard_mib=shard_mib)
    assert all(1 <= counts[name] <= size for name, size in SIZES.items())


def test_more_shards_than_drawings_are_refused():
    assert planning.shard_counts(SIZES, stride=860, shards=720, shard_mib=20)["train"] == 720
    with pytest.raises(UsageError, match="--shards=721 is more than the 720 training drawings"):
        planning.shard_counts(SIZES, stride=860, shards=721, shard_mib=20)


def test_more_shards_than_a_name_can_count_are_refused():
    sizes = {"train": 1_602_180, "validation": 178_020, "test": 445_050}
    with pytest.raises(UsageError, match="larger --shard_mib"):
        planning.shard_counts(sizes, stride=861, shards=None, shard_mib=0.001)
