"""Exports are run by their own runtimes, and what differs from the model is refused."""

import functools
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import onnx
import onnxruntime
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.reading import drawings
from tests.trained import make_run
from trainer import mirroring, models
from trainer.run_directory import checkpoints, runs
from trainer.run_directory.runs import TrainedRun
from trainer.serving import exporter, formats
from trainer.serving.classifier import Classifier
from trainer.serving.formats import Format

# That the interpreter is to move to another package; this version of TensorFlow still has it.
pytestmark = pytest.mark.filterwarnings("ignore:.*tf.lite.Interpreter is deprecated")


def read(data_dir: Path, split: str) -> tuple[np.ndarray, np.ndarray]:
    """A split whole, uint8[n, 28, 28, 1] and int32[n]."""
    parts = drawings.read_all(qt.open_dataset(data_dir), split)
    images, labels, _ = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return images[..., np.newaxis], labels


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir) -> TrainedRun:
    """A run that has learnt a little, so that int8 has something to lose."""
    return _learn(make_run(tmp_path_factory.mktemp("runs") / "one", data_dir), data_dir)


def _learn(run: TrainedRun, data_dir: Path) -> TrainedRun:
    model = run.with_tta("none").load_model()
    images, labels = read(data_dir, "train")
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile("adam", loss)
    model.fit(images / np.float32(255), labels, 32, epochs=6, verbose=0)
    arrays = checkpoints.to_arrays(checkpoints.named(model.variables))
    checkpoints.best(run.directory, keep=9).save(30, arrays, {"epoch": 3, "metric": 0.1})
    return run


@pytest.fixture(scope="module")
def images(data_dir) -> np.ndarray:
    """The test split, uint8[200, 28, 28, 1]."""
    return read(data_dir, "test")[0]


@pytest.fixture(scope="module")
def expected(run, images) -> np.ndarray:
    """What Keras gives of the images, float32[200, 5]."""
    return keras.activations.softmax(run.load_model()(images / np.float32(255))).numpy()


@pytest.fixture(scope="module")
def export(run) -> Callable[[str], Path]:
    """Exports the run in a format, once, and gives the directory of its exports."""

    @functools.cache
    def export(name: str) -> Path:
        exporter.export(run, name)
        return run.directory / "export"

    return export


@pytest.fixture(scope="module")
def saved_model(export) -> Path:
    return export("saved_model") / "saved_model"


@pytest.fixture(scope="module")
def tflite(export) -> Path:
    """The directory of the exports, in which those of TFLite are."""
    return export("tflite")


@pytest.mark.slow
def test_what_is_written_is_what_the_readme_says(export):
    (directory,) = {export(name) for name in formats.FORMATS}
    names = {str(path.relative_to(directory)) for path in directory.rglob("*")}
    assert {"model.tflite", "model_int8.tflite", "model.onnx", "saved_model/30"} <= names
    assert {"model.keras", "README.md"} <= names
    assert not [name for name in names if ".tmp" in name]


def test_the_saved_model_serves_predict(saved_model, images, expected):
    loaded = tf.saved_model.load(saved_model / "30")
    predict = loaded.signatures["serving_default"]
    specs = predict.structured_input_signature[1]
    assert specs["image"].dtype == tf.uint8
    assert specs["image"].shape.as_list() == [None, 28, 28, 1]
    for some in (images[:1], images):
        found = predict(image=tf.constant(some))
        assert list(found) == ["probabilities"]
        np.testing.assert_allclose(found["probabilities"], expected[: len(some)], atol=1e-5)


