"""Tests of quickdraw_tfrecords.bitmaps.simplification; a recursion is the oracle."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import rasterization, simplification
from quickdraw_tfrecords.bitmaps.polylines import MAX_POINTS, Polylines
from quickdraw_tfrecords.bitmaps.simplification import simplify

finite = st.floats(-1e4, 1e4).map(lambda value: round(value, 2))
stroke = st.lists(st.tuples(finite, finite), min_size=1, max_size=8).map(
    lambda xy: [list(axis) for axis in zip(*xy, strict=True)]
)
drawing = st.lists(stroke, min_size=1, max_size=4)


def split(polylines: Polylines) -> list[list[np.ndarray]]:
    """float64[n, 2] of each stroke of each drawing."""
    strokes = iter(np.split(polylines.points, np.cumsum(polylines.lengths)[:-1]))
    return [[next(strokes) for _ in range(count)] for count in polylines.strokes]


def fit(strokes: list[np.ndarray]) -> list[np.ndarray]:
    points = np.concatenate(strokes)
    low, extent = points.min(0), np.ptp(points, axis=0).max()
    return [(stroke - low) * (255 / extent if extent else 1) for stroke in strokes]


def resample(stroke: np.ndarray) -> np.ndarray:
    position = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(stroke, axis=0).T))])
    wanted = [*np.arange(0, position[-1]), position[-1]]
    return np.stack([np.interp(wanted, position, axis) for axis in stroke.T], axis=1)


def distances_to_line(points: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if (a == b).all():
        return np.linalg.norm(points - a, axis=1)
    direction = (b - a) / np.linalg.norm(b - a)
    return np.abs((points - a) @ [-direction[1], direction[0]])


def rdp(points: np.ndarray) -> np.ndarray:
    if len(points) < 3:
        return points
    distances = distances_to_line(points, points[0], points[-1])
    cut = distances.argmax()
    if distances[cut] <= 2:
        return points[[0, -1]]
    return np.concatenate([rdp(points[: cut + 1])[:-1], rdp(points[cut:])])


@settings(deadline=None, max_examples=60)
@given(batch=st.lists(drawing, min_size=1, max_size=3))
def test_simplified_lines_keep_near_to_every_point(batch):
    before = Polylines.of(batch)
    after = simplify(before)
    np.testing.assert_array_equal(after.strokes, before.strokes)
    np.testing.assert_array_equal(after.points, np.rint(after.points))
    for given_strokes, found_strokes in zip(split(before), split(after), strict=True):
        corners = np.concatenate(found_strokes)
        assert corners.min() >= 0
        assert corners.max() <= 255
        for wanted, found in zip(fit(given_strokes), found_strokes, strict=True):
            ends = wanted[[0, -1]] if len(found) > 1 else wanted[-1:]
            assert np.abs(found[[0, -1]][: len(ends)] - ends).max() <= 0.5 + 1e-6


def test_wavy_strokes_are_simplified_as_a_recursion_does_it():
    random = np.random.default_rng(0)
    batch = []
    for _ in range(20):
        walks = [random.normal(size=(2, random.integers(1, 200))).cumsum(1) for _ in range(3)]
        batch.append([walk.tolist() for walk in walks])
    before = Polylines.of(batch)
    for given_strokes, found in zip(split(before), split(simplify(before)), strict=True):
        expected = [np.rint(rdp(resample(stroke))) for stroke in fit(given_strokes)]
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)


def test_no_drawings_stay_none():
    assert not len(simplify(Polylines.of([])).strokes)


def test_a_drawing_does_not_depend_on_the_others():
    random = np.random.default_rng(1)
    batch = [[random.normal(size=(2, 40)).cumsum(1).tolist()] for _ in range(5)]
    together = split(simplify(Polylines.of(batch)))
    for drawing_, strokes in zip(batch, together, strict=True):
        np.testing.assert_array_equal(split(simplify(Polylines.of([drawing_])))[0], strokes)


@pytest.mark.parametrize(
    ("drawing_", "expected"),
    [
        ([[[40], [70]]], [[[0, 0]]]),
        ([[[40, 40, 40], [70, 70, 70]]], [[[0, 0]]]),
        ([[[0, 5, 10], [0, 0, 0]]], [[[0, 0], [255, 0]]]),
        ([[[0, 10, 0], [0, 0, 0]]], [[[0, 0], [255, 0], [0, 0]]]),
        ([[[1000, 2000], [0, 0]], [[1500], [0]]], [[[0, 0], [255, 0]], [[128, 0]]]),
    ],
)
def test_plain_shapes(drawing_, expected):
    (found,) = split(simplify(Polylines.of([drawing_])))
    assert [stroke.tolist() for stroke in found] == expected


def winding(count: int) -> list[list[float]]:
    """A stroke that Ramer, Douglas and Peucker can only shorten point by point."""
    angle, radius = np.arange(count) * np.pi / 2, np.linspace(127, 3, count)
    return [[*(radius * np.cos(angle)), 0.0], [*(radius * np.sin(angle)), 0.0]]


@pytest.mark.parametrize("long", [1, 4, 256])
def test_long_and_short_pieces_are_cut_alike(monkeypatch, long):
    random = np.random.default_rng(2)
    batch = [[random.normal(size=(2, 300)).cumsum(1).tolist(), winding(300)] for _ in range(3)]
    expected = simplify(Polylines.of(batch))
    monkeypatch.setattr(simplification, "_LONG", long)
    found = simplify(Polylines.of(batch))
    np.testing.assert_array_equal(found.points, expected.points)
    np.testing.assert_array_equal(found.lengths, expected.lengths)


def test_a_stroke_to_and_fro_stays_as_small_as_it_was():
    """At a spacing of 1, it is 2.5 million points long."""
    stroke = [[0, 1000] * (MAX_POINTS // 2), list(range(MAX_POINTS))]
    before = Polylines.of([[stroke]])
    assert len(simplification._resample(before).points) <= 2 * MAX_POINTS
    assert len(simplify(before).points) <= 2 * MAX_POINTS


def test_what_is_looked_at_in_batches_does_not_grow_quadratically(monkeypatch):
    looked_at = []
    distances = simplification._distances

    def count(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
        looked_at.append(len(points) if start.ndim == 2 else 0)
        return distances(points, start, end)

    monkeypatch.setattr(simplification, "_distances", count)
    kept = simplify(Polylines.of([[winding(4000)]]))
    assert len(kept.points) > 3900
    assert sum(looked_at) < 4000 * simplification._LONG


def test_more_points_than_a_hand_makes_are_an_error():
    halves = [[[0] * (MAX_POINTS // 2)] * 2] * 2
    assert len(rasterization.outline([halves], raw=True).points) == MAX_POINTS
    for raw in (True, False):
        with pytest.raises(DataError, match=r"has 20,001 points, must have 20,000 at most"):
            rasterization.outline([[[[0], [0]]], [*halves, [[7], [7]]]], raw=raw)


@pytest.mark.parametrize(
    ("extent", "expected"),
    [
        (5e-324, [[0, 0]]),  # 255 divided by it is no number
        (1e-300, [[0, 0]]),
        (1e-3, [[0, 0], [255, 0]]),
        (1e9, [[0, 0], [255, 0]]),
    ],
)
def test_any_extent_is_drawn_or_a_dot(extent, expected):
    (found,) = split(simplify(Polylines.of([[[[0, extent], [0, 0]]]])))
    assert found[0].tolist() == expected


@pytest.mark.parametrize("far", [1.1e9, -1e300, 1.7e308])
def test_coordinates_too_far_off_are_an_error(far):
    with pytest.raises(DataError, match=r"a coordinate is .*e\+.*, none must be beyond 1e\+09"):
        rasterization.outline([[[[0, far], [0, 0]]]], raw=True)
