"""Tests of quickdraw_tfrecords.bitmaps.rasterization; cairo called point by point is the oracle."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import rasterization

pytestmark = pytest.mark.usefixtures("cairo")

GOLDEN = Path(__file__).parents[2] / "golden"

coordinates = st.integers(0, 255)
points = st.lists(st.tuples(coordinates, coordinates), min_size=1, max_size=12)
drawings = st.lists(
    points.map(lambda xy: [list(axis) for axis in zip(*xy, strict=True)]), min_size=1
)


def draw_by_points(drawing, side: int) -> np.ndarray:
    """The published method in cairo's own calls, one per point, on a page of colors."""
    cairocffi = rasterization.load_cairo()
    surface = cairocffi.ImageSurface(cairocffi.FORMAT_ARGB32, side, side)
    context = cairocffi.Context(surface)
    context.set_antialias(cairocffi.ANTIALIAS_BEST)
    context.set_line_cap(cairocffi.LINE_CAP_ROUND)
    context.set_line_join(cairocffi.LINE_JOIN_ROUND)
    context.set_line_width(16)
    context.scale(side / 304, side / 304)
    context.set_source_rgb(1, 1, 1)
    context.translate(24, 24)
    left, top = ((256 - max(max(stroke[axis]) for stroke in drawing)) / 2 for axis in (0, 1))
    for xs, ys in drawing:
        for x, y in zip(xs[:1] + xs, ys[:1] + ys, strict=True):
            context.line_to(left + x, top + y)
        context.stroke()
    page = np.frombuffer(surface.get_data(), np.uint8).reshape(side, -1, 4)
    return page[:, :, 0].flatten()


def test_golden_drawings_are_drawn_as_ever():
    lines = (GOLDEN / "drawings.ndjson").read_bytes().splitlines()
    images = rasterization.rasterize([rasterization.parse(line)["drawing"] for line in lines])
    np.testing.assert_array_equal(images, np.load(GOLDEN / "drawings.npy"))


def test_real_drawings_equal_googles_bitmaps(real_bitmaps):
    """1,923 of 1,927 are identical; the others were simplified by another program."""
    different = []
    with open(real_bitmaps.parent / "counts.csv") as file:
        aligned = {
            row["class"]: int(row["bitmap_rows_aligned_with_strokes"])
            for row in csv.DictReader(file)
        }
    total = 0
    for name, rows in aligned.items():
        lines = (real_bitmaps.parent / "strokes" / f"{name}.ndjson").read_bytes().splitlines()
        pairs = [rasterization.parse(line)["drawing"] for line in lines[:rows]]
        bitmaps = np.load(real_bitmaps / f"{name}.npy")[: len(pairs)]
        errors = np.abs(rasterization.rasterize(pairs).astype(int) - bitmaps).max(axis=1, initial=0)
        different += [(name, int(row), int(errors[row])) for row in np.flatnonzero(errors)]
        total += len(pairs)
    print(f"{total - len(different)} of {total} identical; (class, row, largest difference):")
    print(*different, sep="\n")
    assert total >= 1927
    assert len(different) <= 4
    assert max(error for *_, error in different) <= 21


@settings(deadline=None, max_examples=40)
@given(batch=st.lists(drawings, max_size=4), side=st.integers(1, 70))
def test_whole_paths_are_drawn_as_points_are(batch, side):
    images = rasterization.rasterize(batch, side)
    assert images.shape == (len(batch), side * side)
    for image, drawing in zip(images, batch, strict=True):
        np.testing.assert_array_equal(image, draw_by_points(drawing, side))


def test_drawings_do_not_depend_on_those_before():
    lines = (GOLDEN / "drawings.ndjson").read_bytes().splitlines()
    batch = [rasterization.parse(line)["drawing"] for line in lines]
    together = rasterization.rasterize(batch, 64)
    for image, drawing in zip(together, batch, strict=True):
        np.testing.assert_array_equal(image, rasterization.rasterize([drawing], 64)[0])


def test_a_time_is_left_out():
    plain, timed = [[[0, 9], [0, 255]]], [[[0, 9], [0, 255], [0, 130]]]
    np.testing.assert_array_equal(
        rasterization.rasterize([plain]), rasterization.rasterize([timed])
    )


