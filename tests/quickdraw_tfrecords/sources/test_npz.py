"""Tests of quickdraw_tfrecords.sources.npz and object_arrays; numpy's own reader is the oracle."""

import io
import itertools
import json
import pickle
import pickletools
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.sources import npz, object_arrays
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
    with open(tmp_path / "a.npz", "rb") as file:
        ((key, found),) = read_arrays(file, ("test", "train"))
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
    with open(tmp_path / "a.npz", "rb") as file:
        ((_, found),) = read_arrays(file, ("train",))
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
        with open(path, "rb") as file:
            for _, array in read_arrays(file, ("train",)):
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


# Pickles that mean harm.


def npz_with(path: Path, pickled: bytes, length: int) -> None:
    """A file whose array `train` is a pickle of our own."""
    file = io.BytesIO()
    form = {"descr": "|O", "fortran_order": False, "shape": (length,)}
    np.lib.format.write_array_header_1_0(file, form)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("train.npy", file.getvalue() + pickled)


def read(path: Path) -> list:
    with open(path, "rb") as file:
        ((_, found),) = read_arrays(file, ("train",))
    return found


DRAWING = np.array([[1, 2, 0], [3, 4, 1]], np.int16)


def pickled(*arrays: np.ndarray, protocol: int = 2) -> bytes:
    whole = np.empty(len(arrays), object)
    whole[:] = arrays
    return pickle.dumps(whole, protocol)


def test_bytes_do_not_become_pointers(tmp_path):
    """An array of objects that says it has none takes its content for addresses."""
    plain = pickled(np.full((1, 3), 0x4141414141414141))
    i8 = plain.rindex(b"K\x03X\x01\x00\x00\x00<")  # the dtype's state
    pointers = plain.replace(b"X\x02\x00\x00\x00i8", b"X\x02\x00\x00\x00O8")
    assert pointers[i8:] == plain[i8:]
    npz_with(tmp_path / "a.npz", pointers, 1)
    assert read(tmp_path / "a.npz") == [None]


SMALL = pickled(DRAWING)
OUTER, INNER = SMALL.index(b"]"), SMALL.rindex(b"K\x03X")

