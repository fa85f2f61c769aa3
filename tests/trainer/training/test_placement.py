"""On a GPU nothing of a step would be in the host's memory, but for a few numbers.

Told from TensorFlow's registry of kernels, on any machine; see `tests.placement`.
"""

from collections.abc import Iterator

import pytest
import tensorflow as tf

import quickdraw_tfrecords as qt
from tests import placement
from tests.trainer.training.test_steps import make_config
from trainer import models
from trainer.config import AUGMENTATIONS
from trainer.losses import to_float
from trainer.training import distribution, optimizers
from trainer.training.batches import Batches
from trainer.training.evaluation import Evaluator
from trainer.training.precision import LossScale
from trainer.training.steps import TrainSteps

CLASSES, BATCH = 345, 1024
BATCH_SPEC = (
    tf.TensorSpec([BATCH, 28, 28, 1], tf.uint8),
    tf.TensorSpec([BATCH], tf.int32),
)
# What a random op is seeded with has to be on the host, and Keras counts seeds on the device.
SEED_BYTES = 8


@pytest.fixture(autouse=True, scope="module")
def _needs_kernels() -> None:
    if not placement.has_gpu_kernels():
        pytest.skip("needs a TensorFlow that is built for GPUs, as that for Linux is")


def make_steps(model: str, policy: str, *, classes: int = CLASSES, **values: object) -> TrainSteps:
    config = make_config(batch_size=BATCH, **values)
    with models.dtype_policy(policy):
        built = models.get(model)(side=28, num_classes=classes, dropout=None)
    optimizer = optimizers.create(config, steps_per_epoch=10)
    optimizer.build(built.trainable_variables)
    allowed = tf.ones([classes], tf.bool)
    jit_compile = config.jit_compile == "true"
    return TrainSteps(
        built, optimizer, LossScale(policy), config, flip_allowed=allowed, jit_compile=jit_compile
    )


def _assert_only_numbers_on_host(function: tf.types.experimental.ConcreteFunction) -> None:
    for graph in placement.graphs(function):
        for name, size_bytes in placement.host_tensors(graph):
            assert size_bytes is not None, name
            assert size_bytes <= 1024, name
        for copy in placement.copies(graph):
            assert copy.size_bytes is not None, copy
            assert copy.size_bytes <= 1024, copy
            if copy.to_host:
                assert copy.size_bytes <= SEED_BYTES, copy
                assert copy.used.startswith("StatelessRandomGetKeyCounter"), copy


@pytest.mark.parametrize("augment", [(), AUGMENTATIONS], ids=["plain", "augmented"])
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
@pytest.mark.parametrize("model", models.names())
def test_without_xla_a_step_holds_only_numbers_on_the_host(model, policy, augment):
    train_steps = make_steps(model, policy, augment=augment, label_smoothing=0.1)
    _assert_only_numbers_on_host(tf.function(train_steps._step).get_concrete_function(*BATCH_SPEC))


@pytest.mark.parametrize("model", models.names())
def test_without_xla_evaluation_holds_only_numbers_on_the_host(model):
    with models.dtype_policy("mixed_bfloat16"):
        built = models.get(model)(side=28, num_classes=CLASSES, dropout=None)
    step = tf.function(Evaluator(built)._step)
    _assert_only_numbers_on_host(step.get_concrete_function(*BATCH_SPEC))


@pytest.fixture
def gpu(monkeypatch) -> Iterator[tf.distribute.Strategy]:
    """A strategy for a GPU. Without one, TensorFlow makes its variables on the CPU."""
    monkeypatch.setattr(distribution, "_is_one_cpu", lambda strategy: False)
    # Off in a process that first used TensorFlow within a graph, as another test may have.
    tf.config.set_soft_device_placement(True)
    strategy = tf.distribute.OneDeviceStrategy("/device:GPU:0")
    with strategy.scope():
        yield strategy


@pytest.mark.parametrize("cache", ["memory", "device"])
def test_the_loop_over_steps_asks_the_gpu_for_nothing(gpu, data_dir, cache):
    """So that the GPU never waits for the host, nor the host for the GPU."""
    info = qt.open_dataset(data_dir)
    config = make_config(data_dir=data_dir, batch_size=64, cache=cache)
    batches = Batches(config, info).train(epoch=0, start_step=0, cache=cache)
    train_steps = make_steps("compact_cnn", "float32", classes=5, jit_compile="true", cache=cache)
    traced = train_steps.run.get_concrete_function(batches, tf.constant(9, tf.int64))
    names = _require_no_copy_to_host_in_loop(traced)
    assert ("ResourceGather" in names) == (cache == "device")


def test_the_loop_of_evaluation_asks_the_gpu_for_nothing(gpu, data_dir):
    config = make_config(data_dir=data_dir, batch_size=64)
    batches = Batches(config, qt.open_dataset(data_dir)).evaluation("test")
    model = models.get("compact_cnn")(side=28, num_classes=5, dropout=None)
    evaluator = Evaluator(model, jit_compile=True)
    traced = evaluator.run.get_concrete_function(batches, tf.constant(9, tf.int64))
    _require_no_copy_to_host_in_loop(traced)


def _require_no_copy_to_host_in_loop(traced: tf.types.experimental.ConcreteFunction) -> set[str]:
    """Returns the ops of the loop, without those that XLA compiles."""
    around_the_loop, *called = placement.graphs(traced)
    assert any("While" in operation.type for operation in around_the_loop.get_operations())
    loops = [graph for graph in called if not _is_compiled(graph)]
    for graph in loops:
        for copy in placement.copies(graph):
            assert not copy.to_host, copy
    return {operation.type for graph in loops for operation in graph.get_operations()}


def _is_compiled(graph: tf.Graph) -> bool:
    return any(operation.type == "Conv2D" for operation in graph.get_operations())


def test_what_goes_to_the_host_is_found():
    """The check is no good if it finds nothing wrong in what is."""

    @tf.function
    def step(images: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
        total = tf.reduce_sum(to_float(images))
        return tf.range(tf.cast(total, tf.int32)), labels + 1

    traced = step.get_concrete_function(*BATCH_SPEC)
    found = {name.split()[0]: size for name, size in placement.host_tensors(traced.graph)}
    assert found["AddV2"] == 4 * BATCH
    assert any(copy.to_host for copy in placement.copies(traced.graph))
    with pytest.raises(AssertionError):
        _assert_only_numbers_on_host(traced)
