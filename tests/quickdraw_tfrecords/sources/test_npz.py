"""Tests of quickdraw_tfrecords.sources.npz and object_arrays; numpy's own reader is the oracle."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.sources import npz
from quickdraw_tfrecords.sources.npz import NpzSource
from quickdraw_tfrecords.sources.object_arrays import read_arrays

pytestmark = pytest.mark.usefixtures("cairo")


def scribble(random: np.random.Generator) -> list[list[list[int]]]:
    """Strokes that fill 0 to 255, as simplified ones do."""
    return [[[0, 255], [0, 255]]] + [
        random.integers(0, 256, (2, random.integers(1, 9))).tolist() for _ in range(3)
    ]


def to_steps(drawing, dtype=np.int16) -> np.ndarray:
    """Sketch-RNN's form: steps in x and y, and 1 where the pen is lifted."""
    rows = [
        (x, y, place == len(xs) - 1)
        for xs, ys in drawing
        for place, (x, y) in enumerate(zip(xs, ys, strict=True))
    ]
    points = np.array(rows, np.float64)
    points[1:, :2] -= points[:-1, :2].copy()
    return points.astype(dtype)


def save(path: Path, **splits) -> None:
    arrays = {}
    for name, drawings in splits.items():
        arrays[name] = np.empty(len(drawings), object)
        arrays[name][:] = drawings
    np.savez_compressed(path, **arrays)


