"""Evaluation counts every drawing once."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.training.test_steps import make_batches, make_model
from trainer.training import batches
from trainer.training.evaluation import Evaluator


@pytest.mark.parametrize("size", [1, 15, 16, 17])
def test_metrics_are_those_of_keras(size):
    ((images, labels),) = make_batches(1, size)
    model = make_model()
    strategy = tf.distribute.get_strategy()
    evaluator = Evaluator(model)
    steps = -(-size // 8)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(8)
    padded = batches.pad(dataset, 8, steps)
    iterator = iter(strategy.experimental_distribute_dataset(padded))
    for _ in range(steps):
        evaluator.run(iterator, tf.constant(1, tf.int64))
    model.compile(
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=["accuracy", keras.metrics.SparseTopKCategoricalAccuracy(3)],
    )
    penalty = sum(model.losses)  # of the regularizer: Keras adds it, the metric here has none
    loss, top1, top3 = model.evaluate(images / np.float32(255), labels, verbose=0)
    means = evaluator.totals.means()
    assert means == pytest.approx({"loss": loss - penalty, "top1": top1, "top3": top3}, rel=1e-4)


def test_a_smaller_side_is_that_of_smaller_drawings():
    ((images, labels),) = make_batches(1, 8)
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Conv2D(4, 3), keras.layers.GlobalMaxPooling2D(), keras.layers.Dense(5)]
    model = keras.Sequential([keras.Input([28, 28, 1]), *layers])
    evaluator = Evaluator(model, sides=(16, 28))
    small = tf.image.resize(images / np.float32(255), [16, 16], antialias=True)
    for side, inputs in ((16, small), (28, images / np.float32(255)), (None, images / 255.0)):
        evaluator.totals.reset()
        dataset = tf.data.Dataset.from_tensors((images, labels))
        evaluator.run(iter(dataset), tf.constant(1, tf.int64), side)
        logits = keras.Sequential(layers)(inputs)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(labels, logits)
        assert evaluator.totals.means()["loss"] == pytest.approx(float(loss), rel=1e-4)
