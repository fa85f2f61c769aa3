"""One step of training, against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import top_k_accuracy_score

from trainer import models
from trainer.config import Config
from trainer.losses import cross_entropy
from trainer.training import optimizers
from trainer.training.precision import LossScale
from trainer.training.steps import TrainSteps
from trainer.training.totals import Totals

CLASSES = 5


def make_config(**values: object) -> Config:
    """The defaults, but for `values`."""
    return Config(**{"data_dir": "data", "run_dir": "run", **values})


def make_batches(count: int, size: int, seed: int = 0) -> list[tuple[np.ndarray, np.ndarray]]:
    generator = np.random.default_rng(seed)
    return [
        (
            generator.integers(0, 256, [size, 28, 28, 1], np.uint8),
            generator.integers(0, CLASSES, size, np.int32),
        )
        for _ in range(count)
    ]


def make_model(seed: int = 0, **kwargs: object) -> keras.Model:
    """compact_cnn, with a regulariser and without dropout."""
    keras.utils.set_random_seed(seed)
    model = models.get("compact_cnn")(side=28, num_classes=CLASSES, dropout=0.0)
    model.get_layer("hidden").kernel_regularizer = keras.regularizers.L2(1e-3)
    return model


def make_smooth_model() -> keras.Model:
    """Convolution, batch norm and a regulariser, without ReLU.

    Rounding that takes a ReLU across 0 changes a step by far more than rounding does, and how
    a convolution is rounded depends on the processor.
    """
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input([28, 28, 1]),
            keras.layers.Conv2D(16, 3, 2, use_bias=False, name="conv"),
            keras.layers.BatchNormalization(momentum=0.9, name="norm"),
            keras.layers.Activation("tanh", name="tanh"),
            keras.layers.Flatten(name="flatten"),
            keras.layers.Dense(
                CLASSES,
                kernel_regularizer=keras.regularizers.L2(1e-3),
                dtype="float32",
                name="out",
            ),
        ],
        name="smooth",
    )


def make_steps(
    model: keras.Model, config: Config, policy: str = "float32", *, jit_compile: bool = False
) -> TrainSteps:
    """The steps of a config; every second class may be flipped."""
    optimizer = optimizers.create(config, steps_per_epoch=10)
    optimizer.build(model.trainable_variables)
    flip_allowed = tf.constant(np.arange(CLASSES) % 2 == 0)
    return TrainSteps(
        model,
        optimizer,
        LossScale(policy),
        config,
        flip_allowed=flip_allowed,
        jit_compile=jit_compile,
    )


def run(train_steps: TrainSteps, batches: list) -> None:
    strategy = tf.distribute.get_strategy()

    def generate():
        yield from batches

    spec = (tf.TensorSpec([None, 28, 28, 1], tf.uint8), tf.TensorSpec([None], tf.int32))
    dataset = tf.data.Dataset.from_generator(generate, output_signature=spec)
    train_steps.run(
        iter(strategy.experimental_distribute_dataset(dataset)),
        tf.constant(len(batches), tf.int64),
    )


@pytest.mark.parametrize(
    "values",
    [
        {"optimizer": "adamw", "weight_decay": 0.01, "label_smoothing": 0.1},
        pytest.param({"optimizer": "adam"}, marks=pytest.mark.slow),
        pytest.param({"optimizer": "sgd", "learning_rate": 0.1}, marks=pytest.mark.slow),
    ],
)
def test_steps_are_those_of_train_on_batch(values):
    config = make_config(**values)
    ours, theirs = make_smooth_model(), make_smooth_model()
    train_steps = make_steps(ours, config)
    batches = make_batches(4, 16)
    run(train_steps, batches)

    optimizer = optimizers.create(config, steps_per_epoch=10)
    loss = keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=config.label_smoothing
    )
    theirs.compile(optimizer, loss)
    for images, labels in batches:
        theirs.train_on_batch(images / np.float32(255), keras.ops.one_hot(labels, CLASSES))

    for variable, expected in zip(ours.variables, theirs.variables, strict=True):
        np.testing.assert_allclose(variable, expected, rtol=1e-3, atol=2e-5, err_msg=variable.path)


@pytest.mark.slow
def test_the_number_of_steps_in_a_call_changes_nothing_and_compiles_nothing():
    batches = make_batches(6, 8)
    results = []
    for sizes in ([6], [1, 2, 3]):
        model = make_model()
        train_steps = make_steps(model, make_config())
        for size in sizes:
            start = sum(sizes[: sizes.index(size)])
            run(train_steps, batches[start : start + size])
        assert train_steps.run.experimental_get_tracing_count() == 1
        assert int(train_steps.step) == 6
        results.append([variable.numpy() for variable in model.variables])
    for one, other in zip(*results, strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_gradient_norm_is_that_of_the_mean_loss():
    config, (batch,) = make_config(optimizer="sgd", learning_rate=1e-9), make_batches(1, 16)
    model = make_model()
    train_steps = make_steps(model, config)
    with tf.GradientTape() as tape:
        logits = model(batch[0] / np.float32(255), training=True)
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)(batch[1], logits)
        loss += sum(model.losses)
    gradients = tape.gradient(loss, [variable.value for variable in model.trainable_variables])
    expected = np.sqrt(sum(np.sum(np.square(gradient)) for gradient in gradients))
    run(train_steps, [batch])
    np.testing.assert_allclose(train_steps.gradient_norm, expected, rtol=1e-4)


def test_the_first_bad_step_is_named():
    model = make_model()
    train_steps = make_steps(model, make_config(optimizer="sgd"))
    run(train_steps, make_batches(3, 8))
    assert int(train_steps.first_bad_step) == 0
    weights = model.get_layer("logits").kernel
    weights.assign(weights * np.float32("nan"))
    run(train_steps, make_batches(3, 8))
    assert int(train_steps.first_bad_step) == 4


def test_a_gradient_that_overflows_in_float32_is_a_bad_step():
    """The loss is finite at that step; the weights no longer are."""
    model = make_model()
    train_steps = make_steps(model, make_config(optimizer="sgd"))
    layer = model.get_layer("logits")
    layer.kernel.assign(layer.kernel * np.float32(1e25))
    run(train_steps, make_batches(1, 8))
    assert np.isfinite(train_steps.totals.means()["loss"])
    assert int(train_steps.first_bad_step) == 1


def _float16_states(scales: list[float], *, jit_compile: bool) -> tuple[list[dict], list[int]]:
    """All variables after a step at each loss scale; an infinite one makes the gradients so."""
    with models.dtype_policy("mixed_float16"):
        model = make_smooth_model()
    train_steps = make_steps(model, make_config(), "mixed_float16", jit_compile=jit_compile)
    variables = [*model.variables, *train_steps._optimizer.variables]
    states = []
    for scale, batch in zip(scales, make_batches(len(scales), 16), strict=True):
        train_steps._loss_scale.scale.assign(scale)
        run(train_steps, [batch])
        states.append({variable.path: np.array(variable) for variable in variables})
    counters = (train_steps.step, train_steps.skipped, train_steps.first_bad_step)
    return states, [int(counter) for counter in counters]


@pytest.mark.slow
def test_a_step_that_overflows_under_xla_changes_no_weight():
    """Without XLA it is not taken; with it, it is taken and undone."""
    scales = [2.0**10, np.inf, 2.0**10, np.inf]
    (compiled, counted), (expected, expected_counts) = (
        _float16_states(scales, jit_compile=jit_compile) for jit_compile in (True, False)
    )
    assert counted == expected_counts == [4, 2, 0]
    for before, after in ((0, 1), (2, 3)):
        for path, value in compiled[before].items():
            if "moving" not in path:  # batch norm follows the batch, whatever its gradient
                np.testing.assert_array_equal(compiled[after][path], value, err_msg=path)
    assert not np.array_equal(compiled[1]["smooth/conv/kernel"], compiled[2]["smooth/conv/kernel"])
    for found, values in zip(compiled, expected, strict=True):
        for path, value in values.items():
            np.testing.assert_allclose(found[path], value, rtol=2e-2, atol=2e-3, err_msg=path)


LOGITS = st.integers(3, 7).flatmap(
    lambda classes: st.integers(1, 20).map(lambda size: (classes, size))
)


@settings(max_examples=30, deadline=None)
@given(shape=LOGITS, smoothing=st.sampled_from([0.0, 0.1, 0.5]), seed=st.integers(0, 99))
def test_cross_entropy_is_that_of_keras(shape, smoothing, seed):
    (classes, size), generator = shape, np.random.default_rng(seed)
    logits = generator.normal(0, 5, [size, classes]).astype(np.float32)
    labels = generator.integers(0, classes, size, np.int32)
    expected = keras.losses.categorical_crossentropy(
        keras.ops.one_hot(labels, classes), logits, from_logits=True, label_smoothing=smoothing
    )
    found = cross_entropy(tf.constant(labels), tf.constant(logits), smoothing=smoothing)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


def test_cross_entropy_and_its_gradient_are_the_same_under_xla():
    logits = tf.random.stateless_normal([4, 9], [0, 0])
    labels = tf.constant([3, -1, 0, 8], tf.int32)

    def run(logits: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(logits)
            losses = cross_entropy(labels, logits, smoothing=0.1)
        return losses, tape.gradient(losses, logits)

    found, expected = (tf.function(run, jit_compile=xla)(logits) for xla in (True, False))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
        assert not np.any(one[1])  # padding


@settings(max_examples=30, deadline=None)
@given(shape=LOGITS, padding=st.integers(0, 5), seed=st.integers(0, 99))
def test_totals_are_those_of_scikit_learn(shape, padding, seed):
    (classes, size), generator = shape, np.random.default_rng(seed)
    logits = generator.normal(size=[size + padding, classes]).astype(np.float32)
    labels = generator.integers(0, classes, size + padding, np.int32)
    labels[size:] = -1
    totals, losses = Totals("test"), cross_entropy(tf.constant(labels), tf.constant(logits))
    for part in (slice(0, 3), slice(3, None)):
        totals.add(losses[part], tf.constant(labels[part]), tf.constant(logits[part]))
    means = totals.means()

    def accuracy(k: int) -> float:
        if k >= classes:
            return 1.0
        return top_k_accuracy_score(labels[:size], logits[:size], k=k, labels=range(classes))

    np.testing.assert_allclose(means["loss"], np.mean(losses.numpy()[:size]), rtol=1e-5)
    assert means["top1"] == pytest.approx(accuracy(1))
    assert means["top3"] == pytest.approx(accuracy(3))
    totals.reset()
    assert np.isnan(totals.means()["loss"])


def test_waiting_is_over_before_a_step_begins():
    """A processor that had both to do could take the step first, and count it as waiting."""
    before = []

    class Noted(keras.layers.Layer):
        def call(self, images: tf.Tensor) -> tf.Tensor:
            before.extend(operation.type for operation in tf.no_op().control_inputs)
            return images

    model = keras.Sequential(
        [keras.Input([28, 28, 1]), Noted(), keras.layers.Flatten(), keras.layers.Dense(CLASSES)]
    )
    train_steps = make_steps(model, make_config())
    run(train_steps, make_batches(2, 4))
    assert "Timestamp" in before
    assert train_steps.input_secs.numpy() > 0
