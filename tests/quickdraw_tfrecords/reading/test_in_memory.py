"""The split on the device: its epochs are permutations, and begin anywhere."""

import numpy as np
import pytest
import tensorflow as tf

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.buffers import Buffers
from quickdraw_tfrecords.reading import in_memory, on_device
from quickdraw_tfrecords.reading.blocks import SplitSlice
from quickdraw_tfrecords.reading.chunks import ChunkShape, make_chunks
from quickdraw_tfrecords.reading.epoch import EpochOrder

BATCH = 48


@pytest.fixture(scope="module")
def part(data_dir) -> SplitSlice:
    return qt.open_dataset(data_dir).split_slice("train")


@pytest.fixture(scope="module")
def take(part):
    """Takes batches inside a compiled function, as the trainer does."""
    batches = on_device.DeviceBatches(part, BATCH)

    @tf.function
    def compiled(steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        images = tf.TensorArray(tf.uint8, steps)
        labels = tf.TensorArray(tf.int32, steps)
        for step in tf.range(steps):
            batch = next(batches)
            images, labels = images.write(step, batch[0]), labels.write(step, batch[1])
        return images.concat(), labels.concat()

    def run(steps: int, *, seed: int = 0, epoch: int = 0, start_step: int = 0) -> list[tuple]:
        batches.begin(seed=seed, epoch=epoch, start_step=start_step)
        images, labels = compiled(tf.constant(steps))
        assert images.shape == (steps * BATCH, 28, 28, 1)
        return [
            (image.tobytes(), label)
            for image, label in zip(images.numpy(), labels.numpy(), strict=True)
        ]

    return run


def test_an_epoch_holds_every_drawing_once(part, take, data_dir):
    dataset = qt.load(data_dir, "train", len(part))
    ((images, labels),) = dataset
    expected = [
        (image.tobytes(), label)
        for image, label in zip(images.numpy(), labels.numpy(), strict=True)
    ]
    assert len(part) % BATCH == 0
    assert sorted(take(len(part) // BATCH)) == sorted(expected)


def test_the_order_depends_on_seed_and_epoch_alone(take):
    epoch = take(15, seed=1, epoch=2)
    assert take(15, seed=1, epoch=2) == epoch
    assert take(15, seed=1, epoch=3) != epoch
    assert take(15, seed=2, epoch=2) != epoch


def test_the_order_is_that_of_tensorflows_shuffle(part, take, data_dir):
    """As it was before the split was gathered on the device, so that old runs resume."""
    ((images, labels),) = qt.load(data_dir, "train", len(part))
    rows = tf.random.experimental.stateless_shuffle(tf.range(len(part)), seed=[3, 4]).numpy()
    found = take(15, seed=3, epoch=4)
    expected = [(images[row].numpy().tobytes(), labels[row].numpy()) for row in rows]
    assert found == expected


@pytest.mark.parametrize("start", [1, 7, 14])
def test_starting_at_a_step_gives_the_tail_of_the_epoch(take, start):
    epoch = take(15, epoch=5)
    assert take(15 - start, epoch=5, start_step=start) == epoch[start * BATCH :]


def test_memory_holds_the_split_once_for_all_epochs(part):
    shape = ChunkShape.of(28, BATCH, mib=0.1)
    epochs = [in_memory.fill_tasks(part, EpochOrder(0, 720, 1, epoch), shape) for epoch in range(2)]
    assert in_memory.hold(part)[0] is in_memory.hold(part)[0]
    for jobs in epochs:
        labels = [slab[1] for slab in make_chunks(jobs, shape, Buffers())]
        assert np.bincount(np.concatenate(labels, axis=None)).tolist() == [144] * 5


def test_a_split_is_held_as_long_as_the_data_set_is_open(data_dir, monkeypatch):
    reads = []
    monkeypatch.setattr(in_memory, "read", lambda part, **_: reads.append(part) or ([], []))
    info, again = qt.open_dataset(data_dir), qt.open_dataset(data_dir)
    held = [in_memory.hold(opened.split_slice("train")) for opened in (info, info, again, info)]
    assert held[0] is held[1] is held[3]
    assert held[2] is not held[0]
    assert len(reads) == 2


def test_a_dataset_cannot_be_on_the_device(data_dir):
    with pytest.raises(qt.UsageError, match="DeviceBatches"):
        qt.load(data_dir, "train", 8, cache="device")
