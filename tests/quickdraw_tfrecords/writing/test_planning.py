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
    labels = np.repeat(np.arange(345), takes)
    shares = planning.split_counts(names, takes, test_fraction=0.2, validation_fraction=0.1)
    members = planning.split(names, shares, seed=0)
    for name, per_class, total in (
        ("train", 4644, 1_602_180),
        ("validation", 516, 178_020),
        ("test", 1290, 445_050),
    ):
        assert len(members[name]) == total
        np.testing.assert_array_equal(np.bincount(labels[members[name]]), [per_class] * 345)
    everything = np.concatenate(list(members.values()))
    np.testing.assert_array_equal(np.sort(everything), np.arange(len(labels)))


@settings(deadline=None, max_examples=300)
@given(
    takes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    test_fraction=FRACTIONS,
    validation_fraction=FRACTIONS,
    seed=st.integers(0, 2**32 - 1),
)
def test_every_split_has_every_class_or_the_request_is_refused(
    takes, test_fraction, validation_fraction, seed
):
    names = [f"class {label}" for label in range(len(takes))]
    labels = np.repeat(np.arange(len(takes), dtype=np.int32), takes)
    try:
        shares = planning.split_counts(
            names, takes, test_fraction=test_fraction, validation_fraction=validation_fraction
        )
    except UsageError:
        return
    members = planning.split(names, shares, seed=seed)
    for name, indices in members.items():
        counts = np.bincount(labels[indices], minlength=len(takes))
        assert counts.tolist() == shares[name]
        assert counts.min() >= 1
    assert (abs(np.array(shares["test"]) - np.array(takes) * test_fraction) <= 0.5).all()
    everything = np.concatenate(list(members.values()))
    np.testing.assert_array_equal(np.sort(everything), np.arange(len(labels)))


def test_the_split_of_a_class_depends_on_its_name_alone():
    names, takes = ["cat", "dog", "zigzag"], [50, 80, 30]
    shares = planning.split_counts(names, takes, test_fraction=0.2, validation_fraction=0.1)
    alone = planning.split_counts(["dog"], [80], test_fraction=0.2, validation_fraction=0.1)
    among, own = planning.split(names, shares, seed=4), planning.split(["dog"], alone, seed=4)
    for name in planning.SPLITS:
        dogs = among[name][(among[name] >= 50) & (among[name] < 130)]
        np.testing.assert_array_equal(dogs - 50, own[name])


def test_a_class_too_small_for_a_split_is_named():
    with pytest.raises(UsageError, match=r"validation split .* 'zigzag', of which there are 5"):
        planning.split_counts(
            ["cat", "zigzag"], [200, 5], test_fraction=0.2, validation_fraction=0.1
        )


@settings(deadline=None, max_examples=200)
@given(
    counts=st.lists(st.integers(0, 40), min_size=1, max_size=6).filter(any),
    data=st.data(),
    seed=st.integers(0, 2**32 - 1),
)
def test_every_shard_is_a_fair_sample(counts, data, seed):
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    rows = np.arange(len(labels), dtype=np.int64)
    count = data.draw(st.integers(1, len(labels)))
    plans = list(planning.plan_shards("train", labels, rows, rows, count=count, seed=seed))
    assert [(plan.split, plan.index, plan.count) for plan in plans] == [
        ("train", index, count) for index in range(count)
    ]
    for plan in plans:
        np.testing.assert_array_equal(plan.labels, labels[plan.rows])  # rows are unique here
        per_class = np.bincount(plan.labels, minlength=len(counts))
        assert (abs(per_class - np.array(counts) / count) < 1).all()
        assert abs(len(plan.rows) - len(labels) / count) < 1
    np.testing.assert_array_equal(np.sort(np.concatenate([plan.rows for plan in plans])), rows)


def test_the_order_of_a_shard_is_shuffled_and_follows_the_seed():
    labels, rows = np.repeat(np.arange(5, dtype=np.int32), 100), np.arange(500)
    first, again, other = (
        next(planning.plan_shards("train", labels, rows, rows, count=2, seed=seed))
        for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first.rows, again.rows)
    assert not np.array_equal(first.rows, other.rows)
    assert set(first.labels[:50]) == set(range(5))
    assert np.count_nonzero(np.diff(first.rows) < 0) > 50


def test_the_splits_are_dealt_independently():
    labels, rows = np.zeros(100, np.int32), np.arange(100)
    train, test = (
        next(planning.plan_shards(name, labels, rows, rows, count=1, seed=0))
        for name in ("train", "test")
    )
    assert not np.array_equal(train.rows, test.rows)


@settings(deadline=None, max_examples=100)
@given(
    counts=st.dictionaries(st.text(min_size=1, max_size=5), st.integers(1, 300), min_size=1),
    per_class=st.integers(1, 300),
    seed=st.integers(0, 2**32 - 1),
)
def test_what_is_taken_of_a_class_depends_on_its_name_alone(counts, per_class, seed):
    takes = planning.how_many(
        list(counts), list(counts.values()), per_class=per_class, allow_fewer=True
    )
    labels, rows = planning.take(list(counts), list(counts.values()), takes, seed=seed)
    np.testing.assert_array_equal(np.bincount(labels), takes)
    for label, (name, count) in enumerate(counts.items()):
        own = rows[labels == label]
        assert (np.diff(own) > 0).all()
        assert own[0] >= 0
        assert own[-1] < count
        _, alone = planning.take([name], [count], [takes[label]], seed=seed)
        np.testing.assert_array_equal(own, alone)


def test_other_names_and_seeds_take_other_drawings():
    def rows(name: str, seed: int) -> list[int]:
        return planning.take([name], [1000], [100], seed=seed)[1].tolist()

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
