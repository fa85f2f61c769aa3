"""Augmentation, against SciPy and against itself in other batches, steps and compilers."""

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.interpolate import BSpline

from tests.trainer.training.test_steps import make_config
from trainer.training import augmentation
from trainer.training.augmentation import (
    KINDS,
    augment,
    change_strokes,
    cut_out,
    resample,
    sharpen,
    warp,
)
from trainer.training.objective import Objective, Part

SIDE, BATCH, CLASSES = 28, 96, 4
ALL_FLIP = np.ones(CLASSES, bool)
LABELS = np.arange(BATCH, dtype=np.int32) % CLASSES


def drawings(count: int = BATCH, side: int = SIDE, seed: int = 0) -> np.ndarray:
    """A thick stroke near the middle of each image, float32[count, side, side, 1]."""
    generator = np.random.default_rng(seed)
    images = np.zeros([count, side, side, 1], np.float32)
    low, high = side // 3, side - side // 3
    for image, (y, x) in zip(images, generator.integers(low, high, [count, 2]), strict=True):
        image[y - 1 : y + 2, low:high] = 1.0
        image[low:high, x - 1 : x + 2] = 0.7
    return images


def augmented(kinds: tuple[str, ...], images: np.ndarray, seed=(3, 5), **kwargs) -> np.ndarray:
    """What `augment` gives in a graph, where training calls it."""
    arguments = {"labels": LABELS[: len(images)], "flip_allowed": ALL_FLIP} | kwargs
    jit_compile = arguments.pop("jit_compile", False)

    @tf.function(jit_compile=jit_compile)
    def run(images: tf.Tensor, labels: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return augment(images, labels, kinds, seed=seed, **arguments)

    return run(images, arguments.pop("labels"), tf.constant(seed, tf.int64)).numpy()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    return drawings()


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in KINDS], KINDS])
def test_changes_images_but_not_their_range_shape_and_dtype(kinds, images):
    result = augmented(kinds, images)
    assert (result.shape, result.dtype) == (images.shape, np.float32)
    assert result.min() >= 0
    assert result.max() <= 1
    changed = np.any(result != images, axis=(1, 2, 3)).mean()
    assert changed > (0.3 if kinds in [("flip",), ("cutout",)] else 0.9)
    assert len({image.tobytes() for image in result - images}) > BATCH // 4


def test_changes_nothing_without_kinds(images):
    np.testing.assert_array_equal(augmented((), images), images)


def test_is_a_function_of_the_seed(images):
    first = augmented(KINDS, images, seed=(3, 5))
    np.testing.assert_array_equal(first, augmented(KINDS, images, seed=(3, 5)))
    for other in ((3, 6), (4, 5), (5, 3)):
        same = np.all(first == augmented(KINDS, images, seed=other), axis=(1, 2, 3))
        assert same.mean() < 0.1


@pytest.mark.parametrize("replicas", [2, 3])
def test_is_the_same_on_several_replicas_as_on_one(replicas, images):
    whole = augmented(KINDS, images)
    parts = [
        augmented(KINDS, part, labels=labels, replica=tf.constant(replica), replicas=replicas)
        for replica, (part, labels) in enumerate(
            zip(np.split(images, replicas), np.split(LABELS, replicas), strict=True)
        )
    ]
    np.testing.assert_allclose(np.concatenate(parts), whole, atol=1e-6)


def test_a_training_step_augments_by_run_step_and_replica(images):
    config = make_config(augment=KINDS, seed=3)
    objective = Objective(None, config, flip_allowed=ALL_FLIP)
    parts = [
        objective.augment(
            tf.constant(part), tf.constant(labels), step=tf.constant(5, tf.int64), part=Part(at, 2)
        )
        for at, (part, labels) in enumerate(
            zip(np.split(images, 2), np.split(LABELS, 2), strict=True)
        )
    ]
    expected = augmented(KINDS, images, seed=(3, 5))
    np.testing.assert_allclose(np.concatenate(parts), expected, atol=1e-4)


@pytest.mark.parametrize("kinds", [*[(kind,) for kind in KINDS], KINDS])
def test_is_the_same_under_xla(kinds, images):
    compiled = augmented(kinds, images, jit_compile=True)
    np.testing.assert_allclose(compiled, augmented(kinds, images), atol=1e-4)


def test_a_kind_does_the_same_whatever_the_others(images):
    cut = augmented(("cutout",), np.ones_like(images))
    both = augmented(("flip", "cutout"), np.ones_like(images))
    np.testing.assert_array_equal(cut, both)


# --- resampling ----------------------------------------------------------------------------------


def scipy_resample(image: np.ndarray, transform: np.ndarray) -> np.ndarray:
    """The same by SciPy, whose coordinates begin at the first pixel."""
    centre = (np.array(image.shape) - 1) / 2
    offset = transform[:, 2] + centre - transform[:, :2] @ centre
    return ndimage.affine_transform(
        image.astype(np.float64), transform[:, :2], offset, order=1, mode="grid-constant"
    )