HOSTILE = {
    "a memo of 2 ** 32": b"\x80\x02Nr\xff\xff\xff\xff.",
    "bytes of 2 ** 63": b"\x80\x04\x8e\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "bytes of -1": b"\x80\x04\x96\xff\xff\xff\xff\xff\xff\xff\xff.",
    "a frame of 2 ** 63": b"\x80\x04\x95\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a deep tuple as a key": b"\x80\x02})" + b"\x85" * 1_000_000 + b"Ns.",
    "a deep tuple": b"\x80\x02)" + b"\x85" * 100_000 + b".",
    "a list in itself": b"\x80\x02]\x94h\x00a.",
    "a call of a result": SMALL[:-1] + b")R.",
    "a call of a string": b"\x80\x02U\x04evil)R.",
    "arguments that are none": b"\x80\x02cnumpy\ndtype\nNR.",
    "the state of a function": b"\x80\x02cnumpy\ndtype\n}b.",
    "the state of a list": b"\x80\x02]}b.",
    "a second state": SMALL[:-1] + b")b.",
    "an object made by its class": b"\x80\x02cnumpy\nndarray\nK\x05\x85\x81.",
    "an instance": b"(icnumpy\nndarray\n.",
    "a persistent id": b"\x80\x02K\x00Q.",
    "an extension": b"\x80\x02\x82\x01.",
    "a number without end": b"I" + b"9" * 10_000 + b"\n.",
    "no stack": b"\x80\x02R.",
    "no mark": b"\x80\x02t.",
    "no memo": b"\x80\x02h\x07.",
    "no end": b"\x80\x02N",
    "nothing": b"",
    "another function": b"\x80\x02cos\nsystem\n.",
    "another function of NumPy": b"\x80\x02cnumpy\nfromfile\n.",
    "a shape of 2 ** 62": SMALL.replace(b"K\x02K\x03\x86", b"\x8a\x08" + b"\x00" * 7 + b"@\x85"),
    "a shape of -1": SMALL.replace(b"K\x02K\x03\x86", b"J\xff\xff\xff\xff\x85"),
    "a shape of True": SMALL.replace(b"K\x02K\x03\x86", b"\x88K\x06\x86"),
    "a shape of 65 axes": SMALL.replace(b"K\x02K\x03\x86", b"(K\x06" + b"K\x01" * 64 + b"t"),
    "a shape of too much": SMALL.replace(b"K\x02K\x03\x86", b"K\x02K\x04\x86"),
    "a dtype of flags": SMALL[:INNER] + SMALL[INNER:].replace(b"K\x00t", b"K\x3ft"),
    "a dtype of fields": SMALL[:INNER] + SMALL[INNER:].replace(b"NNN", b"N)]"),
    "a dtype that is none": SMALL.replace(b"i2", b"i9"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_pickle_is_one_clear_error(tmp_path, name):
    npz_with(tmp_path / "a.npz", HOSTILE[name], 1)
    tracemalloc.start()
    with pytest.raises(DataError, match=f"^{tmp_path}/a.npz: train: "):
        read(tmp_path / "a.npz")
    assert tracemalloc.get_traced_memory()[1] < 200e6
    tracemalloc.stop()


@settings(deadline=None, max_examples=150)
@given(data=st.data(), protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_instructions_in_any_order_are_arrays_or_an_error(tmp_path_factory, data, protocol):
    whole = pickled(DRAWING, DRAWING.astype("f8"), np.array([["a"]]), protocol=protocol)
    starts = [place for *_, place in pickletools.genops(whole)]
    pieces = [whole[a:b] for a, b in itertools.pairwise([*starts, len(whole)])]
    for _ in range(data.draw(st.integers(1, 5))):
        place = data.draw(st.integers(0, len(pieces)))
        change = data.draw(st.sampled_from(["insert", "delete", "replace"]))
        pieces[place : place + (change != "insert")] = (
            [] if change == "delete" else [data.draw(st.sampled_from(pieces))]
        )
        pieces = pieces or [b"."]
    path = tmp_path_factory.getbasetemp() / "instructions.npz"
    npz_with(path, b"".join(pieces), 3)
    try:
        found = read(path)
    except DataError as error:
        if not str(error).startswith(f"{path}: train: "):
            raise
        return
    assert all(array is None or array.dtype.kind in "iuf" for array in found)


def test_one_array_in_place_of_millions_is_refused(tmp_path):
    large = np.ones((20_000, 3), np.int8)
    npz_with(tmp_path / "a.npz", pickled(*[large] * 10_000, protocol=4), 10_000)
    assert (tmp_path / "a.npz").stat().st_size < 100_000
    with pytest.raises(DataError, match=r"train: has 600,000,000 numbers, must have 100,000,000"):
        read(tmp_path / "a.npz")


def test_a_bomb_of_zeros_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(object_arrays, "_MAX_ARRAY_BYTES", 10_000_000)
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("train.npy", bytes(11_000_000))
    with pytest.raises(DataError, match=r"a.npz: .*train.npy has more than 10,000,000 bytes"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_other_ways_of_compression_are_refused(tmp_path, method):
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("train.npy", bytes(1000))
    with pytest.raises(DataError, match=r"a.npz: .*train.npy is compressed in a way that NumPy"):
        read(tmp_path / "a.npz")


@pytest.mark.parametrize("points", [20_001, 100_000])
def test_a_drawing_of_more_points_than_a_hand_makes_is_broken(tmp_path, pool, points):
    save(tmp_path / "cat.npz", train=[DRAWING, np.ones((points, 3), np.int16)])
    with pytest.raises(DataError, match=rf"drawing 1: has {points:,} points, must have 20,000"):
        NpzSource.open(tmp_path, pool=pool)
    assert NpzSource.open(tmp_path, pool=pool, max_bad=1).counts == (1,)


def test_steps_too_far_off_are_broken(tmp_path, pool):
    save(tmp_path / "cat.npz", train=[DRAWING, np.full((3, 3), 9e8)])
    with pytest.raises(DataError, match=r"drawing 1: goes 2\.7e\+09 away from where it begins"):
        NpzSource.open(tmp_path, pool=pool)


def test_a_drawing_does_not_depend_on_those_before_it(tmp_path, pool):
    """Sums of fractions would."""
    random = np.random.default_rng(4)
    drawings = [random.normal(size=(20, 3)), DRAWING, np.full((5, 3), 1e8), DRAWING] * 3
    save(tmp_path / "cat.npz", train=drawings)
    save(tmp_path / "dog.npz", train=[DRAWING])
    source = NpzSource.open(tmp_path, pool=pool)
    (expected,) = source.read(1, np.array([0]))
    for image in source.read(0, np.array([1, 3, 5, 11])):
        np.testing.assert_array_equal(image, expected)
