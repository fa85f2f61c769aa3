"""Evaluation counts every drawing once, and averaged weights stay apart from trained ones."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.training.test_steps import (
    CLASSES,
    make_batches,
    make_config,
    make_model,
    make_steps,
    run,
)
from trainer.training import batches, evaluation
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


@pytest.mark.slow
def test_averaged_weights_are_those_of_keras_and_are_taken_back():
    model, average = make_model(), None
    train_steps = make_steps(model, make_config(optimizer="sgd", learning_rate=0.1, ema=0.5))
    for batch in make_batches(3, 8):
        run(train_steps, [batch])
        weights = model.get_layer("logits").kernel.numpy()
        average = weights if average is None else (average + weights) / 2
    with evaluation.averaged_weights(model, train_steps._optimizer):
        np.testing.assert_allclose(model.get_layer("logits").kernel, average, rtol=1e-5)
        assert not np.array_equal(average, weights)
    np.testing.assert_array_equal(model.get_layer("logits").kernel, weights)


def test_weights_are_taken_back_after_an_error():
    model = make_model()
    train_steps = make_steps(model, make_config(ema=0.5))
    run(train_steps, make_batches(2, 8))
    before = model.get_layer("logits").kernel.numpy()
    with (
        pytest.raises(KeyboardInterrupt),
        evaluation.averaged_weights(model, train_steps._optimizer),
    ):
        raise KeyboardInterrupt
    np.testing.assert_array_equal(model.get_layer("logits").kernel, before)


def test_without_ema_nothing_is_swapped():
    model = make_model()
    train_steps = make_steps(model, make_config())
    before = model.get_layer("logits").kernel.numpy()
    with evaluation.averaged_weights(model, train_steps._optimizer):
        np.testing.assert_array_equal(model.get_layer("logits").kernel, before)
    assert model.output_shape[-1] == CLASSES
