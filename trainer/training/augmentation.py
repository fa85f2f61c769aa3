"""Augmentation on the device: random changes to a batch, as a pure function of a seed.

    augment(images, labels, ("rotate", "flip"), seed=[run_seed, step], flip_allowed=allowed)

An example's changes depend on the seed and its place in the global batch alone, so they are
the same on one device as on several, and after a resume. A kind's do not depend on which
other kinds there are. No shape depends on the data, so that XLA can compile it.
"""

import math

import numpy as np
import tensorflow as tf
from scipy.interpolate import BSpline

from trainer.training import draws

KINDS = ("shift", "rotate", "zoom", "flip", "warp", "stroke", "cutout")

# How far each kind goes at most, either way.
MAX_SHIFT = 0.1  # of the side
MAX_ANGLE = math.radians(15)
MAX_ZOOM = 0.15
MAX_WARP = 0.15  # of the side, where all that pulls at a place pulls one way
MAX_STROKE = 0.5  # of the way to one pixel more, or less, on each side of a stroke
CUTOUT = 0.25  # of the side

_BLURRING_KINDS = {"shift", "rotate", "zoom", "warp"}  # by interpolation, which a flip needs not
_DRAWN = ("shift_y", "shift_x", "rotate", "zoom", "flip", "stroke", "cutout_y", "cutout_x")
_WARPING = 2**31  # added to the run's seed, so that warps are drawn apart
_WARP_CELLS = 3  # that a warp's spline divides a side into


def augment(
    images: tf.Tensor,
    labels: tf.Tensor,
    kinds: tuple[str, ...],
    *,
    seed: tf.Tensor,
    flip_allowed: tf.Tensor | None = None,
    replica: tf.Tensor | int = 0,
    replicas: int = 1,
) -> tf.Tensor:
    """Changes each image at random, in the ways that are asked for.

    Shift, rotation, zoom, flip and warp are one resampling, so that an image is blurred once.

    Args:
      images: float32[batch, side, side, 1] in [0, 1].
      labels: int32[batch].
      kinds: Any of `KINDS`.
      seed: int[2].
      flip_allowed: bool[classes], which may be flipped; needed for "flip".
      replica: int[], which part of the global batch this batch is.
      replicas: How many such parts there are, all of this size.

    Returns:
      float32[batch, side, side, 1] in [0, 1].
    """
    size = draws.batch_size(images)
    drawn = draws.draw(seed, _DRAWN, batch_size=size, replica=replica, replicas=replicas)
    if "flip" in kinds:
        drawn["flip"] = tf.where(tf.gather(flip_allowed, labels), drawn["flip"], 1.0)
    side = images.shape[1]
    if "stroke" in kinds:
        images = change_strokes(images, MAX_STROKE * drawn["stroke"])
    is_blurred = not _BLURRING_KINDS.isdisjoint(kinds)
    if is_blurred or "flip" in kinds:
        offsets = None
        if "warp" in kinds:
            pulls = draws.numbers(
                seed + [_WARPING, 0],
                2 * (_WARP_CELLS + 3) ** 2,
                batch_size=size,
                replica=replica,
                replicas=replicas,
            )
            offsets = warp(MAX_WARP * side * pulls, side)
        images = resample(images, _transforms(drawn, kinds, side), offsets)
    if is_blurred:
        images = sharpen(images)
    if "cutout" in kinds:
        cut = round(CUTOUT * side)
        corners = tf.stack([drawn["cutout_y"], drawn["cutout_x"]], axis=1)
        corners = tf.floor((corners + 1) / 2 * (side - cut + 1))
        images = cut_out(images, corners, cut)
    return images


def _transforms(drawn: dict[str, tf.Tensor], kinds: tuple[str, ...], side: int) -> tf.Tensor:
    """What `resample` takes, float32[batch, 2, 3]: mirrored, then turned, zoomed and shifted."""

    def limited(name: str, limit: float) -> tf.Tensor:
        return drawn[name] * (limit if name.split("_")[0] in kinds else 0.0)

    angle = limited("rotate", MAX_ANGLE)
    zoom = 1 + limited("zoom", MAX_ZOOM)
    mirror = tf.where(drawn["flip"] < 0, -1.0, 1.0) if "flip" in kinds else 1.0
    cos, sin = tf.cos(angle) / zoom, tf.sin(angle) / zoom
    to_y = [cos, sin * mirror, limited("shift_y", MAX_SHIFT * side)]
    to_x = [-sin, cos * mirror, limited("shift_x", MAX_SHIFT * side)]
    return tf.stack([tf.stack(to_y, axis=1), tf.stack(to_x, axis=1)], axis=1)


