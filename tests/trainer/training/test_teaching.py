"""A student's loss, and teachers that cannot teach it."""

import dataclasses

import keras
import numpy as np
import pytest
import tensorflow as tf

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.files import crc32c
from tests.trained import make_run
from tests.trainer.training.test_steps import CLASSES, make_batches, make_config, make_model
from trainer.losses import distillation
from trainer.training import teaching
from trainer.training.objective import Objective, Part


def test_distillation_is_cross_entropy_with_the_teachers_probabilities():
    generator = np.random.default_rng(0)
    teacher, student = generator.normal(0, 3, [2, 6, 9]).astype(np.float32)
    targets = keras.activations.softmax(teacher)
    expected = keras.losses.categorical_crossentropy(targets, student, from_logits=True)
    np.testing.assert_allclose(distillation(teacher, student), expected, rtol=1e-5)


def test_distillation_does_not_teach_the_teacher():
    teacher, student = tf.random.stateless_normal([2, 6, 9], [0, 0])
    with tf.GradientTape() as tape:
        tape.watch([teacher, student])
        loss = distillation(teacher, student)
    of_teacher, of_student = tape.gradient(loss, [teacher, student])
    assert of_teacher is None
    assert np.any(of_student)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_the_loss_is_of_labels_and_teacher_by_their_shares(share):
    ((images, labels),) = make_batches(1, 8)
    labels[-1] = -1  # padding
    student, teacher = make_model(0), make_model(1)
    config = make_config(teacher_share=share)
    objective = Objective(student, config, teacher=teacher)
    step = tf.constant(0, tf.int64)
    losses, logits = objective(images, labels, step=step, part=Part(), side=None)
    taught = distillation(teacher(images / np.float32(255)), logits).numpy()
    told = keras.losses.sparse_categorical_crossentropy(labels[:-1], logits[:-1], from_logits=True)
    expected = (1 - share) * told.numpy() + share * taught[:-1]
    np.testing.assert_allclose(losses[:-1], expected, rtol=1e-4)
    assert losses[-1] == 0


def test_a_teacher_is_the_best_of_its_run(tmp_path, data_dir):
    run, info = make_run(tmp_path / "run", data_dir), qt.open_dataset(data_dir)
    model, checksum = teaching.load(run.directory, info, "mixed_bfloat16")
    assert checksum == f"{crc32c(run.checkpoint().read_bytes()):08x}"
    kernel = run.load_model().get_layer("logits").kernel
    np.testing.assert_array_equal(model.get_layer("logits").kernel, kernel)
    assert model.get_layer("hidden").compute_dtype == "bfloat16"
    assert model.output_shape == (None, CLASSES)
    assert teaching.load(None, info, "float32") == (None, None)


def test_who_cannot_teach_is_refused(tmp_path, data_dir):
    info = qt.open_dataset(data_dir)
    with pytest.raises(UsageError, match=r"--teacher=.*: holds no run\.json; name a run"):
        teaching.load(tmp_path, info, "float32")
    run = make_run(tmp_path / "run", data_dir)
    other = dataclasses.replace(info, class_names=info.class_names[::-1])
    with pytest.raises(UsageError, match=r"--teacher=.*: was trained on 5 classes at 28 pixels"):
        teaching.load(run.directory, other, "float32")