def test_a_raw_drawing_is_moved_and_scaled_first():
    simplified = [[[0, 255, 255], [0, 0, 128]], [[128], [64]]]
    raw = [
        [[10.5 + v * 3 for v in x], [-7 + v * 3 for v in y], [0] * len(x)] for x, y in simplified
    ]
    np.testing.assert_array_equal(
        rasterization.rasterize([raw], raw=True), rasterization.rasterize([simplified])
    )


@pytest.mark.parametrize(
    ("line", "wrong"),
    [
        ("", "not JSON"),
        ('{"drawing":[[[1,2],[3', "not JSON"),
        (b"\xff\xfe\xfd\xfc", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[1]", "must be a JSON object with the key 'drawing'"),
        ('{"word":"cat"}', "must be a JSON object with the key 'drawing'"),
        ('{"drawing":null}', "must be a list of strokes, not None"),
        ('{"drawing":[]}', "the drawing is empty"),
        ('{"drawing":[[]]}', "stroke 1: must be the lists x and y"),
        ('{"drawing":[[[1],[1]],7]}', "stroke 2: must be the lists x and y.*not 7"),
        ('{"drawing":[[[1],[1]],[[],[]]]}', "stroke 2: is empty"),
        ('{"drawing":[[[1,2,3],[1,2]]]}', "stroke 1: x has 3 numbers, y has 2"),
        ('{"drawing":[[[1,2],[1,"2"]]]}', "stroke 1: y must be a list of finite numbers"),
        ('{"drawing":[[[1,2],[1,null]]]}', "stroke 1: y must be a list of finite numbers"),
        ('{"drawing":[[[1,NaN],[1,2]]]}', "stroke 1: x must be a list of finite numbers"),
        ('{"drawing":[[[1,2],[1,1e999]]]}', "stroke 1: y must be a list of finite numbers"),
        ('{"drawing":[[[1,2],[1,1' + "0" * 400 + "]]]}", "stroke 1: y must be a list of finite"),
        ('{"drawing":[[7,[1,2]]]}', "stroke 1: x must be a list of finite numbers, not 7"),
        ('{"drawing":[["ab",[1,2]]]}', "stroke 1: x must be a list of finite numbers, not 'ab'"),
    ],
)
def test_a_broken_line_says_what_is_wrong(line, wrong):
    with pytest.raises(DataError, match=wrong):
        rasterization.outline([rasterization.parse(line)["drawing"]])


@pytest.mark.parametrize(
    ("drawing", "wrong"),
    [
        ([], "the drawing is empty"),
        ([[[1, 2], [1]]], "x has 2 numbers, y has 1"),
        ([[[1, 2], ["1", "2"]]], "y must be a list of finite numbers"),
        ([[[1, 2], [float("nan"), 2]]], "y must be a list of finite numbers"),
        ([[[], []]], "is empty"),
        ([[5, 5]], "x must be a list"),
        ([[[0, 700], [0, 255]]], r"coordinates from 0 to 700, .*stroke_format=raw"),
        ([[[-3, 7], [0, 255]]], r"coordinates from -3 to 255"),
    ],
)
def test_a_bad_drawing_among_good_ones_is_refused(drawing, wrong):
    with pytest.raises(DataError, match=wrong):
        rasterization.rasterize([[[[0, 255], [0, 9]]], drawing])


@pytest.mark.parametrize("raises", ["ImportError", "OSError"])
def test_without_cairo_there_is_one_line_on_what_to_install(tmp_path, raises):
    (tmp_path / "cairocffi.py").write_text(f"raise {raises}('no library called cairo')")
    program = (
        "from quickdraw_tfrecords.base import cli\n"
        "from quickdraw_tfrecords.bitmaps import rasterization\n"
        "cli.run(lambda: rasterization.rasterize([[[[0], [0]]]]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{Path.cwd()}"},
    )
    assert run.returncode == 1
    assert run.stderr.startswith("error: drawing strokes needs cairo: install it with 'pip install")
    assert "libcairo2" in run.stderr
    assert run.stderr.count("\n") == 1
