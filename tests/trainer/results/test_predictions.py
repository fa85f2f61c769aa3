"""What a model says of every drawing, against Keras' own prediction."""

import keras
import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.reading import drawings
from trainer import models
from trainer.results import predictions
from trainer.results.predictions import TOP


def make_model(num_classes: int) -> keras.Model:
    keras.utils.set_random_seed(num_classes)
    return models.get("compact_cnn")(side=28, num_classes=num_classes, dropout=None)


@pytest.mark.parametrize("num_classes", [5, 6, 345])
def test_predictions_are_those_of_keras(data_dir, num_classes, monkeypatch):
    monkeypatch.setattr(predictions, "_PIXELS_AT_ONCE", 33 * 28 * 28)  # some batches, one short
    info, model = qt.open_dataset(data_dir), make_model(num_classes)
    found = predictions.predict(model, info, "test")
    parts = list(drawings.read_all(info, "test"))
    images, labels, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    logits = model.predict(images[..., np.newaxis] / np.float32(255), verbose=0)
    expected = np.asarray(keras.ops.softmax(logits.astype(np.float64)))
    np.testing.assert_array_equal(found.labels, labels)
    np.testing.assert_array_equal(found.source_rows, rows)
    best = np.take_along_axis(expected, found.classes, axis=1)
    np.testing.assert_allclose(found.probabilities, best, rtol=1e-4)
    np.testing.assert_allclose(best, -np.sort(-expected)[:, :TOP], rtol=1e-4)
    loss = sklearn_metrics.log_loss(labels, expected, labels=range(num_classes))
    assert found.losses.mean() == pytest.approx(loss, rel=1e-5)


def test_of_two_classes_there_are_two_guesses(tmp_path, source, pool):
    from quickdraw_tfrecords.sources.synthetic import SyntheticSource
    from quickdraw_tfrecords.writing import converter
    from quickdraw_tfrecords.writing.config import ConvertConfig

    converter.convert(
        SyntheticSource(("cat", "tree")), tmp_path, ConvertConfig(per_class=20), pool=pool
    )
    found = predictions.predict(make_model(2), qt.open_dataset(tmp_path), "test")
    assert {tuple(sorted(row)) for row in found.classes} == {(-1, -1, -1, 0, 1)}
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1, rtol=1e-5)
    assert not found.probabilities[:, 2:].any()


def test_they_are_read_as_they_were_written(tmp_path, data_dir):
    written = predictions.predict(make_model(5), qt.open_dataset(data_dir), "test")
    predictions.write(written, tmp_path / "p.npz")
    read = predictions.read(tmp_path / "p.npz")
    for name, array in vars(written).items():
        np.testing.assert_array_equal(getattr(read, name), array)
        assert getattr(read, name).dtype == array.dtype


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 and no more", b"text"])
def test_a_damaged_file_is_one_clear_line(tmp_path, content):
    path = tmp_path / "p.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"p\.npz: not whole predictions .*quickdraw evaluate"):
        predictions.read(path)
