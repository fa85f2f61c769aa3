"""A trained run as its users see it: bitmaps in, probabilities of named classes out.

classifier = Classifier.open(Path("runs/1"))
probabilities = classifier(bitmaps)                 # float32[n, classes]
best(probabilities[0], classifier.class_names, 3)   # [("cat", 0.93), ...]
"""

from collections.abc import Sequence
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from trainer.losses import to_float
from trainer.run_directory import runs

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
    def open(cls, run_dir: Path) -> "Classifier":
        """The classifier that a run has trained, at its best checkpoint.

        Raises:
          UsageError: There is no such run, or it has no checkpoint yet.
          DataError: The run directory is damaged.
        """
        run = runs.open_run(run_dir)
        return cls(run.load_model(), run.class_names, run.side)

    def __call__(self, bitmaps: np.ndarray) -> np.ndarray:
        """Probabilities, float32[n, classes], of bitmaps, uint8[n, side, side]."""
        batches = [
            self.probabilities(bitmaps[start : start + _BATCH_SIZE, ..., None]).numpy()
            for start in range(0, len(bitmaps), _BATCH_SIZE)
        ]
        return np.concatenate([np.zeros((0, len(self.class_names)), np.float32), *batches])

    def _probabilities(self, image: tf.Tensor) -> tf.Tensor:
        return tf.nn.softmax(self.model(to_float(image), training=False))


def best(
    probabilities: np.ndarray, class_names: Sequence[str], count: int
) -> list[tuple[str, float]]:
    """The most probable classes with their probabilities, best first.

    Args:
      probabilities: float32[classes].
      class_names: The classes in label order.
      count: How many; or as many as there are.
    """
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [(class_names[label], float(probabilities[label])) for label in order]
