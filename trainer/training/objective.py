"""What a step minimizes: from the pixels and labels of a batch to a loss for each drawing."""

from typing import NamedTuple

import keras
import tensorflow as tf

from trainer.config import Config
from trainer.losses import cross_entropy, distillation, to_float
from trainer.training import augmentation, mixing
from trainer.training.resolution import Resizing

# Added to the run's seed, which is below it, so that mixing draws other numbers than augmentation.
_MIXING = 2**32


class Part(NamedTuple):
    """Which part of a global batch a replica has.

    Attributes:
      replica: int[], its number.
      replicas: How many there are.
    """

    replica: tf.Tensor | int = 0
    replicas: int = 1


class Objective:
    """The loss of a run's config, on one replica's part of a batch.

    Args:
      model: What is trained.
      config: The run's settings.
      flip_allowed: bool[classes], which may be flipped; needed for --augment=flip.
      teacher: What --teacher names: from images to logits, as the model.
    """

    def __init__(
        self,
        model: keras.Model,
        config: Config,
        *,
        flip_allowed: tf.Tensor | None = None,
        teacher: keras.Model | None = None,
    ) -> None:
        self._config, self._flip_allowed, self._teacher = config, flip_allowed, teacher
        self._model = Resizing(model, config.train_sides)

    def __call__(
        self, images: tf.Tensor, labels: tf.Tensor, *, step: tf.Tensor, part: Part, side: int | None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Losses and logits of a training step.

        Args:
          images: uint8[batch, side, side, 1].
          labels: int32[batch], negative where there is no drawing.
          step: int64[], which decides what is random.
          part: Of the global batch.
          side: Of `config.train_sides`; None: as the images are.

        Returns:
          float32[batch], 0 where there is no drawing, and float32[batch, classes].
        """
        floats = self.augment(to_float(images), labels, step=step, part=part)
        mixed = self._mix(floats, labels, step, part)
        inputs = mixed.images if mixed else floats
        logits = self._model(inputs, side, training=True)
        smoothing, share = self._config.label_smoothing, self._config.teacher_share
        losses = cross_entropy(labels, logits, smoothing=smoothing)
        if mixed:
            others = cross_entropy(mixed.partners, logits, smoothing=smoothing)
            losses = mixed.shares * losses + (1 - mixed.shares) * others
        if self._teacher:
            taught = distillation(self._teacher(inputs, training=False), logits)
            losses = tf.where(labels >= 0, (1 - share) * losses + share * taught, 0.0)
        return losses, logits

    def augment(
        self, images: tf.Tensor, labels: tf.Tensor, *, step: tf.Tensor, part: Part
    ) -> tf.Tensor:
        """Images changed as --augment says, but for those kinds that mix two."""
        kinds = tuple(kind for kind in self._config.augment if kind in augmentation.KINDS)
        if not kinds:
            return images
        return augmentation.augment(
            images,
            labels,
            kinds,
            seed=tf.stack([tf.constant(self._config.seed, tf.int64), step]),
            flip_allowed=self._flip_allowed,
            replica=part.replica,
            replicas=part.replicas,
        )

    def _mix(
        self, images: tf.Tensor, labels: tf.Tensor, step: tf.Tensor, part: Part
    ) -> mixing.Mixed | None:
        kinds = tuple(kind for kind in self._config.augment if kind in mixing.KINDS)
        if not kinds:
            return None
        seed = tf.stack([tf.constant(self._config.seed + _MIXING, tf.int64), step])
        return mixing.mix(
            images, labels, kinds, seed=seed, replica=part.replica, replicas=part.replicas
        )
