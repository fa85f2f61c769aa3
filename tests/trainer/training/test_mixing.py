"""Mixtures of drawings: what they are made of, how often, and the same on every device."""

import numpy as np
import pytest
import tensorflow as tf

from quickdraw_tfrecords.base.errors import UsageError
from tests.trainer.training.test_steps import make_batches, make_config, make_model, make_steps
from trainer.training import mixing
from trainer.training.mixing import KINDS, Mixed
from trainer.training.objective import Part

SIDE, BATCH = 12, 2000
LABELS = np.arange(BATCH, dtype=np.int32)
# Every drawing is of one gray, which no other has: so a pixel says whose it is.
IMAGES = np.broadcast_to(
    np.linspace(0.1, 1, BATCH, dtype=np.float32)[:, None, None, None], [BATCH, SIDE, SIDE, 1]
)
WAYS = [("mixup",), ("cutmix",), KINDS]


def _mix(kinds: tuple[str, ...], *, part=slice(None), seed=(3, 5), jit_compile=False, **kwargs):
    @tf.function(jit_compile=jit_compile)
    def run(images: tf.Tensor, labels: tf.Tensor) -> Mixed:
        return mixing.mix(images, labels, kinds, seed=tf.constant(seed, tf.int64), **kwargs)

    return Mixed(*(part.numpy() for part in run(IMAGES[part], LABELS[part])))


@pytest.mark.parametrize("kinds", WAYS)
def test_the_share_of_a_label_is_that_of_its_pixels(kinds):
    """The mean pixel is the mean of the two grays, weighted as the labels are."""
    mixed = _mix(kinds)
    np.testing.assert_array_equal(mixed.partners, LABELS ^ 1)  # each pair's other
    grays = IMAGES[:, 0, 0, 0]
    expected = mixed.shares * grays + (1 - mixed.shares) * grays[mixed.partners]
    np.testing.assert_allclose(mixed.images.mean(axis=(1, 2, 3)), expected, atol=1e-6)
    assert ((mixed.shares >= 0) & (mixed.shares <= 1)).all()


def test_mixup_blends_all_pixels_and_cutmix_pastes_a_rectangle():
    blended, pasted = (_mix((kind,)).images[..., 0] for kind in KINDS)
    assert (np.ptp(blended, axis=(1, 2)) < 1e-6).all()
    grays = IMAGES[:, 0, 0, 0]
    for image, own, other in zip(pasted[:200], grays[:200], grays[LABELS ^ 1], strict=False):
        assert set(np.unique(image)) <= {own, other}
        rows, columns = (np.any(image == other, axis=axis) for axis in (1, 0))
        np.testing.assert_array_equal(image == other, rows[:, None] & columns)


@pytest.mark.parametrize("kinds", WAYS)
def test_half_of_the_drawings_are_mixed(kinds):
    mixed = _mix(kinds)
    left = np.all(mixed.images == IMAGES, axis=(1, 2, 3))
    np.testing.assert_allclose(mixed.shares[left], 1, atol=1e-3)  # of a blend that rounds to one
    assert left.mean() == pytest.approx(0.5, abs=0.1)  # a rectangle may fall outside
    if kinds == KINDS:
        is_blended = np.ptp(mixed.images, axis=(1, 2, 3)) < 1e-6
        assert (is_blended & ~left).mean() == pytest.approx(0.25, abs=0.05)


def test_mixups_shares_are_of_the_arcsine_distribution():
    """A third of Beta(1/2, 1/2) is below 1/4, and a third above 3/4."""
    shares = _mix(("mixup",)).shares
    shares = shares[shares < 1]
    for low, high in ((0, 0.25), (0.25, 0.75), (0.75, 1)):
        assert ((shares >= low) & (shares < high)).mean() == pytest.approx(1 / 3, abs=0.06)


@pytest.mark.parametrize("replicas", [2, 4])
def test_is_the_same_on_several_replicas_as_on_one(replicas):
    whole, size = _mix(KINDS), BATCH // replicas
    for replica in range(replicas):
        part = slice(replica * size, (replica + 1) * size)
        found = _mix(KINDS, part=part, replica=tf.constant(replica), replicas=replicas)
        for one, other in zip(found, whole, strict=True):
            np.testing.assert_allclose(one, other[part], atol=1e-6)


def test_is_a_function_of_the_seed():
    first, again, other = (_mix(KINDS, seed=seed) for seed in ((3, 5), (3, 5), (3, 6)))
    np.testing.assert_array_equal(first.images, again.images)
    assert (first.shares == other.shares).mean() < 0.5


@pytest.mark.parametrize("kinds", WAYS)
def test_is_the_same_under_xla(kinds):
    for one, other in zip(_mix(kinds, jit_compile=True), _mix(kinds), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5)


@pytest.mark.parametrize("size", [6, 7])
def test_drawings_that_cannot_be_paired_are_refused(size):
    def make() -> object:
        return make_steps(make_model(), make_config(augment=("flip", "mixup"), batch_size=size))

    if size % 2 == 0:
        assert make()
        return
    message = "--augment=flip,mixup mixes drawings in pairs, and --batch_size=7 gives each of 1"
    with pytest.raises(UsageError, match=message):
        make()


@pytest.mark.parametrize("kinds", [("mixup",), KINDS, ()])
def test_the_loss_is_that_of_both_labels(kinds):
    ((images, labels),) = make_batches(1, 16)
    model = make_model()
    config = make_config(augment=kinds, label_smoothing=0.1, seed=7)
    objective = make_steps(model, config)._objective
    step = tf.constant(2, tf.int64)
    losses, logits = objective(images, labels, step=step, part=Part(), side=None)
    seed = tf.constant([7 + 2**32, 2], tf.int64)
    shares = np.ones(16)
    if kinds:
        shares = mixing.mix(images / np.float32(255), labels, kinds, seed=seed).shares.numpy()
    targets = shares[:, None] * np.eye(5)[labels]
    targets += (1 - shares)[:, None] * np.eye(5)[labels.reshape(8, 2)[:, ::-1].ravel()]
    targets = 0.9 * targets + 0.1 / 5
    expected = tf.nn.softmax_cross_entropy_with_logits(targets.astype(np.float32), logits)
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