@settings(deadline=None, derandomize=True, database=None, max_examples=100)
@given(
    side=st.sampled_from([3, 8, 13]),
    seed=st.integers(0, 1000),
    coefficients=st.lists(
        st.tuples(*[st.floats(-2, 2, width=32)] * 2, st.floats(-20, 20, width=32)),
        min_size=2,
        max_size=2,
    ),
)
def test_resample_is_scipys_affine_transform(side, seed, coefficients):
    image = np.random.default_rng(seed).random([side, side]).astype(np.float32)
    transform = np.array(coefficients, np.float64)
    result = resample(image[np.newaxis, ..., np.newaxis], transform[np.newaxis].astype(np.float32))
    np.testing.assert_allclose(result[0, ..., 0], scipy_resample(image, transform), atol=1e-4)


@pytest.mark.parametrize("side", [28, 29])
def test_resample_by_whole_pixels_and_mirrors_is_exact(side):
    image = np.random.default_rng(0).random([1, side, side, 1]).astype(np.float32)
    identity, mirror = [[1, 0, 0], [0, 1, 0]], [[1, 0, 0], [0, -1, 0]]
    turned, shifted = [[0, 1, 0], [-1, 0, 0]], [[1, 0, 2], [0, 1, -1]]
    np.testing.assert_array_equal(resample(image, np.float32([identity])), image)
    np.testing.assert_array_equal(resample(image, np.float32([mirror])), image[:, :, ::-1])
    np.testing.assert_array_equal(
        resample(image, np.float32([turned])), np.rot90(image, axes=(1, 2))
    )
    np.testing.assert_array_equal(
        resample(image, np.float32([shifted])),
        np.pad(image, [[0, 0], [0, 2], [1, 0], [0, 0]])[:, 2:, :-1],
    )


