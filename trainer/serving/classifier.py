"""A trained run as its users see it: bitmaps in, probabilities of named classes out.

classifier = Classifier.of(runs.open_run(Path("runs/1")))
probabilities = classifier(bitmaps)                 # float32[n, classes]
best(probabilities[0], classifier.class_names, 3)   # [("cat", 0.93), ...]
"""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from quickdraw_tfrecords.base.errors import UsageError
from trainer.losses import to_float
from trainer.run_directory.runs import TrainedRun

_BATCH_SIZE = 1024


class Classifier:
    """A model behind uint8 images, with its own scaling and a softmax.

    Attributes:
      model: float32[n, side, side, 1] in [0, 1] -> logits, float32[n, classes].
      class_names: The classes in label order.
      side: Height and width of a drawing in pixels.
      probabilities: tf.function, uint8[n, side, side, 1] named "image" -> float32[n, classes].
    """

    def __init__(self, model: keras.Model, class_names: Sequence[str], side: int) -> None:
        self.model = model
        self.class_names = tuple(class_names)
        self.side = side
        image = tf.TensorSpec([None, side, side, 1], tf.uint8, name="image")
        self.probabilities = tf.function(self._probabilities, input_signature=[image])

    @classmethod
    def of(cls, run: TrainedRun) -> "Classifier":
        """The classifier that a run has trained, at its best checkpoint.

        Raises:
          UsageError: The run has no checkpoint yet.
          DataError: The checkpoint is damaged.
        """
        return cls(run.load_model(), run.class_names, run.side)

    def __call__(self, bitmaps: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Probabilities, float32[n, classes].

        Args:
          bitmaps: uint8[n, side, side] or uint8[n, side, side, 1].

        Raises:
          UsageError: They are of another shape or dtype.
        """
        images = self._as_images(bitmaps)
        batches = [
            self.probabilities(images[start : start + _BATCH_SIZE]).numpy()
            for start in range(0, len(images), _BATCH_SIZE)
        ]
        return np.concatenate([np.zeros((0, len(self.class_names)), np.float32), *batches])

    def _as_images(self, bitmaps: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """uint8[n, side, side, 1]."""
        array, shape = np.asarray(bitmaps), (self.side, self.side)
        if array.dtype != np.uint8:
            raise UsageError(f"images: dtype is {array.dtype}, must be uint8, with ink high on 0")
        if array.shape[1:] not in (shape, (*shape, 1)):
            raise UsageError(
                f"images: shape is {array.shape}, must be (n, {self.side}, {self.side}) or "
                f"(n, {self.side}, {self.side}, 1)"
            )
        return array.reshape(-1, *shape, 1)

    def _probabilities(self, image: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self.model(to_float(image), training=False))


def best(
    probabilities: NDArray[np.float32], class_names: Sequence[str], count: int
) -> list[tuple[str, float]]:
    """The most probable classes with their probabilities, best first.

    Args:
      probabilities: float32[classes].
      class_names: The classes in label order.
      count: How many; or as many as there are.
    """
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(class_names[label], float(probabilities[label])) for label in order]
