"""Tests of quickdraw_tfrecords.sources.numpy_bitmap."""

import io
import os
import pickle
import shutil
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.sources.bitmap_files import BitmapFile
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource


def drawings(n: int, *, side: int = 28, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (n, side * side), np.uint8)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for seed, name in enumerate(("zigzag", "cat", "The Mona Lisa", "unheard of")):
        np.save(tmp_path / f"{name}.npy", drawings(20 + seed, seed=seed))
    return tmp_path


def test_a_folder_has_its_classes_in_label_order(folder):
    source = NumpyBitmapSource.open(folder)
    assert source.class_names == ("cat", "The Mona Lisa", "zigzag", "unheard of")
    assert source.counts == (21, 22, 20, 23)
    assert source.side == 28


@settings(deadline=None)
@given(rows=st.lists(st.integers(0, 19), unique=True).map(sorted))
def test_rows_are_those_of_numpy(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("bitmaps")
    np.save(path / "cat.npy", drawings(20))
    read = NumpyBitmapSource.open(path).read(0, np.array(rows, np.int64))
    np.testing.assert_array_equal(read, np.load(path / "cat.npy")[rows])


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_all_versions_of_the_format_are_read(tmp_path, version):
    with open(tmp_path / "cat.npy", "wb") as file:
        np.lib.format.write_array(file, drawings(5), version=version)
    source = NumpyBitmapSource.open(tmp_path)
    np.testing.assert_array_equal(source.read(0, np.arange(5)), drawings(5))


def test_only_the_wanted_classes_are_opened(folder):
    (folder / "broken.npy").write_bytes(b"not a .npy file")
    source = NumpyBitmapSource.open(folder, ["zigzag", "cat"])
    assert source.class_names == ("cat", "zigzag")
    with pytest.raises(DataError, match=r"broken.npy: not a .npy file"):
        NumpyBitmapSource.open(folder)


def test_the_source_can_be_sent_to_another_process(folder):
    source = NumpyBitmapSource.open(folder)
    assert pickle.loads(pickle.dumps(source)) == source


def test_the_description_has_the_size_and_the_version_of_each_file(folder):
    description = NumpyBitmapSource.open(folder, ["cat"]).describe()
    status = (folder / "cat.npy").stat()
    version = [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    assert description == {
        "kind": "numpy_bitmap",
        "files": {"cat.npy": {"drawings": 21, "bytes": status.st_size, "version": version}},
    }


def test_the_description_changes_with_a_drawing(folder):
    os.utime(folder / "cat.npy", (1e9, 1e9))
    before = NumpyBitmapSource.open(folder, ["cat"]).describe()
    changed = bytearray((folder / "cat.npy").read_bytes())
    changed[-1] ^= 1
    (folder / "cat.npy").write_bytes(changed)
    assert NumpyBitmapSource.open(folder, ["cat"]).describe() != before


def test_to_describe_reads_no_drawings(folder, monkeypatch):
    source = NumpyBitmapSource.open(folder)
    monkeypatch.setattr(os, "open", None)
    assert len(source.describe()["files"]) == 4


@pytest.mark.parametrize(
    ("array", "wrong"),
    [
        (drawings(5).astype(np.float32), "dtype is float32, must be uint8"),
        (drawings(5).astype(bool), "dtype is bool, must be uint8"),
        (drawings(5).view(np.int8), "dtype is int8, must be uint8"),
        (drawings(5).reshape(5, 28, 28), r"shape is \(5, 28, 28\), must be \(drawings, side"),
        (drawings(5)[:, :783], r"shape is \(5, 783\), must be"),
        (drawings(5)[:, :0], r"shape is \(5, 0\), must be"),
        (drawings(5)[0], r"shape is \(784,\), must be"),
        (np.asfortranarray(drawings(5)), "is in Fortran order, must be in C order"),
    ],
)
def test_an_array_of_another_form_is_refused(tmp_path, array, wrong):
    np.save(tmp_path / "cat.npy", array)
    with pytest.raises(DataError, match=f"{tmp_path}/cat.npy: {wrong}"):
        NumpyBitmapSource.open(tmp_path)


def test_nothing_is_unpickled(tmp_path):
    class Bomb:
        def __reduce__(self):
            return Path.touch, (tmp_path / "exploded",)

    np.save(tmp_path / "cat.npy", np.array([Bomb()], object), allow_pickle=True)
    (tmp_path / "dog.npy").write_bytes(pickle.dumps(Bomb()))
    for name, wrong in (("cat", "dtype is object"), ("dog", "not a .npy file")):
        with pytest.raises(DataError, match=f"{name}.npy: {wrong}"):
            NumpyBitmapSource.open(tmp_path, [name])
    assert not (tmp_path / "exploded").exists()
    np.load(tmp_path / "cat.npy", allow_pickle=True)
    assert (tmp_path / "exploded").exists()  # so it was one


@pytest.mark.parametrize("length", [0, 5, 60, 127])
def test_a_file_cut_in_its_header_is_refused(tmp_path, length):
    np.save(tmp_path / "cat.npy", drawings(5))
    with open(tmp_path / "cat.npy", "r+b") as file:
        file.truncate(length)
    with pytest.raises(DataError, match=r"cat.npy: not a .npy file"):
        NumpyBitmapSource.open(tmp_path)


@pytest.mark.parametrize("change", [-784, -1, 1, 784])
def test_a_file_of_another_length_is_refused(tmp_path, change):
    np.save(tmp_path / "cat.npy", drawings(5))
    promised = (tmp_path / "cat.npy").stat().st_size
    with open(tmp_path / "cat.npy", "r+b") as file:
        file.truncate(promised + change)
    with pytest.raises(DataError, match=rf"{promised + change:,} bytes, its header promises"):
        NumpyBitmapSource.open(tmp_path)


@pytest.mark.filterwarnings("ignore::UserWarning")
@settings(deadline=None, max_examples=400)
@given(place=st.integers(0, 127), value=st.integers(0, 255))
def test_a_damaged_header_is_refused_or_read_as_numpy_reads_it(tmp_path_factory, place, value):
    file = io.BytesIO()
    np.save(file, drawings(5))
    damaged = bytearray(file.getvalue())
    damaged[place] = value
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    path.write_bytes(damaged)
    try:
        opened = BitmapFile.open(path)
    except DataError as error:
        if not str(error).startswith(f"{path}: "):
            raise
        return
    np.testing.assert_array_equal(opened.read(np.arange(opened.count)), np.load(path))


@pytest.mark.parametrize("place", [8, 22, 26, 64])
def test_a_header_that_confuses_numpys_parser_is_refused(tmp_path, place):
    np.save(tmp_path / "cat.npy", drawings(20))
    content = bytearray((tmp_path / "cat.npy").read_bytes())
    content[place] = {8: 1, 22: ord(","), 26: ord("B"), 64: ord("-")}[place]
    (tmp_path / "cat.npy").write_bytes(content)
    with pytest.raises(DataError, match=r"cat.npy: (not a .npy file|shape is)"):
        NumpyBitmapSource.open(tmp_path)


def test_an_empty_class_counts_nothing(folder):
    np.save(folder / "cat.npy", drawings(0))
    source = NumpyBitmapSource.open(folder)
    assert source.counts[0] == 0
    assert source.side == 28


def test_files_of_different_sizes_are_refused(folder):
    np.save(folder / "zigzag.npy", drawings(5, side=64))
    with pytest.raises(
        DataError, match=r"zigzag.npy: drawings of 4096 pixels, but .*cat.npy has 784"
    ):
        NumpyBitmapSource.open(folder)


def test_another_side_is_as_good(tmp_path):
    np.save(tmp_path / "cat.npy", drawings(5, side=64))
    assert NumpyBitmapSource.open(tmp_path).side == 64


def test_a_file_that_shrinks_after_it_was_opened_is_named(folder):
    source = NumpyBitmapSource.open(folder, ["cat"])
    np.save(folder / "cat.npy", drawings(3))
    with pytest.raises(DataError, match=r"cat.npy: has become shorter"):
        source.read(0, np.array([20]))
    (folder / "cat.npy").write_bytes(b"")
    with pytest.raises(DataError, match=r"cat.npy: has become shorter"):
        source.read(0, np.array([20]))


@pytest.mark.parametrize(
    ("classes", "wrong"),
    [
        (["cat", "dog"], "no class 'dog'; it has 4 classes"),
        (["zigzak"], "no class 'zigzak'.*Did you mean 'zigzag'"),
        (["cat", "zigzag", "cat"], "'cat' is listed more than once"),
        (["../cat"], "'../cat' is not a class name"),
        (["sub/cat"], "'sub/cat' is not a class name"),
        ([".."], "'..' is not a class name"),
        ([], "name at least one class"),
    ],
)
def test_bad_classes_are_refused(folder, classes, wrong):
    with pytest.raises(UsageError, match=f"--classes: .*{wrong}"):
        NumpyBitmapSource.open(folder, classes)


def test_a_folder_that_is_missing_or_empty_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"--source_dir=.*/nowhere: no such directory"):
        NumpyBitmapSource.open(tmp_path / "nowhere")
    with pytest.raises(UsageError, match=r"--source_dir=.*: holds no .npy files"):
        NumpyBitmapSource.open(tmp_path)


def test_real_drawings_are_read_as_numpy_reads_them(real_bitmaps, tmp_path):
    for name in ("cat", "The Mona Lisa"):
        shutil.copy(real_bitmaps / f"{name}.npy", tmp_path)
    source = NumpyBitmapSource.open(tmp_path)
    for label, (name, count) in enumerate(zip(source.class_names, source.counts, strict=True)):
        rows = np.arange(0, count, 3)
        expected = np.load(real_bitmaps / f"{name}.npy")[rows]
        np.testing.assert_array_equal(source.read(label, rows), expected)


def header(text: str, *, version: bytes = b"\1\0", length: int | None = None) -> bytes:
    """A `.npy` header of a text of our own, and no drawings."""
    size = (len(text) if length is None else length).to_bytes(
        2 if version == b"\1\0" else 4, "little"
    )
    return b"\x93NUMPY" + version + size + text.encode()


FORM = "{'descr': '|u1', 'fortran_order': False, 'shape': %s, }\n"


@pytest.mark.parametrize(
    "content",
    [
        header(FORM % "(True, 784)"),
        header(FORM % "(-1, 784)"),
        header(FORM % "(1, -784)"),
        header(FORM % ("(" + "-" * 1000 + "1, 784)")),
        header(FORM % ("(" + "-" * 9000 + "1, 784)")),
        header(FORM % ("(" * 150 + ")" * 150)),
        header(FORM % f"({'9' * 4000}, 784)"),
        header(FORM % f"({'9' * 5000}, 784)"),
        header(FORM % "(1e400, 784)"),
        header(FORM % "(1j, 784)"),
        header("{'descr': [('', '|u1')] * 9, 'fortran_order': 0, 'shape': ()}\n"),
        header("{'descr': '|V99999999999', 'fortran_order': False, 'shape': (1, 784)}\n"),
        header("{'descr': {'names': 7}, 'fortran_order': False, 'shape': (1, 784)}\n"),
        header("[]\n"),
        header("\n"),
        header(FORM % "(1, 784)", version=b"\2\0", length=2**32 - 1),
        header(FORM % "(1, 784)", version=b"\x09\x09"),
    ],
    ids=range(17),
)
def test_a_hostile_header_is_one_clear_error(tmp_path, content):
    (tmp_path / "cat.npy").write_bytes(content)
    with pytest.raises(DataError, match=rf"^{tmp_path}/cat.npy: ") as caught:
        NumpyBitmapSource.open(tmp_path)
    assert len(str(caught.value)) < 1000


def test_a_long_header_is_not_read(tmp_path):
    """It may say that it has 4 GB."""
    with open(tmp_path / "cat.npy", "wb") as file:
        file.write(header("", version=b"\2\0", length=2**32 - 1))
        file.truncate(2**32)
    tracemalloc.start()
    with pytest.raises(DataError, match=r"cat.npy: not a .npy file"):
        NumpyBitmapSource.open(tmp_path)
    assert tracemalloc.get_traced_memory()[1] < 1e7
    tracemalloc.stop()


def test_what_python_2_wrote_is_read_without_a_word(tmp_path):
    """NumPy reads its numbers with an L, and warns of them."""
    content = io.BytesIO()
    np.save(content, drawings(5))
    path = tmp_path / "cat.npy"
    path.write_bytes(content.getvalue().replace(b"(5, 784), }  ", b"(5L, 784L), }"))
    assert b"5L" in path.read_bytes()
    with warnings.catch_warnings(action="error"):
        source = NumpyBitmapSource.open(tmp_path)
    np.testing.assert_array_equal(source.read(0, np.arange(5)), drawings(5))