def test_the_saved_model_classifies_the_data_sets_own_records(run, saved_model, expected):
    path = saved_model / "30"
    info = run.open_dataset()
    shards = [str(info.directory / shard.name) for shard in info.manifest.splits["test"]]
    records = list(tf.data.TFRecordDataset(shards).as_numpy_iterator())
    found = tf.saved_model.load(path).signatures["classify"](inputs=tf.constant(records))
    np.testing.assert_allclose(found["scores"], expected, atol=1e-5)
    names = [[name.encode() for name in run.class_names]] * len(records)
    np.testing.assert_array_equal(found["classes"], names)
    graph = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    signatures = graph.meta_graphs[0].signature_def
    assert signatures["classify"].method_name == "tensorflow/serving/classify"
    assert signatures["serving_default"].method_name == "tensorflow/serving/predict"
    labels = (path / "assets" / "labels.txt").read_text()
    assert labels.splitlines() == list(run.class_names)


def test_tflite_runs_one_drawing_and_many(run, tflite, images, expected):
    interpreter = tf.lite.Interpreter(str(tflite / "model.tflite"))
    for some in (images[:1], images):
        found = interpreter.get_signature_runner("serving_default")(image=some)
        np.testing.assert_allclose(found["probabilities"], expected[: len(some)], atol=1e-5)
    with zipfile.ZipFile(tflite / "model.tflite") as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(run.class_names)


def test_int8_is_small_and_nearly_as_good(tflite, images, expected):
    path = tflite / "model_int8.tflite"
    interpreter = tf.lite.Interpreter(str(path))
    kinds = [tensor["dtype"] for tensor in interpreter.get_tensor_details()]
    assert kinds.count(np.float32) <= 2  # the scaled image, and the probabilities
    found = interpreter.get_signature_runner()(image=images)["probabilities"]
    assert (found.argmax(axis=1) == expected.argmax(axis=1)).mean() > 0.9
    assert path.stat().st_size < 0.4 * (tflite / "model.tflite").stat().st_size


@pytest.mark.slow
def test_onnx_runs_one_drawing_and_many(run, export, images, expected):
    path = export("onnx") / "model.onnx"
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (image,), (output,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type, image.shape) == ("image", "tensor(uint8)", ["batch", 28, 28, 1])
    assert (output.name, output.shape) == ("probabilities", ["batch", 5])
    for some in (images[:1], images):
        (found,) = session.run(["probabilities"], {"image": some})
        np.testing.assert_allclose(found, expected[: len(some)], atol=1e-5)
    properties = {each.key: each.value for each in onnx.load(path).metadata_props}
    assert json.loads(properties["class_names"]) == list(run.class_names)


def test_keras_alone_opens_its_file(run, export, images, expected, tmp_path):
    path = export("keras") / "model.keras"
    np.save(tmp_path / "images.npy", images)
    program = (
        "import sys\n"
        "sys.modules['trainer'] = sys.modules['quickdraw_tfrecords'] = None\n"
        "import keras, numpy as np\n"
        f"model = keras.models.load_model({str(path)!r})\n"
        "np.save('found.npy', model.predict(np.load('images.npy'), verbose=0))\n"
    )
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True)
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), expected, atol=1e-5)
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().splitlines() == list(run.class_names)


@pytest.mark.parametrize("model", ["compact_cnn", "resnet_s", "study_cnn"])
def test_keras_builds_each_model_and_its_average_with_mirror_images(model, run, images):
    build = models.get(model)
    inner = build(side=28, num_classes=5, dropout=None)
    keras.utils.set_random_seed(3)
    inner.set_weights([np.random.normal(0.1, 0.1, each.shape) ** 2 for each in inner.weights])
    allowed = np.array([True, False, True, True, False])
    for each in (inner, mirroring.AverageWithMirrored(inner, allowed)):
        classifier = Classifier(each, run.class_names, 28)
        path = run.directory / "other.keras"
        formats.write_keras(classifier, images, path)
        found = formats.load_keras(path)(images[:20, ..., 0])
        np.testing.assert_allclose(found, classifier(images[:20]), atol=1e-5)
        assert b"trainer" not in zipfile.ZipFile(path).read("config.json")


