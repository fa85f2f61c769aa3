"""A classifier gives what its model does, as probabilities of names; Keras is the oracle."""

import keras
import numpy as np
import pytest

from tests.trained import make_run
from trainer.serving import classifier as classifiers
from trainer.serving.classifier import Classifier


@pytest.fixture(scope="module")
def classifier(tmp_path_factory, data_dir) -> Classifier:
    run = make_run(tmp_path_factory.mktemp("runs") / "one", data_dir)
    return Classifier.of(run)


@pytest.mark.parametrize("count", [0, 1, 1500])
def test_probabilities_are_the_softmax_of_the_logits(classifier, count):
    bitmaps = np.random.default_rng(1).integers(0, 256, (count, 28, 28), np.uint8)
    found = classifier(bitmaps)
    assert found.shape == (count, 5)
    assert found.dtype == np.float32
    if count:
        logits = classifier.model.predict(bitmaps[..., None] / np.float32(255), verbose=0)
        np.testing.assert_allclose(found, keras.ops.softmax(logits), rtol=1e-4)


def test_the_best_come_first_and_are_no_more_than_there_are():
    probabilities = np.array([0.1, 0.3, 0.3, 0.25, 0.05], np.float32)
    best = classifiers.best(probabilities, "abcde", 3)
    assert [name for name, _ in best] == ["b", "c", "d"]
    assert [value for _, value in best] == pytest.approx([0.3, 0.3, 0.25])
    assert len(classifiers.best(probabilities, "abcde", 9)) == 5