def moments(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ink, float64[batch], and its centre from that of the image, float64[batch, 2]."""
    grid = np.arange(images.shape[1]) - (images.shape[1] - 1) / 2
    ink = images.sum(axis=(1, 2, 3), dtype=np.float64)
    y = (images[..., 0].sum(axis=2) * grid).sum(axis=1) / ink
    x = (images[..., 0].sum(axis=1) * grid).sum(axis=1) / ink
    return ink, np.stack([y, x], axis=1)


def test_shift_moves_the_ink_within_its_limit_and_keeps_it(images):
    (ink, centre), (ink_after, centre_after) = (
        moments(images),
        moments(augmented(("shift",), images)),
    )
    np.testing.assert_allclose(ink_after, ink, rtol=0.03)  # sharpening clips
    moved = centre_after - centre
    limit = augmentation.MAX_SHIFT * SIDE
    assert np.abs(moved).max() <= limit + 0.05
    assert (moved.min(axis=0) < -limit / 2).all()
    assert (moved.max(axis=0) > limit / 2).all()


def test_rotation_turns_the_ink_about_the_centre_within_its_limit_and_keeps_it(images):
    (ink, centre), (ink_after, centre_after) = (
        moments(images),
        moments(augmented(("rotate",), images)),
    )
    np.testing.assert_allclose(ink_after, ink, rtol=0.05)
    before, after = centre @ [1j, 1], centre_after @ [1j, 1]
    far = np.abs(before) > 1
    np.testing.assert_allclose(np.abs(after[far]), np.abs(before[far]), rtol=0.05)
    angles = np.angle(after[far] / before[far])
    assert np.abs(angles).max() <= augmentation.MAX_ANGLE + 0.05
    assert angles.min() < -0.1
    assert angles.max() > 0.1


def test_zoom_scales_the_ink_by_the_square_of_its_factor(images):
    ink, centre = moments(images)
    ink_after, centre_after = moments(augmented(("zoom",), images))
    factors = np.sqrt(ink_after / ink)
    assert (abs(factors - 1) <= augmentation.MAX_ZOOM + 0.02).all()
    assert factors.min() < 0.93
    assert factors.max() > 1.07
    np.testing.assert_allclose(centre_after, factors[:, np.newaxis] * centre, atol=0.2)


# --- sharpening ----------------------------------------------------------------------------------


def test_sharpening_brings_a_blurred_drawing_back_to_what_it_was():
    """On average over the places between pixels, where bilinear interpolation blurs."""
    grid = np.arange(SIDE) - SIDE / 2
    offsets = np.random.default_rng(4).random([200, 2])  # of a pixel

    def blobs(centers: np.ndarray) -> np.ndarray:
        """Gaussian, of a stroke's width, float32[batch, side, side, 1]."""
        y, x = np.exp(-((grid - centers[:, :, np.newaxis]) ** 2) / 2).swapaxes(0, 1)
        return np.float32(0.8 * y[:, :, np.newaxis] * x[:, np.newaxis])[..., np.newaxis]

    shifts = np.concatenate([np.tile(np.eye(2), [200, 1, 1]), offsets[..., np.newaxis]], axis=2)
    blurred = resample(blobs(offsets), np.float32(shifts)).numpy()
    exact = blobs(np.zeros([200, 2]))
    error, mended = (
        np.abs(np.mean(images, axis=0) - exact[0]).max() for images in (blurred, sharpen(blurred))
    )
    assert mended < error / 3


def test_sharpening_leaves_what_is_even_as_it_is():
    images = np.full([2, 9, 9, 1], 0.4, np.float32)
    np.testing.assert_allclose(sharpen(images)[:, 1:-1, 1:-1], images[:, 1:-1, 1:-1], atol=1e-6)


# --- warps ---------------------------------------------------------------------------------------


def test_a_warp_is_scipys_spline():
    pulls = np.random.default_rng(0).uniform(-1, 1, [2, 2, 6, 6])
    field = warp(np.float32(pulls.reshape(2, -1)), SIDE)
    places = (np.arange(SIDE) + 0.5) / SIDE * 3
    spline = BSpline(np.arange(-3, 7), np.moveaxis(pulls, (2, 3), (0, 1)), 3)
    rows = np.moveaxis(spline(places), 1, 0)
    expected = np.moveaxis(BSpline(np.arange(-3, 7), rows, 3)(places), (0, 1), (3, 2))
    np.testing.assert_allclose(field, expected, atol=1e-5)


def test_resample_with_offsets_is_scipys_map_coordinates(images):
    offsets = np.random.default_rng(1).uniform(-4, 4, [BATCH, 2, SIDE, SIDE]).astype(np.float32)
    identity = np.tile(np.float32([[1, 0, 0], [0, 1, 0]]), [BATCH, 1, 1])
    grid = np.mgrid[:SIDE, :SIDE]
    expected = [
        ndimage.map_coordinates(image[..., 0], grid + moved, order=1, mode="grid-constant")
        for image, moved in zip(images, offsets, strict=True)
    ]
    found = resample(images, identity, offsets)[..., 0]
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_a_warp_moves_parts_of_a_drawing_apart_and_leaves_its_ink_nearly(images):
    warped = augmented(("warp",), images)
    (ink, center), (ink_after, center_after) = moments(images), moments(warped)
    assert 0.9 < np.median(ink_after / ink) < 1.1
    assert np.abs(center_after - center).max() < augmentation.MAX_WARP * SIDE
    shifted = [
        ndimage.shift(image[..., 0], after - before, order=1)
        for image, before, after in zip(images, center, center_after, strict=True)
    ]
    assert np.abs(warped[..., 0] - shifted).max(axis=(1, 2)).min() > 0.1  # it is no mere shift


# --- flips ---------------------------------------------------------------------------------------


def test_flip_mirrors_about_half_of_the_allowed_classes_and_no_other(images):
    lopsided = images * np.linspace(0, 1, SIDE, dtype=np.float32)[:, np.newaxis]
    allowed = np.array([True, False, True, False])
    result = augmented(("flip",), lopsided, flip_allowed=allowed)
    mirrored = np.all(result == lopsided[:, :, ::-1], axis=(1, 2, 3))
    kept = np.all(result == lopsided, axis=(1, 2, 3))
    assert (mirrored ^ kept).all()
    assert not mirrored[~allowed[LABELS]].any()
    assert 0.25 < mirrored[allowed[LABELS]].mean() < 0.75


# --- strokes and cutout --------------------------------------------------------------------------


def test_strokes_go_from_scipys_erosion_over_the_image_to_its_dilation(images):
    images = np.random.default_rng(1).random([5, 11, 11, 1]).astype(np.float32)
    result = change_strokes(images, np.float32([-1, 0, 1, -0.5, 0.25]))[..., 0]
    # Reflection repeats the edge, so that what is outside the image does not count.
    eroded = [ndimage.grey_erosion(image, size=3, mode="reflect") for image in images[..., 0]]
    dilated = [ndimage.grey_dilation(image, size=3, mode="reflect") for image in images[..., 0]]
    same = images[..., 0]
    expected = [
        eroded[0],
        same[1],
        dilated[2],
        (eroded[3] + same[3]) / 2,
        0.75 * same[4] + 0.25 * dilated[4],
    ]
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_stroke_makes_some_wider_and_some_narrower(images):
    ratio = moments(augmented(("stroke",), images))[0] / moments(images)[0]
    assert ratio.min() < 0.85
    assert ratio.max() > 1.15


def test_cut_out_erases_the_square_and_nothing_else():
    images = np.random.default_rng(2).uniform(0.1, 1, [3, 9, 9, 1]).astype(np.float32)
    corners = np.int32([[0, 0], [5, 5], [2, 4]])
    expected = images.copy()
    for image, (y, x) in zip(expected, corners, strict=True):
        image[y : y + 4, x : x + 4] = 0
    np.testing.assert_array_equal(cut_out(images, corners, 4), expected)


def test_cutout_erases_a_square_of_one_size_anywhere():
    ones = np.ones([2000, 8, 8, 1], np.float32)
    result = augmented(("cutout",), ones, labels=np.zeros(2000, np.int32))
    erased = result[..., 0] == 0
    assert (erased.sum(axis=(1, 2)) == 4).all()
    corners = {tuple(np.argwhere(image)[0]) for image in erased}
    assert corners == {(y, x) for y in range(7) for x in range(7)}