def warp(pulls: tf.Tensor, side: int) -> tf.Tensor:
    """A smooth field of displacements, as of a hand that draws the same thing another time.

    Elastic distortion (Simard et al., 2003, "Best practices for convolutional neural networks
    applied to visual document analysis"), whose random field is here a cubic spline.

    Args:
      pulls: float32[batch, 2 n^2], the coefficients of the splines of y and of x, in pixels.
      side: Height and width of an image in pixels.

    Returns:
      float32[batch, 2, side, side], how far from a pixel it is taken, down and to the right.
    """
    count = math.isqrt(pulls.shape[1] // 2)
    knots = np.arange(-3, count + 1)
    places = (np.arange(side) + 0.5) / side * (count - 3)
    spline = tf.constant(BSpline.design_matrix(places, knots, 3).toarray(), tf.float32)
    grid = tf.reshape(pulls, [-1, 2, count, count])
    return tf.einsum("yi,baij,xj->bayx", spline, grid, spline)


def resample(
    images: tf.Tensor, transforms: tf.Tensor, offsets: tf.Tensor | None = None
) -> tf.Tensor:
    """Affine maps of images, with bilinear interpolation, and zeros around the images.

    Written with gathers: TensorFlow's own op for it does not compile with XLA.

    Args:
      images: float32[batch, side, side, 1].
      transforms: float32[batch, 2, 3]; row by row, the y and the x that the output pixel
        (y, x, 1) is taken from, in pixels from the centre of the image.
      offsets: float32[batch, 2, side, side], what is added to these y and x.

    Returns:
      float32[batch, side, side, 1].
    """
    side = images.shape[1]
    width = side + 2  # with a border of zeros
    (y, y_share), (x, x_share) = (
        _positions(transforms[:, axis], side, 0.0 if offsets is None else offsets[:, axis])
        for axis in (0, 1)
    )
    pixels = tf.reshape(tf.pad(images, [[0, 0], [1, 1], [1, 1], [0, 0]]), [-1])
    first_pixels = tf.range(draws.batch_size(images), dtype=tf.int64) * width**2
    corner = first_pixels[:, tf.newaxis, tf.newaxis] + tf.cast(y * width + x, tf.int64)

    def row(offset: int) -> tf.Tensor:
        left, right = tf.gather(pixels, corner + offset), tf.gather(pixels, corner + offset + 1)
        return left + x_share * (right - left)

    top, bottom = row(0), row(width)
    return (top + y_share * (bottom - top))[..., tf.newaxis]


def _positions(
    coefficients: tf.Tensor, side: int, offsets: tf.Tensor | float
) -> tuple[tf.Tensor, tf.Tensor]:
    """Where output pixels are taken from along one axis, in an image with a border of 1.

    Args:
      coefficients: float32[batch, 3], of y, x and 1.
      side: Of the image without the border.
      offsets: What is added, float32[batch, side, side] or a number.

    Returns:
      The pixel before, float32[batch, side, side], and the share of the one after it.
    """
    grid = tf.range(side, dtype=tf.float32) - (side - 1) / 2
    of_y, of_x, constant = tf.unstack(coefficients[:, :, tf.newaxis, tf.newaxis], axis=1)
    position = of_y * grid[:, tf.newaxis] + of_x * grid + constant + (side + 1) / 2 + offsets
    position = tf.clip_by_value(position, 0.0, side + 1.0)
    before = tf.minimum(tf.floor(position), float(side))
    return before, position - before


def sharpen(images: tf.Tensor) -> tf.Tensor:
    """Takes back the blur of `resample`, so that drawings look as those to be classified do.

    Between two pixels, a share f from the first, bilinear interpolation has a variance of
    f (1 - f); its mean over all f is 1/6. The kernel has a variance of -1/6 along each axis.

    Args:
      images: float32[batch, side, side, 1].

    Returns:
      float32[batch, side, side, 1] in [0, 1].
    """
    along = np.array([-1 / 12, 7 / 6, -1 / 12], np.float32)
    kernel = tf.constant(np.outer(along, along)[:, :, np.newaxis, np.newaxis])
    return tf.clip_by_value(tf.nn.conv2d(images, kernel, strides=1, padding="SAME"), 0.0, 1.0)


def change_strokes(images: tf.Tensor, amounts: tf.Tensor) -> tf.Tensor:
    """Makes strokes wider or narrower: blends with the 3x3 dilation or erosion.

    Args:
      images: float32[batch, side, side, 1].
      amounts: float32[batch] in [-1, 1]: 1 is the dilation, 0 the image, -1 the erosion.

    Returns:
      float32[batch, side, side, 1].
    """
    amounts = amounts[:, tf.newaxis, tf.newaxis, tf.newaxis]
    sign = tf.where(amounts < 0, -1.0, 1.0)  # an erosion is the dilation of the negative
    changed = sign * tf.nn.max_pool2d(sign * images, ksize=3, strides=1, padding="SAME")
    return images + tf.abs(amounts) * (changed - images)


def cut_out(images: tf.Tensor, corners: tf.Tensor, size: int) -> tf.Tensor:
    """Erases a square of each image (DeVries and Taylor, 2017, arXiv:1708.04552).

    Args:
      images: float32[batch, side, side, 1].
      corners: whole numbers [batch, 2], the y and x of its first pixel.
      size: Its side in pixels.

    Returns:
      float32[batch, side, side, 1].
    """
    corners = tf.cast(corners, tf.float32)
    distance = tf.range(images.shape[1], dtype=tf.float32) - corners[..., tf.newaxis]
    inside = (distance >= 0) & (distance < size)  # bool[batch, 2, side]
    square = inside[:, 0, :, tf.newaxis] & inside[:, 1, tf.newaxis, :]
    return tf.where(square[..., tf.newaxis], 0.0, images)
