"""Tests of quickdraw_tfrecords.sources.synthetic."""

import json
import os
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import NearestCentroid

from quickdraw_tfrecords.base.class_names import in_label_order, quickdraw_class_names
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.sources.symbols import WRONG_CLASSES
from quickdraw_tfrecords.sources.synthetic import DRAWINGS_PER_CLASS, SyntheticSource

NAMES = ("cat", "apple", "tree", "zebra", "house")
ROWS = np.arange(600)


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(NAMES)


@pytest.fixture(scope="module")
def drawings(source) -> np.ndarray:
    """uint8[classes, rows, 28, 28]."""
    return np.stack([source.read(k, ROWS) for k in range(len(NAMES))]).reshape(5, -1, 28, 28)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.integers(0, len(ROWS) - 1), max_size=80), label=st.integers(0, 4))
def test_a_drawing_does_not_depend_on_the_rows_read_with_it(source, drawings, rows, label):
    images = source.read(label, np.array(rows, np.int64))
    np.testing.assert_array_equal(images, drawings[label, rows].reshape(-1, 784))


@settings(max_examples=20, deadline=None)
@given(row=st.integers(0, DRAWINGS_PER_CLASS - 1), count=st.integers(1, 9))
def test_far_rows_are_the_same_alone_and_in_company(source, row, count):
    rows = np.arange(max(0, row - count), row + 1)
    np.testing.assert_array_equal(source.read(0, rows)[-1:], source.read(0, rows[-1:]))


def test_every_process_draws_the_same(source, drawings):
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        images = pool.submit(source.read, 2, ROWS[::7]).result()
    np.testing.assert_array_equal(images, drawings[2, ::7].reshape(-1, 784))


def test_other_classes_do_not_change_a_class(source):
    alone = SyntheticSource(("tree",))
    label = source.class_names.index("tree")
    np.testing.assert_array_equal(alone.read(0, ROWS), source.read(label, ROWS))


def test_seeds_classes_and_rows_give_different_drawings(source, drawings):
    other = SyntheticSource(NAMES, seed=1).read(0, ROWS).reshape(-1, 28, 28)
    everything = np.concatenate([other, *drawings]).reshape(-1, 784)
    assert len(np.unique(everything, axis=0)) == len(everything)


@pytest.mark.parametrize("side", [20, 28, 64, 128])
def test_shape_and_dtype_follow_the_side(side):
    images = SyntheticSource(("cat",), side=side).read(0, np.array([3, 5]))
    assert images.dtype == np.uint8
    assert images.shape == (2, side**2)
    assert images.max() == 255


def test_a_larger_side_shows_the_same_drawing(source):
    rows = ROWS[:50]
    small = source.read(0, rows).reshape(-1, 28, 28).astype(float)
    large = SyntheticSource(NAMES, side=56).read(0, rows).reshape(-1, 28, 2, 28, 2)
    for image, halved in zip(small, large.mean(axis=(2, 4)), strict=True):
        assert np.corrcoef(image.ravel(), halved.ravel())[0, 1] > 0.95


def test_no_rows_give_no_drawings(source):
    assert source.read(0, np.array([], np.int64)).shape == (0, 784)


def test_drawings_fill_the_page_and_are_centered(drawings):
    ink = drawings.reshape(-1, 28, 28) > 32
    for across in (ink.any(axis=1), ink.any(axis=2)):
        first, last = across.argmax(axis=1), 27 - across[:, ::-1].argmax(axis=1)
        assert np.abs(first + last - 27).max() <= 2
        assert (first >= 1).mean() > 0.99
    extents = [np.ptp(np.argwhere(image), axis=0).max() + 1 for image in ink]
    assert np.quantile(extents, [0.01, 0.99]) == pytest.approx([25, 25], abs=1)


