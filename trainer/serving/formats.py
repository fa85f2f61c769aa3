"""A classifier in the formats that other programs run: SavedModel, Keras, TFLite and ONNX.

Each takes uint8 images, scales them itself, gives probabilities, and has the class names
inside. Each format is a `Format`: how it is written, and how a written one is run.
"""

import dataclasses
import importlib
import json
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.base.tensorflow_internals import convert_variables_to_constants_v2
from trainer.serving import keras_graphs
from trainer.serving.classifier import Classifier

LABELS = "labels.txt"  # the class names in label order, one per line

Predict = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

_ONNX_OPSET = 18


@dataclasses.dataclass(frozen=True)
class Format:
    """A format.

    Attributes:
      path: Where an export is to be, within the export directory; {step} is the training step.
      write: Writes a classifier to a path. The images, uint8[n, side, side], show what its
        users' will be like.
      load: A written one as a function from uint8[n, side, side] to float32[n, classes].
      is_exact: Whether its probabilities are the model's but for rounding.
    """

    path: str
    write: Callable[[Classifier, NDArray[np.uint8], Path], None]
    load: Callable[[Path], Predict]
    is_exact: bool = True


class _ServedClassifier(tf.Module):
    """What a SavedModel holds."""

    def __init__(self, classifier: Classifier, labels: Path) -> None:
        super().__init__()
        self.model = classifier.model  # so that its variables are saved
        self.labels = tf.saved_model.Asset(str(labels))
        self._classifier = classifier

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """By name: images -> probabilities, and serialized Examples -> classes and scores."""
        classifier, side = self._classifier, self._classifier.side
        names = tf.constant(classifier.class_names)

        @tf.function(input_signature=classifier.probabilities.input_signature)
        def predict(image: tf.Tensor) -> dict[str, tf.Tensor]:
            return {"probabilities": classifier.probabilities(image)}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="inputs")])
        def classify(inputs: tf.Tensor) -> dict[str, tf.Tensor]:
            feature = {"image": tf.io.FixedLenFeature([], tf.string)}
            pixels = tf.io.decode_raw(tf.io.parse_example(inputs, feature)["image"], tf.uint8)
            scores = classifier.probabilities(tf.reshape(pixels, [-1, side, side, 1]))
            return {"classes": tf.repeat(names[tf.newaxis], len(scores), axis=0), "scores": scores}

        return {"serving_default": predict, "classify": classify}


def write_saved_model(classifier: Classifier, images: NDArray[np.uint8], path: Path) -> None:
    """Writes a directory with the signatures that TensorFlow Serving knows.

    `serving_default` is for its Predict API: `image`, uint8[n, side, side, 1] ->
    `probabilities`. `classify` is for its Classify API: serialized Examples with a feature
    `image`, such as a data set's records, -> `classes`, the names, and `scores`.
    https://www.tensorflow.org/tfx/serving/signature_defs
    """
    del images
    with tempfile.TemporaryDirectory() as scratch:
        labels = Path(scratch, LABELS)
        labels.write_text(_labels(classifier))
        module = _ServedClassifier(classifier, labels)
        tf.saved_model.save(module, str(path), signatures=module.signatures)
    # TensorFlow 2 calls all signatures Predict, and the Classify API refuses those.
    constants = tf.compat.v1.saved_model
    updater = constants.signature_def_utils.MethodNameUpdater(str(path))
    updater.replace_method_name(
        signature_key="classify",
        method_name=constants.signature_constants.CLASSIFY_METHOD_NAME,
        tags=constants.tag_constants.SERVING,
    )
    updater.save()


def load_saved_model(path: Path) -> Predict:
    """See `Format`."""
    loaded = tf.saved_model.load(str(path))  # must live as long as its signatures
    return lambda images: loaded.signatures["serving_default"](
        image=tf.constant(images[..., np.newaxis])
    )["probabilities"].numpy()


def write_keras(classifier: Classifier, images: NDArray[np.uint8], path: Path) -> None:
    """Writes a model that Keras alone opens, with the class names in the zip that the file is.

    Raises:
      UsageError: The model is no graph of layers, so that Keras alone could not build it.
    """
    del images
    keras_graphs.make_graph(classifier.model, classifier.side).save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(LABELS, _labels(classifier))


