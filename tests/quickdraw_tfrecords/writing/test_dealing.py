"""Tests of quickdraw_tfrecords.writing.dealing."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.writing import planning
from quickdraw_tfrecords.writing.dealing import Deal


def make_deal(counts: list[int], shards: dict[str, int], seed: int = 0) -> Deal:
    names = tuple(f"class {label}" for label in range(len(counts)))
    shares = planning.split_counts(names, counts, test_fraction=0.2, validation_fraction=0.1)
    return Deal(names, shares, shards, seed)


@st.composite
def deals(draw: st.DrawFn) -> Deal:
    """Any deal, also of splits without some classes."""
    num_classes = draw(st.integers(1, 6))
    names = tuple(f"class {label}" for label in range(num_classes))
    per_class = st.lists(st.integers(0, 40), min_size=num_classes, max_size=num_classes)
    drawings = {split: draw(per_class) for split in planning.SPLITS}
    shards = {split: draw(st.integers(1, 9)) for split in planning.SPLITS}
    return Deal(names, drawings, shards, draw(st.integers(0, 2**32 - 1)))


@settings(deadline=None, max_examples=200)
@given(deal=deals())
def test_every_shard_is_a_fair_sample_of_its_split(deal):
    counts = np.stack(
        [
            np.bincount(deal.of_class(label), minlength=deal.num_shards)
            for label in range(len(deal.class_names))
        ]
    )
    splits = [deal.find(shard)[0] for shard in range(deal.num_shards)]
    for split, drawings in deal.drawings.items():
        own = counts[:, [found == split for found in splits]]
        np.testing.assert_array_equal(own.sum(axis=1), drawings)  # exactly its part of each class
        assert own.shape[1] == deal.shards[split]
        assert (abs(own - np.array(drawings)[:, None] / deal.shards[split]) < 1).all()
        assert (abs(own.sum(axis=0) - sum(drawings) / deal.shards[split]) < 1).all()


@settings(deadline=None, max_examples=200)
@given(deal=deals())
def test_what_is_said_of_a_shard_is_what_is_dealt_to_it(deal):
    before = np.zeros(deal.num_shards, int)
    for label in range(len(deal.class_names)):
        np.testing.assert_array_equal(deal.before(label), before)
        before += np.bincount(deal.of_class(label), minlength=deal.num_shards)
    np.testing.assert_array_equal(deal.before(len(deal.class_names)), before)
    for shard in range(deal.num_shards):
        of_shard = [(deal.of_class(label) == shard).sum() for label in range(len(deal.class_names))]
        np.testing.assert_array_equal(deal.class_counts(shard), of_shard)
        np.testing.assert_array_equal(np.sort(deal.order(shard)), np.arange(sum(of_shard)))


def test_shards_are_numbered_through_the_splits_the_small_ones_first():
    deal = make_deal([100, 100], {"train": 3, "validation": 1, "test": 2})
    assert [deal.name(shard) for shard in range(deal.num_shards)] == [
        "quickdraw-validation.tfrecord-00000-of-00001",
        "quickdraw-test.tfrecord-00000-of-00002",
        "quickdraw-test.tfrecord-00001-of-00002",
        "quickdraw-train.tfrecord-00000-of-00003",
        "quickdraw-train.tfrecord-00001-of-00003",
        "quickdraw-train.tfrecord-00002-of-00003",
    ]


def test_the_split_of_a_class_depends_on_its_name_alone():
    shards = {"train": 1, "validation": 1, "test": 1}
    shares = {"train": [36, 57, 21], "validation": [4, 7, 3], "test": [10, 16, 6]}
    among = Deal(("cat", "dog", "zigzag"), shares, shards, seed=4)
    alone = Deal(("dog",), {split: [counts[1]] for split, counts in shares.items()}, shards, seed=4)
    np.testing.assert_array_equal(among.of_class(1), alone.of_class(0))


def test_who_goes_where_is_random_and_follows_the_seed():
    shards = {"train": 2, "validation": 1, "test": 1}
    first, again, other = (make_deal([1000], shards, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first.of_class(0), again.of_class(0))
    assert not np.array_equal(first.of_class(0), other.of_class(0))
    # Neighbors are no more often in the same shard than any two drawings.
    numbers = first.of_class(0)
    chance = sum((np.bincount(numbers) / 1000) ** 2)
    assert abs((numbers[1:] == numbers[:-1]).mean() - chance) < 4 * (chance / 1000) ** 0.5


def test_the_order_of_a_shard_is_shuffled_and_follows_the_seed_and_the_shard():
    shards = {"train": 2, "validation": 1, "test": 1}
    orders = [make_deal([1000], shards, seed).order(shard) for seed in (1, 2) for shard in (2, 3)]
    for index, order in enumerate(orders):
        assert np.count_nonzero(np.diff(order) < 0) > 100
        assert not any(np.array_equal(order, other) for other in orders[:index])


@settings(deadline=None, max_examples=300)
@given(
    takes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    test_fraction=st.floats(0.001, 0.999),
    validation_fraction=st.floats(0.001, 0.999),
)
def test_every_split_has_every_class_or_the_request_is_refused(
    takes, test_fraction, validation_fraction
):
    names = tuple(f"class {label}" for label in range(len(takes)))
    try:
        shares = planning.split_counts(
            names, takes, test_fraction=test_fraction, validation_fraction=validation_fraction
        )
    except UsageError:
        return
    deal = Deal(names, shares, {"train": 1, "validation": 1, "test": 1}, seed=0)
    for label, take in enumerate(takes):
        counts = np.bincount(deal.of_class(label), minlength=3)
        assert counts.min() >= 1
        assert counts.sum() == take
        assert abs(counts[1] - take * test_fraction) <= 0.5
