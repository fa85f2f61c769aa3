"""Averaged weights are those of TensorFlow, and stay apart from the trained ones."""

import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.training.test_steps import make_batches, make_config, make_model, make_steps, run
from trainer.training.averaging import WeightAverage


@pytest.mark.parametrize("jit_compile", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("momentum", [0.3, 0.9])
def test_averages_are_those_of_tensorflow(momentum, jit_compile):
    """Of weights and statistics alike; 0.9 is not reached in a few steps, 0.3 is."""
    model = make_model()
    config = make_config(optimizer="sgd", learning_rate=0.1, ema=momentum)
    train_steps = make_steps(model, config, jit_compile=jit_compile)
    copies = [tf.Variable(variable.numpy()) for variable in model.weights]
    oracle = tf.train.ExponentialMovingAverage(momentum, num_updates=tf.Variable(0.0))
    for step, batch in enumerate(make_batches(4, 8), start=1):
        oracle.apply(copies)  # the first takes the initial weights, as ours does
        run(train_steps, [batch])
        for copy, variable in zip(copies, model.weights, strict=True):
            copy.assign(variable.numpy())
        oracle._num_updates.assign(float(step))
    oracle.apply(copies)
    with train_steps.average.in_model():
        for copy, variable in zip(copies, model.weights, strict=True):
            expected = oracle.average(copy)
            np.testing.assert_allclose(variable, expected, rtol=1e-4, atol=1e-6)
    assert any("moving_variance" in each.name for each in train_steps.average.variables)


def test_a_constant_model_is_its_own_average():
    """From the first step on, so no early epoch is spoiled."""
    model = make_model()
    average = WeightAverage(model, 0.999)
    values = [np.full(variable.shape, 3.0, np.float32) for variable in model.weights]
    for variable, value in zip(model.weights, values, strict=True):
        variable.assign(value)
    for step in range(1, 60):
        average.update(tf.constant(step, tf.int64))
    with average.in_model():
        for variable, value in zip(model.weights, values, strict=True):
            np.testing.assert_allclose(variable, value, rtol=1e-3)


def test_weights_are_taken_back_after_an_error():
    model = make_model()
    train_steps = make_steps(model, make_config(ema=0.5))
    run(train_steps, make_batches(2, 8))
    before = [variable.numpy() for variable in model.variables]
    with train_steps.average.in_model():
        assert not np.array_equal(model.get_layer("logits").kernel, before[-2])
    with pytest.raises(KeyboardInterrupt), train_steps.average.in_model():
        raise KeyboardInterrupt
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(variable, value)


def test_without_ema_there_is_no_average():
    assert make_steps(make_model(), make_config()).average is None
