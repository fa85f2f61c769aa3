"""Drawings that are partly another one of the batch, and so are their labels.

    mixed = mix(images, labels, ("mixup", "cutmix"), seed=[run_seed, step])

Neighbors in the batch are mixed: as the batch is shuffled, they are random, and they are on one
device wherever a device has an even number of drawings.
"""

import math
from typing import NamedTuple

import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError
from trainer.training import draws

KINDS = ("mixup", "cutmix")

_DRAWN = ("is_mixed", "kind", "share", "y", "x")


class Mixed(NamedTuple):
    """Drawings that are mixtures of two.

    Attributes:
      images: float32[batch, side, side, 1].
      partners: int64[batch], the label of the other drawing.
      shares: float32[batch] in [0, 1], how much the first drawing, and its label, count.
    """

    images: tf.Tensor
    partners: tf.Tensor
    shares: tf.Tensor


def require_pairs(kinds: tuple[str, ...], batch_size: int, replicas: int) -> None:
    """Raises UsageError if drawings are to be mixed, and a replica's cannot be paired."""
    if not set(kinds).isdisjoint(KINDS) and batch_size // replicas % 2:
        raise UsageError(
            f"--augment={','.join(kinds)} mixes drawings in pairs, and --batch_size={batch_size} "
            f"gives each of {replicas} devices {batch_size // replicas}: choose an even number"
        )


def mix(
    images: tf.Tensor,
    labels: tf.Tensor,
    kinds: tuple[str, ...],
    *,
    seed: tf.Tensor,
    replica: tf.Tensor | int = 0,
    replicas: int = 1,
) -> Mixed:
    """Mixes half of the drawings with their neighbors.

    Args:
      images: float32[batch, side, side, 1]; an even number of them.
      labels: int32[batch].
      kinds: One of `KINDS`, or both: then each drawing is mixed in one of the two ways.
      seed: int[2].
      replica: int[], which part of the global batch this batch is.
      replicas: How many such parts there are, all of this size.
    """
    size = draws.batch_size(images)
    drawn = draws.draw(seed, _DRAWN, batch_size=size, replica=replica, replicas=replicas)
    blended, pasted = _blend(images, drawn), _paste(images, drawn)
    takes_mixup = (drawn["kind"] < 0) if len(set(kinds)) > 1 else tf.fill([size], "mixup" in kinds)
    is_mixed = drawn["is_mixed"] < 0

    def choose(mixup: tf.Tensor, cutmix: tf.Tensor, plain: tf.Tensor | float) -> tf.Tensor:
        shape = [-1] + [1] * (mixup.shape.rank - 1)
        chosen = tf.where(tf.reshape(takes_mixup, shape), mixup, cutmix)
        return tf.where(tf.reshape(is_mixed, shape), chosen, plain)

    return Mixed(
        choose(blended.images, pasted.images, images),
        _neighbors(tf.cast(labels, tf.int64)),  # TensorFlow reshapes int32 on the host
        choose(blended.shares, pasted.shares, 1.0),
    )


class _Mixture(NamedTuple):
    images: tf.Tensor
    shares: tf.Tensor


def _blend(images: tf.Tensor, drawn: dict[str, tf.Tensor]) -> _Mixture:
    """Means of two drawings (Zhang et al., 2018, arXiv:1710.09412), with weights of Beta(1/2, 1/2).

    The square of a sine is distributed so, where the angle is uniform.
    """
    shares = tf.sin(drawn["share"] * (math.pi / 2)) ** 2
    weights = shares[:, tf.newaxis, tf.newaxis, tf.newaxis]
    return _Mixture(weights * images + (1 - weights) * _neighbors(images), shares)


def _paste(images: tf.Tensor, drawn: dict[str, tf.Tensor]) -> _Mixture:
    """A rectangle of another drawing pasted in (Yun et al., 2019, arXiv:1905.04899)."""
    side = images.shape[1]
    half = tf.sqrt((drawn["share"] + 1) / 2) * side / 2
    centers = tf.stack([drawn["y"], drawn["x"]], axis=1) * (side / 2)
    # Pixels by their centers, counted from the center of the image; bool[batch, 2, side].
    pixels = tf.range(side, dtype=tf.float32) - (side - 1) / 2
    inside = tf.abs(pixels - centers[..., tf.newaxis]) < half[:, tf.newaxis, tf.newaxis]
    is_pasted = inside[:, 0, :, tf.newaxis] & inside[:, 1, tf.newaxis, :]
    shares = 1 - tf.reduce_mean(tf.cast(is_pasted, tf.float32), axis=[1, 2])
    return _Mixture(tf.where(is_pasted[..., tf.newaxis], _neighbors(images), images), shares)


def _neighbors(values: tf.Tensor) -> tf.Tensor:
    """The first and the second change places, the third and the fourth, and so on."""
    shape = tf.shape(values)
    pairs = tf.reshape(values, tf.concat([[shape[0] // 2, 2], shape[1:]], axis=0))
    return tf.reshape(tf.stack([pairs[:, 1], pairs[:, 0]], axis=1), shape)
