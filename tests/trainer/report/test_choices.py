"""Which drawings, pairs and groups of classes the report shows."""

import base64
import io

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as stnp
from PIL import Image

from tests.trainer.results.test_metrics import make_predictions, random_case
from trainer.report import confusions, examples
from trainer.report.examples import Example

confusion_matrices = st.integers(2, 12).flatmap(
    lambda n: stnp.arrays(np.int64, (n, n), elements=st.integers(0, 9))
)


@given(confusion_matrices, st.integers(0, 9))
def test_pairs_are_those_with_most_mistakes(confusion, limit):
    pairs = confusions.most_confused_pairs(confusion, limit)
    mistakes = [pair.forward + pair.backward for pair in pairs]
    n = len(confusion)
    every = [confusion[a, b] + confusion[b, a] for a in range(n) for b in range(a)]
    assert mistakes == sorted((count for count in every if count), reverse=True)[:limit]
    assert len({frozenset((pair.first, pair.second)) for pair in pairs}) == len(pairs)
    for pair in pairs:
        assert pair.forward == confusion[pair.first, pair.second] >= pair.backward
        assert pair.backward == confusion[pair.second, pair.first]


@settings(deadline=None)
@given(confusion_matrices)
def test_the_order_has_every_class_once(confusion):
    assert sorted(confusions.order_by_confusion(confusion)) == list(range(len(confusion)))


def test_classes_taken_for_each_other_stand_together():
    confusion = np.eye(6, dtype=np.int64) * 50
    for a, b in ((0, 3), (1, 4), (2, 5)):
        confusion[a, b] = confusion[b, a] = 10
    order = confusions.order_by_confusion(confusion)
    assert {frozenset(order[i : i + 2].tolist()) for i in (0, 2, 4)} == {
        frozenset(pair) for pair in ((0, 3), (1, 4), (2, 5))
    }
    blocks = confusions.most_confused_blocks(confusion, limit=2, size=2)
    assert len(blocks) == 2
    for block in blocks:
        assert block.max() - block.min() == 3


@settings(deadline=None)
@given(confusion_matrices, st.integers(1, 5), st.integers(1, 5))
def test_blocks_are_disjoint_and_of_mistakes(confusion, limit, size):
    blocks = confusions.most_confused_blocks(confusion, limit=limit, size=size)
    labels = [label for block in blocks for label in block]
    assert len(labels) == len(set(labels))
    assert len(blocks) <= limit
    for block in blocks:
        cells = confusion[np.ix_(block, block)]
        assert len(block) <= size
        assert cells.sum() > np.trace(cells)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 99), st.sampled_from([2, 5]), st.integers(1, 60), st.integers(0, 9))
def test_drawings_are_what_they_are_chosen_for(seed, num_classes, count, limit):
    found = make_predictions(*random_case(seed, num_classes, count))
    random = examples.at_random(found, limit)
    assert len(set(random.tolist())) == len(random) == min(limit, count)
    np.testing.assert_array_equal(random, examples.at_random(found, limit))
    mistakes = examples.confident_mistakes(found, limit)
    assert not found.is_right[mistakes].any()
    sure = found.probabilities[mistakes, 0]
    rest = np.setdiff1d(np.flatnonzero(~found.is_right), mistakes)
    assert (np.diff(sure) <= 0).all()
    assert len(mistakes) == limit or not len(rest)
    if len(rest) and limit:
        assert found.probabilities[rest, 0].max() <= sure.min()
    taken = examples.taken_for(found, 0, 1, limit)
    assert (found.labels[taken] == 0).all()
    assert (found.classes[taken, 0] == 1).all()


def test_a_picture_is_the_drawing_dark_on_light():
    image = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    example = Example("cat", 3, (), image)
    kind, _, data = example.src.partition(",")
    assert kind == "data:image/png;base64"
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(data))).convert("L"))
    assert np.abs(shown.astype(int) - (255 - image.astype(int))).max() <= 16
