"""Optimizers and schedules are Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.training.test_steps import make_config
from trainer.config import OPTIMIZERS
from trainer.training import optimizers


def _step(optimizer: keras.optimizers.Optimizer) -> np.ndarray:
    variable = keras.Variable(np.ones([4, 4], np.float32), name="kernel")
    optimizer.build([variable])
    optimizer.apply([tf.ones([4, 4])], [variable])
    return variable.numpy()


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_takes_steps(name):
    config = make_config(optimizer=name, learning_rate=0.01, weight_decay=0.1, ema=0.9)
    weights = _step(optimizers.create(config, 10))
    assert np.isfinite(weights).all()
    assert (weights != 1).all()


def test_the_list_of_optimizers_is_that_of_keras():
    found = {
        name.lower()
        for name, value in vars(keras.optimizers).items()
        if isinstance(value, type) and issubclass(value, keras.optimizers.Optimizer)
    }
    wrappers = {"optimizer", "lossscaleoptimizer", "multioptimizer"}
    left_out = {"schedulefreeadamw", "adafactor"}
    assert found - wrappers - left_out == {*OPTIMIZERS}


@pytest.mark.parametrize(
    ("given", "expected"), [(None, 0.004), (0.0, 0.0), (0.1, 0.1)], ids=["own", "none", "given"]
)
def test_weight_decay_is_what_is_given(given, expected):
    config = make_config(optimizer="adamw", learning_rate=1.0, weight_decay=given)
    plain = _step(keras.optimizers.Adam(1.0))
    np.testing.assert_allclose(_step(optimizers.create(config, 10)), plain - expected, atol=1e-4)


def test_variables_have_the_same_names_in_every_optimizer():
    names = []
    for _ in range(2):
        optimizer = optimizers.create(make_config(), 10)
        optimizer.build([keras.Variable(1.0, name="x")])
        names.append([variable.path for variable in optimizer.variables])
    assert names[0] == names[1]


@pytest.mark.parametrize("schedule", ["plateau", "constant"])
def test_a_rate_that_the_loop_sets_can_be_set(schedule):
    optimizer = optimizers.create(make_config(schedule=schedule, learning_rate=0.5), 10)
    assert float(optimizer.learning_rate) == 0.5
    optimizer.learning_rate = 0.25
    assert float(optimizer.learning_rate) == 0.25


def test_cosine_falls_from_the_rate_to_zero():
    config = make_config(schedule="cosine", epochs=4, learning_rate=0.5)
    schedule = optimizers.create(config, steps_per_epoch=10)._learning_rate
    expected = [0.25 * (1 + np.cos(np.pi * step / 40)) for step in range(41)]
    np.testing.assert_allclose([schedule(step) for step in range(41)], expected, atol=1e-6)


def test_warmup_rises_to_the_rate_first():
    config = make_config(schedule="warmup_cosine", epochs=4, warmup_epochs=1.5, learning_rate=0.5)
    schedule = optimizers.create(config, steps_per_epoch=10)._learning_rate
    rising = [schedule(step) for step in range(16)]
    np.testing.assert_allclose(rising, np.linspace(0, 0.5, 16), atol=1e-6)
    falling = [0.25 * (1 + np.cos(np.pi * step / 25)) for step in range(26)]
    np.testing.assert_allclose([schedule(15 + step) for step in range(26)], falling, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "keras_class"), [("adam", keras.optimizers.Adam), ("adamw", keras.optimizers.AdamW)]
)
def test_the_fused_adam_step_is_that_of_keras(name, keras_class):
    generator = np.random.default_rng(0)
    initial = generator.normal(size=[50]).astype(np.float32)
    gradients = generator.normal(size=[20, 50]).astype(np.float32)
    config = make_config(optimizer=name, learning_rate=0.01, weight_decay=0.1)

    def train(optimizer: keras.optimizers.Optimizer) -> np.ndarray:
        variable = keras.Variable(initial, name="kernel")
        optimizer.build([variable])
        for gradient in gradients:
            optimizer.apply([tf.constant(gradient)], [variable])
        return variable.numpy()

    expected = train(keras_class(learning_rate=0.01, weight_decay=0.1))
    np.testing.assert_allclose(train(optimizers.create(config, 10)), expected, atol=1e-6)
