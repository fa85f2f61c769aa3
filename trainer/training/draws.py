"""Random numbers for each drawing of a batch, the same on one device as on several."""

import tensorflow as tf


def draw(
    seed: tf.Tensor,
    names: tuple[str, ...],
    *,
    batch_size: tf.Tensor | int,
    replica: tf.Tensor | int,
    replicas: int,
) -> dict[str, tf.Tensor]:
    """Numbers in [-1, 1) for each drawing of one replica, by name; each float32[batch].

    Args:
      seed: int[2].
      names: What is drawn; a number depends on the place of its name.
      batch_size: Drawings of one replica.
      replica: int[], which part of the global batch these are.
      replicas: How many such parts there are.
    """
    count = len(names)
    drawn = numbers(seed, count, batch_size=batch_size, replica=replica, replicas=replicas)
    return dict(zip(names, tf.unstack(drawn, axis=1), strict=True))


def numbers(
    seed: tf.Tensor,
    count: int,
    *,
    batch_size: tf.Tensor | int,
    replica: tf.Tensor | int,
    replicas: int,
) -> tf.Tensor:
    """As many numbers in [-1, 1) for each drawing of one replica, float32[batch, count].

    They are drawn for the global batch, which costs next to nothing, and cut. XLA draws the
    same bits as TensorFlow, but makes other floats of them: so we make them ourselves.

    Args:
      seed: int[2].
      count: Numbers of a drawing.
      batch_size: As for `draw`, as are the rest.
      replica: int[].
      replicas: A number.
    """
    bits = tf.random.stateless_uniform(
        [replicas, batch_size, count],
        seed,
        minval=None,
        maxval=None,
        dtype=tf.int32,
        alg="philox",
    )
    return (tf.cast(tf.bitwise.right_shift(bits, 8), tf.float32) * 2.0**-23)[replica]


def batch_size(images: tf.Tensor) -> tf.Tensor | int:
    """A number where it is known, so that no op has to find out."""
    known: int | None = images.shape[0]
    return tf.shape(images)[0] if known is None else known