def test_ink_is_distributed_as_in_google_bitmaps(drawings):
    # Medians over 57 classes of Google's bitmaps: mean 0.168 of full ink, 0.28 of all
    # pixels inked, 0.16 of these full.
    images = np.concatenate([SyntheticSource().read(k, ROWS[:20]) for k in range(0, 345, 5)])
    inked = images > 0
    full = (images == 255).sum(axis=1) / inked.sum(axis=1)
    assert np.median(images.mean(axis=1)) / 255 == pytest.approx(0.168, abs=0.02)
    assert np.median(inked.mean(axis=1)) == pytest.approx(0.28, abs=0.04)
    assert np.median(full) == pytest.approx(0.16, abs=0.05)


@pytest.mark.skipif("QUICKDRAW_REAL" not in os.environ, reason="QUICKDRAW_REAL is not set")
def test_ink_is_distributed_as_in_real_drawings():
    files = Path(os.environ["QUICKDRAW_REAL"], "numpy_bitmap").glob("*.npy")
    real = np.concatenate([np.load(file)[:100] for file in files])
    source = SyntheticSource()
    images = np.concatenate([source.read(k, ROWS[:20]) for k in range(345)])
    quantiles = [0.1, 0.5, 0.9]
    np.testing.assert_allclose(
        np.quantile(images.mean(axis=1), quantiles),
        np.quantile(real.mean(axis=1), quantiles),
        rtol=0.15,
    )


def test_classes_can_be_learned_but_not_perfectly(drawings):
    blocks = drawings.reshape(5, -1, 7, 4, 7, 4).mean(axis=(3, 5)).reshape(5, -1, 49)
    train, test = blocks[:, :300].reshape(-1, 49), blocks[:, 300:].reshape(-1, 49)
    labels = np.repeat(np.arange(5), 300)
    accuracy = NearestCentroid().fit(train, labels).score(test, labels)
    assert 0.5 < accuracy < 0.97


@pytest.mark.slow
def test_every_class_has_a_symbol_of_its_own():
    source = SyntheticSource()
    means = np.stack([source.read(k, ROWS[:30]).mean(axis=0) for k in range(345)])
    distances = np.linalg.norm(means[:, None] - means, axis=2)
    repeats = np.linalg.norm(
        means - [source.read(k, ROWS[30:60]).mean(axis=0) for k in range(345)], axis=1
    )
    np.fill_diagonal(distances, np.inf)
    assert (distances.min(axis=1) > repeats).mean() > 0.95


def test_default_classes_are_those_of_quick_draw_in_label_order(source):
    assert SyntheticSource().class_names == quickdraw_class_names()
    assert source.class_names == in_label_order(NAMES)
    assert source.counts == (DRAWINGS_PER_CLASS,) * 5


def test_wrong_drawings_are_of_real_classes():
    assert set(WRONG_CLASSES) <= set(quickdraw_class_names())


def test_description_says_synthetic_and_tells_sources_apart(source):
    facts = json.loads(json.dumps(source.describe()))
    assert facts["kind"] == "synthetic"
    assert "not Google's" in facts["note"]
    assert facts == SyntheticSource(NAMES).describe()
    assert facts != SyntheticSource(NAMES, seed=1).describe()
    assert facts != SyntheticSource(NAMES, side=64).describe()


def test_a_pickled_source_is_the_same_source(source):
    assert pickle.loads(pickle.dumps(source)) == source


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"seed": -1}, "seed: -1"),
        ({"side": 19}, "side: 19"),
        ({"class_names": ()}, "at least one"),
        ({"class_names": ("cat", "cat")}, "'cat'.*more than once"),
        ({"class_names": ("a/b",)}, "'a/b'.*path"),
    ],
)
def test_misuse_is_refused(arguments, message):
    with pytest.raises(UsageError, match=message):
        SyntheticSource(**arguments)


def test_reading_needs_no_tensorflow(source):
    program = (
        "import pickle, sys, numpy\n"
        f"source = pickle.loads({pickle.dumps(source)!r})\n"
        "source.read(0, numpy.arange(3))\n"
        "print([m for m in sys.modules if m.startswith('tensorflow')])"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert run.stdout == "[]\n", run.stderr
