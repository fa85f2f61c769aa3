"""Batches for replicas: padded where they run out, and every drawing of a split once."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import UsageError
from tests.processes import ChildProcess
from tests.trainer.training.test_steps import make_config
from trainer.training import batches
from trainer.training.batches import Batches


@settings(max_examples=25, deadline=None)
@given(size=st.integers(0, 20), batch_size=st.integers(1, 8), more=st.integers(0, 3))
def test_padding_adds_only_what_does_not_count(size, batch_size, more):
    images = np.arange(size, dtype=np.uint8)[:, np.newaxis, np.newaxis, np.newaxis]
    labels = np.arange(size, dtype=np.int32)
    dataset = tf.data.Dataset.from_tensor_slices((images, labels)).batch(batch_size)
    count = -(-size // batch_size) + more
    padded = [*batches.pad(dataset, batch_size, count)]
    assert [(x.shape[0], y.shape[0]) for x, y in padded] == [(batch_size, batch_size)] * count
    found = np.concatenate([[], *(y for _, y in padded)])
    assert found[:size].tolist() == labels.tolist()
    assert (found[size:] == -1).all()
    pixels = np.concatenate([[], *(tf.reshape(x, [-1]) for x, _ in padded)])
    assert pixels[:size].tolist() == labels.tolist()


def _drawings(images: list, labels: list) -> list[bytes]:
    """The drawings that count, as sorted bytes with their labels."""
    pairs = [
        (image.numpy().tobytes(), int(label))
        for batch in zip(images, labels, strict=True)
        for image, label in zip(*batch, strict=True)
    ]
    return sorted(image + bytes([label]) for image, label in pairs if label >= 0)


def check_an_evaluation_has_every_drawing_once(data_dir: str) -> None:
    """On 1 to 4 replicas; splits of 80 and 200 drawings, and batches that do not divide them."""
    info = qt.open_dataset(data_dir)
    for split in ("validation", "test"):
        ((images, labels),) = qt.load(data_dir, split, 1000)
        expected = _drawings([images], [labels])
        assert len(expected) == info.num_examples[split]
        for replicas, batch_size in ((1, 7), (1, 500), (2, 2), (2, 36), (3, 27), (3, 300), (4, 64)):
            devices = [f"CPU:{device}" for device in range(replicas)]
            strategy = tf.distribute.MirroredStrategy(devices)
            with strategy.scope():
                batches_of_run = Batches(
                    make_config(data_dir=data_dir, batch_size=batch_size), info
                )
                iterator = batches_of_run.evaluation(split)
                steps = [next(iterator) for _ in range(batches_of_run.evaluation_steps(split))]
            images, labels = (
                [
                    part
                    for step in steps
                    for part in strategy.experimental_local_results(step[index])
                ]
                for index in (0, 1)
            )
            assert {len(part) for part in labels} == {batch_size // replicas}
            assert _drawings(images, labels) == expected, (split, replicas, batch_size)


@pytest.mark.slow
def test_an_evaluation_has_every_drawing_once(data_dir, tmp_path):
    check = check_an_evaluation_has_every_drawing_once
    process = ChildProcess(check, str(data_dir), output=tmp_path / "process", devices=4)
    assert process.wait() == 0, process.stderr


def test_a_batch_greater_than_the_split_is_refused(data_dir):
    with pytest.raises(UsageError, match="--batch_size=1024 is more than the 720 drawings"):
        Batches(make_config(data_dir=data_dir, batch_size=1024), qt.open_dataset(data_dir))


def test_a_slice_of_the_training_split_is_an_epoch(data_dir):
    """For learning curves: the first drawings on disk, all of them each epoch, and no others."""
    info = qt.open_dataset(data_dir)
    made = Batches(make_config(data_dir=data_dir, batch_size=36, train_split="train[:50%]"), info)
    assert made.steps_per_epoch == 10
    expected = {image.tobytes() for image in qt.arrays(info, "train[:360]")[0]}
    for epoch in (0, 1):
        found = [
            image.tobytes()
            for images, _ in made.train(epoch=epoch, start_step=0, cache=made.cache)
            for image in images.numpy()
        ]
        assert len(found) == 360
        assert set(found) == expected


@pytest.mark.parametrize("split", ["test", "validation[:50%]", "training"])
def test_only_the_training_split_is_trained_on(data_dir, split):
    with pytest.raises(UsageError, match="must be train, or a slice"):
        make_config(data_dir=data_dir, train_split=split).check()


def test_a_slice_smaller_than_a_batch_is_refused(data_dir):
    config = make_config(data_dir=data_dir, batch_size=36, train_split="train[:35]")
    with pytest.raises(
        UsageError, match=r"is more than the 35 drawings of --train_split=train\[:35"
    ):
        Batches(config, qt.open_dataset(data_dir))