random = np.random.default_rng(0)
DRAWINGS = [scribble(random) for _ in range(50)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    steps = [to_steps(drawing) for drawing in DRAWINGS]
    save(tmp_path / "cat.npz", test=steps[40:], train=steps[:30], valid=steps[30:40])
    save(tmp_path / "zigzag.full.npz", train=steps[:20])
    return tmp_path


@pytest.mark.parametrize("side", [28, 50])
def test_rows_are_the_strokes_of_train_then_valid_then_test(folder, pool, side, monkeypatch):
    monkeypatch.setattr(npz, "_BATCH", 7)
    source = NpzSource.open(folder, pool=pool, side=side)
    assert source.class_names == ("cat", "zigzag")
    assert source.counts == (50, 20)
    expected = rasterization.rasterize(DRAWINGS, side)
    np.testing.assert_array_equal(source.read(0, np.arange(50)), expected)
    rows = np.array([0, 3, 19])
    np.testing.assert_array_equal(source.read(1, rows), expected[rows])
    np.testing.assert_array_equal(source.source_rows(0, rows), rows)


@pytest.mark.parametrize(
    ("dtype", "scale", "shift"),
    [(np.int32, 1, 100), (np.int32, 4, -3000), (np.float32, 0.25, 0.1), (np.float64, 0.01, -1)],
)
def test_drawings_of_another_extent_are_fitted(tmp_path, pool, dtype, scale, shift):
    drawings = [
        [[[v * scale + shift for v in axis] for axis in stroke] for stroke in drawing]
        for drawing in ([[[0, 255], [0, 255]], [[4, 100], [60, 80]]], [[[0, 0], [0, 255]]])
    ]
    save(tmp_path / "cat.npz", train=[to_steps(drawing, dtype) for drawing in drawings])
    image = NpzSource.open(tmp_path, pool=pool).read(0, np.arange(2))
    plain = rasterization.rasterize(
        [[[[0, 255], [0, 255]], [[4, 100], [60, 80]]], [[[0, 0], [0, 255]]]]
    )
    assert np.abs(image.astype(int) - plain).max() <= 1


def test_drawings_of_one_length_may_be_one_array(tmp_path, pool):
    same = [[[[0, 255], [0, 9]]], [[[0, 255], [255, 0]]]]
    np.savez(tmp_path / "cat.npz", train=np.stack([to_steps(drawing) for drawing in same]))
    source = NpzSource.open(tmp_path, pool=pool)
    np.testing.assert_array_equal(source.read(0, np.arange(2)), rasterization.rasterize(same))


@pytest.mark.parametrize(
    ("drawing", "wrong"),
    [
        (np.zeros((0, 3), np.int16), r"has the shape \(0, 3\)"),
        (np.zeros((4, 2), np.int16), r"has the shape \(4, 2\), must be \(points, 3\)"),
        (np.array([[0, 0, 0], [np.nan, 1, 1]]), "numbers that are not finite"),
        (np.array([[0, 0, 0], [1e300, 1, 1]]), "not finite, or far too large"),
        (np.array([["1", "2", "3"]]), "must be an array of numbers"),
        (None, "must be an array of numbers"),
    ],
)
def test_a_broken_drawing_is_named_and_counted(tmp_path, pool, drawing, wrong):
    steps = [to_steps(drawing) for drawing in DRAWINGS[:4]]
    save(tmp_path / "cat.npz", train=steps[:2], valid=[steps[2], drawing, steps[3]])
    with pytest.raises(DataError, match=f"cat.npz: valid, drawing 1: .*{wrong}.*; 1 broken in all"):
        NpzSource.open(tmp_path, pool=pool)
    source = NpzSource.open(tmp_path, pool=pool, max_bad=1)
    np.testing.assert_array_equal(source.source_rows(0, np.arange(4)), [0, 1, 2, 4])
    np.testing.assert_array_equal(
        source.read(0, np.arange(4)), rasterization.rasterize(DRAWINGS[:4])
    )


class Bomb:
    """Would make a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self):
        return Path.touch, (self._path,)


@pytest.mark.parametrize("nested", [False, True])
def test_nothing_is_run(tmp_path, pool, nested):
    bomb = np.array([Bomb(tmp_path / "exploded")], object)
    save(tmp_path / "cat.npz", train=[to_steps(DRAWINGS[0]), bomb if nested else bomb[0]])
    with pytest.raises(DataError, match=r"cat.npz: train: refers to pathlib.*nothing is run"):
        NpzSource.open(tmp_path, pool=pool)
    assert not (tmp_path / "exploded").exists()
    np.load(tmp_path / "cat.npz", allow_pickle=True)["train"]
    assert (tmp_path / "exploded").exists()  # so it was one


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_of_all_protocols_are_those_of_numpy(tmp_path, protocol):
    arrays = np.empty(3, object)
    arrays[:] = [
        np.arange(6, dtype=np.int16).reshape(2, 3),
        np.ones((1, 3)),
        np.zeros((4, 3), "u1"),
    ]
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|O", "fortran_order": False, "shape": (3,)}
    )
    pickle.dump(arrays, file, protocol=protocol)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train.npy", file.getvalue())
    ((key, found),) = read_arrays(tmp_path / "a.npz", ("test", "train"))
    assert key == "train"
    expected = np.load(tmp_path / "a.npz", allow_pickle=True)["train"]
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)


def test_pickles_of_python_2_are_read(tmp_path):
    """Protocol 2 as Python 2 writes it: data in strings, which are bytes there."""
    array = np.arange(6, dtype="<i2").reshape(2, 3)
    content = (
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x01\x85cnumpy\ndtype\nU\x02O8K\x00K\x01\x87R(K\x03U\x01|NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK?tb\x89]"
        b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02i2K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xff"
        b"J\xff\xff\xff\xffK\x00tb\x89U\x0c" + array.tobytes() + b"tbatb."
    )
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        file, {"descr": "|O", "fortran_order": False, "shape": (1,)}
    )
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("train.npy", file.getvalue() + content)
    ((_, found),) = read_arrays(tmp_path / "a.npz", ("train",))
    np.testing.assert_array_equal(found[0], array)


@pytest.fixture(scope="module")
def small(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("npz") / "small.npz"
    steps = [to_steps(drawing) for drawing in DRAWINGS[:2]]
    arrays = np.empty(2, object)
    arrays[:] = steps
    np.savez(path, train=arrays)  # stored, so that a change reaches the pickle
    return path.read_bytes()


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_damaged_file_is_one_clear_error(small, tmp_path_factory, data):
    place = data.draw(st.integers(0, len(small) - 1))
    damaged = bytearray(small)
    damaged[place] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        damaged = damaged[:place]
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(damaged)
    try:
        for _, array in read_arrays(path, ("train",)):
            list(array)
    except DataError as error:
        if not str(error).startswith(f"{path}: "):
            raise


@pytest.mark.parametrize(
    ("arrays", "wrong"),
    [
        ({"strokes": np.zeros(3)}, "must have one of the arrays train, valid, test"),
        ({"train": np.zeros((3, 3))}, r"train: must be an array of drawings, not \(3, 3\)"),
    ],
)
def test_other_arrays_are_refused(tmp_path, pool, arrays, wrong):
    np.savez(tmp_path / "cat.npz", **arrays)
    with pytest.raises(DataError, match=rf"cat\.npz: {wrong}"):
        NpzSource.open(tmp_path, pool=pool)


def test_two_files_of_one_class_are_refused(folder, pool):
    save(folder / "zigzag.npz", train=[to_steps(DRAWINGS[0])])
    with pytest.raises(DataError, match=r"zigzag.full.npz: is of the same class as zigzag.npz"):
        NpzSource.open(folder, pool=pool)


def test_a_folder_without_files_is_misuse(tmp_path, pool):
    with pytest.raises(UsageError, match=r"holds no .npz files"):
        NpzSource.open(tmp_path, pool=pool)


def test_the_description_tells_one_from_another(folder, pool):
    first = NpzSource.open(folder, pool=pool).describe()
    assert json.loads(json.dumps(first)) == NpzSource.open(folder, pool=pool).describe()
    save(folder / "cat.npz", train=[to_steps(DRAWINGS[0])] * 50)
    assert NpzSource.open(folder, pool=pool).describe() != first