def load_keras(path: Path) -> Predict:
    """See `Format`."""
    model = keras.models.load_model(path)
    return lambda images: model.predict_on_batch(images[..., np.newaxis])


def write_tflite(classifier: Classifier, images: NDArray[np.uint8], path: Path) -> None:
    """Writes a float32 model for phones; its signature is that of the SavedModel."""
    del images
    _write_tflite(_tflite_converter(classifier), classifier, path)


def write_tflite_int8(classifier: Classifier, images: NDArray[np.uint8], path: Path) -> None:
    """Writes a model whose weights and layers are int8, scaled to what the images need.

    Only the scaling of the input and the output's last conversion are in float32.
    """
    converter = _tflite_converter(classifier)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([image[None, ..., None]] for image in images)
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    _write_tflite(converter, classifier, path)


def _tflite_converter(classifier: Classifier) -> tf.lite.TFLiteConverter:
    # Keras' variables would stay variables, which the interpreter has no values for.
    concrete = classifier.probabilities.get_concrete_function()
    frozen = convert_variables_to_constants_v2(concrete)

    @tf.function(input_signature=classifier.probabilities.input_signature)
    def predict(image: tf.Tensor) -> dict[str, tf.Tensor]:
        (probabilities,) = frozen(image)
        return {"probabilities": probabilities}

    signature = predict.get_concrete_function()
    return tf.lite.TFLiteConverter.from_concrete_functions([signature], tf.Module())


def _write_tflite(converter: tf.lite.TFLiteConverter, classifier: Classifier, path: Path) -> None:
    path.write_bytes(converter.convert())
    # A model's associated files are a zip at its end, which interpreters do not look at.
    # https://ai.google.dev/edge/litert/conversion/tensorflow/metadata
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(LABELS, _labels(classifier))


def load_tflite(path: Path) -> Predict:
    """See `Format`."""
    with warnings.catch_warnings():
        # That it is to move to another package; this version of TensorFlow still has it.
        warnings.simplefilter("ignore", UserWarning)
        interpreter = tf.lite.Interpreter(str(path))
    runner = interpreter.get_signature_runner()
    return lambda images: runner(image=images[..., np.newaxis])["probabilities"]


def write_onnx(classifier: Classifier, images: NDArray[np.uint8], path: Path) -> None:
    """Writes a graph from `image` to `probabilities`; `class_names` are a JSON list in it.

    Raises:
      UsageError: A package that this needs is not installed.
    """
    del images
    tf2onnx, onnx = _import("tf2onnx"), _import("onnx")
    signature = classifier.probabilities.input_signature

    @tf.function(input_signature=signature)
    def predict(image: tf.Tensor) -> dict[str, tf.Tensor]:
        return {"probabilities": classifier.probabilities(image)}

    model, _ = tf2onnx.convert.from_function(predict, signature, opset=_ONNX_OPSET)
    for tensor in (*model.graph.input, *model.graph.output):
        tensor.type.tensor_type.shape.dim[0].dim_param = "batch"
    names = json.dumps(classifier.class_names, ensure_ascii=False)
    onnx.helper.set_model_props(model, {"class_names": names})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, path)


def load_onnx(path: Path) -> Predict:
    """See `Format`.

    Raises:
      UsageError: ONNX Runtime is not installed.
    """
    session = _import("onnxruntime").InferenceSession(path, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["probabilities"], {"image": images[..., np.newaxis]})[0]


def _labels(classifier: Classifier) -> str:
    return "".join(f"{name}\n" for name in classifier.class_names)


def _import(package: str) -> ModuleType:
    try:
        return importlib.import_module(package)
    except ModuleNotFoundError as error:
        raise UsageError(
            f"ONNX needs the package {error.name}: pip install 'quickdraw-tfrecords[export]'"
        ) from None


FORMATS = {
    "keras": (Format("model.keras", write_keras, load_keras),),
    "saved_model": (Format("saved_model/{step}", write_saved_model, load_saved_model),),
    "tflite": (
        Format("model.tflite", write_tflite, load_tflite),
        Format("model_int8.tflite", write_tflite_int8, load_tflite, is_exact=False),
    ),
    "onnx": (Format("model.onnx", write_onnx, load_onnx),),
}