def test_a_model_that_keras_cannot_build_is_told(run, monkeypatch):
    class Own(keras.Model):
        def call(self, inputs):
            return self.inner(inputs)

    own = Own(name="own")
    own.inner = run.load_model()
    monkeypatch.setattr(TrainedRun, "load_model", lambda _: own)
    with pytest.raises(UsageError, match=r"format=keras: own is no graph of layers"):
        exporter.export(run, "keras")


@pytest.mark.slow
def test_the_snippets_of_the_readme_run(run, export):
    (directory,) = {export(name) for name in formats.FORMATS}
    text = (directory / "README.md").read_text()
    assert re.findall("^## (.*)", text, re.MULTILINE) == [
        "Keras", "SavedModel and TensorFlow Serving", "LiteRT, on phones", "ONNX Runtime",
    ]  # fmt: skip
    program = "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=directory, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    named = [line for line in done.stdout.splitlines() if line in run.class_names]
    assert len(named) == 4
    assert len(set(named)) == 1  # all of the same blank drawing


def test_what_was_exported_before_is_replaced(run, saved_model, capsys):
    stray = saved_model / "30" / "stray"
    stray.touch()
    (saved_model / ".99.tmp").mkdir()  # of an export that was killed
    exporter.export(run, "saved_model")
    assert not stray.exists()
    assert [path.name for path in saved_model.iterdir()] == ["30"]
    assert "on 200 of 200 drawings of the test split (100.00%)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("damage", "is_exact", "message"),
    [
        (lambda p: np.roll(p, 1, axis=1), True, "at least 99.9% are required"),
        (lambda p: p * np.nan, True, "it or the model gives NaN"),
        (lambda p: np.roll(p, 1, axis=1), False, "at most 0.02 may be lost"),
    ],
)
def test_an_export_that_differs_is_refused(run, tflite, monkeypatch, damage, is_exact, message):
    def load(path: Path) -> formats.Predict:
        predict = formats.load_tflite(path)
        return lambda some: damage(predict(some))

    wrong = Format("model.tflite", formats.write_tflite, load, is_exact=is_exact)
    monkeypatch.setitem(formats.FORMATS, "tflite", (wrong,))
    before = (tflite / "model.tflite").stat().st_ino
    with pytest.raises(DataError, match=rf"model\.tflite: not exported: .*{message}"):
        exporter.export(run, "tflite")
    assert (tflite / "model.tflite").stat().st_ino == before
    assert not list(tflite.glob(".*"))


def test_a_missing_package_is_told(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(UsageError, match=r"ONNX needs the package tf2onnx: pip install .*export"):
        exporter.export(run, "onnx")


def test_a_run_without_weights_cannot_be_exported(tmp_path, data_dir):
    run = make_run(tmp_path / "run", data_dir, epochs=0)
    with pytest.raises(UsageError, match="no checkpoint is there"):
        exporter.export(run, "saved_model")


def test_a_run_whose_data_set_is_gone_cannot_be_exported(run, tmp_path):
    moved = runs.open_run(run.directory, tmp_path / "nowhere")
    with pytest.raises(DataError, match="nowhere"):
        exporter.export(moved, "onnx")


@pytest.mark.slow
@pytest.mark.parametrize("name", formats.FORMATS)
def test_residual_networks_are_exported_with_mirror_images(tmp_path, data_dir, name):
    """As any program runs them that has but the ops of Keras' layers."""
    run = _learn(make_run(tmp_path, data_dir, model="resnet_s", tta="flip"), data_dir)
    exporter.export(run, name)
    images, _ = read(data_dir, "test")
    expected = keras.activations.softmax(run.load_model()(images / np.float32(255))).numpy()
    plain = run.with_tta("none").load_model()(images / np.float32(255))
    assert np.abs(expected - keras.activations.softmax(plain)).max() > 0.01
    written = formats.FORMATS[name][0]
    predict = written.load(run.directory / "export" / written.path.format(step=30))
    np.testing.assert_allclose(predict(images[..., 0]), expected, atol=1e-3)
