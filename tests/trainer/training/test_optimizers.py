"""Optimizers and schedules are Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tests.trainer.training.test_steps import make_config
from trainer.config import OPTIMIZERS
from trainer.training import optimizers
from trainer.training.muon import Muon


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


def test_one_cycle_rises_to_the_rate_and_falls_to_zero():
    config = make_config(schedule="one_cycle", epochs=4, warmup_epochs=1.5, learning_rate=0.5)
    rates = [float(optimizers.create(config, 10)._learning_rate(step)) for step in range(42)]
    rising, falling = np.linspace(0, 0.5, 17)[1:], np.linspace(0.5, 0, 26)
    np.testing.assert_allclose(rates[:16], rising, atol=1e-6)
    np.testing.assert_allclose(rates[15:41], falling, atol=1e-6)
    assert rates[41] == 0


def test_one_cycle_without_warmup_only_falls():
    config = make_config(schedule="one_cycle", epochs=1, warmup_epochs=0.0, learning_rate=1.0)
    rates = [float(optimizers.create(config, 4)._learning_rate(step)) for step in range(5)]
    np.testing.assert_allclose(rates, [1, 0.75, 0.5, 0.25, 0])


@pytest.mark.parametrize("name", ["adamw", "muon", "sgd", "lamb"])
def test_biases_and_normalization_do_not_decay(name):
    """With no gradient only decay changes a weight."""
    config = make_config(optimizer=name, learning_rate=0.1, weight_decay=0.5)
    layers = [
        keras.layers.Conv2D(3, 3, name="conv"),
        keras.layers.BatchNormalization(name="norm"),
        keras.layers.Dense(4, name="hidden"),
        keras.layers.Dense(2, name="logits"),
    ]
    model = keras.Sequential([keras.Input([8, 8, 1]), *layers])
    optimizer, weights = optimizers.create(config, 10), model.trainable_variables
    for weight in weights:
        weight.assign(np.ones(weight.shape))
    optimizer.build(weights)
    optimizer.apply([tf.zeros(weight.shape) for weight in weights], weights)
    for weight in weights:
        expected = 0.95 if weight.name == "kernel" else 1.0
        np.testing.assert_allclose(weight, np.full(weight.shape, expected), err_msg=weight.path)


# --- Muon ----------------------------------------------------------------------------------------


def _muon_steps(shape: tuple[int, ...], name: str, kind: type, **arguments: object) -> np.ndarray:
    """A weight after three steps along the same gradients, whatever its shape."""
    generator, size = np.random.default_rng(0), int(np.prod(shape))
    initial, *gradients = generator.normal(size=[4, size]).astype(np.float32)
    weight = keras.Variable(initial.reshape(shape), name=name)
    optimizer = kind(learning_rate=0.01, weight_decay=0.1, **arguments)
    optimizer.build([weight])
    for gradient in gradients:
        optimizer.apply([tf.constant(gradient.reshape(shape))], [weight])
    return weight.numpy().ravel()


@pytest.mark.parametrize(
    "shape", [(3, 3, 8, 4), (1, 1, 4, 16), (1, 2, 4, 8)], ids=["tall", "wide", "square"]
)
@pytest.mark.parametrize("rms_rate", [0.2, None])
def test_muon_takes_a_convolution_for_a_matrix(shape, rms_rate):
    matrix = (shape[0] * shape[1] * shape[2], shape[3])
    expected = _muon_steps(matrix, "kernel", keras.optimizers.Muon, rms_rate=rms_rate)
    found = _muon_steps(shape, "kernel", Muon, rms_rate=rms_rate)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("shape", [(6, 5), (7,)], ids=["dense", "bias"])
def test_of_all_else_muon_is_that_of_keras(shape):
    expected = _muon_steps(shape, "kernel", keras.optimizers.Muon)
    np.testing.assert_allclose(_muon_steps(shape, "kernel", Muon), expected, rtol=1e-5)


def test_muon_leaves_a_layer_that_it_is_told_of_to_adamw():
    shape, excluded = (3, 3, 2, 4), {"exclude_layers": ["logits"]}
    expected = _muon_steps(shape, "logits", keras.optimizers.Muon)
    found = _muon_steps(shape, "logits", Muon, **excluded)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    assert not np.allclose(_muon_steps(shape, "kernel", Muon, **excluded), expected, rtol=1e-3)
