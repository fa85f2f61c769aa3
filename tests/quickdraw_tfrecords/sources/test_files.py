"""Tests of quickdraw_tfrecords.sources.files, and of all sources with files that change or wait."""

import contextlib
import dataclasses
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.base.files import open_regular
from quickdraw_tfrecords.format import manifest
from quickdraw_tfrecords.sources import Source
from quickdraw_tfrecords.sources.bitmap_files import BitmapFile
from quickdraw_tfrecords.sources.files import FileVersion, open_unchanged
from quickdraw_tfrecords.sources.image_folder import ImageFolderSource
from quickdraw_tfrecords.sources.ndjson import NdjsonSource
from quickdraw_tfrecords.sources.npz import NpzSource
from quickdraw_tfrecords.sources.numpy_bitmap import NumpyBitmapSource
from quickdraw_tfrecords.sources.tfds import TfdsSource
from quickdraw_tfrecords.writing import converter, filling
from quickdraw_tfrecords.writing.config import ConvertConfig

pytestmark = pytest.mark.usefixtures("cairo")

ROWS = np.arange(5)


def save_bitmaps(folder: Path) -> Path:
    np.save(folder / "cat.npy", np.full((5, 784), 7, np.uint8))
    return folder / "cat.npy"


def save_strokes(folder: Path) -> Path:
    (folder / "cat.ndjson").write_text('{"drawing": [[[0, 255], [0, 9]]]}\n' * 5)
    return folder / "cat.ndjson"


def save_npz(folder: Path) -> Path:
    drawings = np.empty(5, object)
    drawings[:] = [np.ones((k + 2, 3), np.int16) for k in range(5)]
    np.savez(folder / "cat.npz", train=drawings)
    return folder / "cat.npz"


def save_pictures(folder: Path) -> Path:
    (folder / "cat").mkdir()
    for k in range(5):
        Image.new("L", (28, 28), 20 * k).save(folder / "cat" / f"{k}.png")
    return folder / "cat" / "3.png"


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[..., Source]]] = {
    "numpy_bitmap": (save_bitmaps, lambda folder, pool: NumpyBitmapSource.open(folder)),
    "strokes": (save_strokes, NdjsonSource.open),
    "npz": (save_npz, NpzSource.open),
    "image_folder": (save_pictures, lambda folder, pool: ImageFolderSource.open(folder)),
}


def make_old(path: Path) -> None:
    """So that a change shows: clocks tick a few hundred times a second."""
    os.utime(path, (1e9, 1e9))


def overwrite(path: Path) -> None:
    """Writes in place; neither name nor size nor form tells."""
    content = path.read_bytes()
    with open(path, "r+b") as file:
        file.write(content)


def replace(path: Path) -> None:
    shutil.copy2(path, path.with_suffix(".new"))
    os.replace(path.with_suffix(".new"), path)


def lengthen(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"\n")


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "npz"])
@pytest.mark.parametrize("change", [overwrite, replace, lengthen])
def test_a_file_that_changes_is_neither_read_nor_described(tmp_path, pool, kind, change):
    save, open_source = KINDS[kind]
    path = save(tmp_path)
    make_old(path)
    source = open_source(tmp_path, pool=pool)
    source.read(0, ROWS)
    change(path)
    with pytest.raises(DataError, match=rf"^{path}: was changed while it was being read"):
        source.read(0, ROWS)
    if kind == "image_folder":  # the others describe what they opened
        with pytest.raises(DataError, match=rf"^{path}: was changed"):
            source.describe()


def test_a_npz_file_is_read_at_opening_alone(tmp_path, pool):
    path = save_npz(tmp_path)
    source = NpzSource.open(tmp_path, pool=pool)
    path.write_bytes(b"")
    assert source.read(0, ROWS).shape == (5, 784)


@pytest.mark.parametrize("change", [overwrite, replace, lengthen])
def test_a_tfds_file_that_changes_is_neither_read_nor_described(tmp_path, data_dir, change):
    folder = shutil.copytree(data_dir / "quickdraw" / "1.0.0", tmp_path / "1.0.0")
    source = TfdsSource.open(folder)
    for path in folder.glob("*.tfrecord-*"):
        change(path)
    with pytest.raises(DataError, match=r"tfrecord-.*: was changed while it was being read"):
        source.read(0, ROWS)
    with pytest.raises(DataError, match=r"tfrecord-.*: was changed while it was being read"):
        source.describe()


def test_a_change_during_the_reading_is_found(tmp_path):
    path = save_bitmaps(tmp_path)
    make_old(path)
    opened = open_unchanged(path, FileVersion.of(path))
    opened.__enter__().read()
    overwrite(path)
    with pytest.raises(DataError, match="was changed while it was being read"):
        opened.__exit__(None, None, None)


@pytest.mark.parametrize("kind", KINDS)
def test_a_fifo_is_not_waited_for(tmp_path, pool, kind):
    save, open_source = KINDS[kind]
    path = save(tmp_path)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=f"^{path}: is not a regular file"):
        open_source(tmp_path, pool=pool).read(0, ROWS)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "npz"])
def test_a_fifo_in_place_of_a_file_is_not_waited_for(tmp_path, pool, kind):
    save, open_source = KINDS[kind]
    path = save(tmp_path)
    source = open_source(tmp_path, pool=pool)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=f"^{path}: is not a regular file"):
        source.read(0, ROWS)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", [" ", "a\nb", "a\u2028b", " e"])
def test_a_class_name_that_would_shift_labels_is_refused(tmp_path, pool, kind, name):
    save, open_source = KINDS[kind]
    path = save(tmp_path)
    path = path.parent if kind == "image_folder" else path
    path.rename(path.with_name(path.name.replace("cat", name)))
    with pytest.raises(UsageError, match=r"a class name must have 1 to 100 printable characters"):
        open_source(tmp_path, pool=pool)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/tty", "/dev/stdin"])
def test_a_device_is_an_error(path):
    with contextlib.suppress(OSError), pytest.raises(DataError, match="is not a regular file"):
        open_regular(Path(path))


def test_a_file_cut_short_while_it_is_read_is_an_error(tmp_path):
    """Memory-mapped, it would kill the process."""
    path = tmp_path / "cat.npy"
    np.save(path, np.zeros((20_000, 784), np.uint8))
    make_old(path)
    file, was_cut, is_over = BitmapFile.open(path), threading.Event(), threading.Event()

    def keep_cutting() -> None:
        while not is_over.is_set():
            os.truncate(path, 100)
            os.truncate(path, 128 + 20_000 * 784)
            was_cut.set()

    thread = threading.Thread(target=keep_cutting)
    thread.start()
    was_cut.wait()
    try:
        for _ in range(100):
            with pytest.raises(DataError, match=r"was changed|has become shorter"):
                file.read(np.arange(0, 20_000, 7))
    finally:
        is_over.set()
        thread.join()


@dataclasses.dataclass(frozen=True)
class OverwrittenSource:
    """Bitmaps that another program overwrites as soon as something of them is written."""

    source: NumpyBitmapSource
    shards: Path

    def __getattr__(self, name: str) -> Any:
        return getattr(object.__getattribute__(self, "source"), name)

    def __reduce__(self):
        return OverwrittenSource, (self.source, self.shards)

    def read(self, label: int, rows: np.ndarray) -> np.ndarray:
        if list(self.shards.glob(".quickdraw-*")):
            for file in self.source.files:
                np.save(file.path, np.zeros((file.count, file.pixels), np.uint8))
        return self.source.read(label, rows)


def test_files_that_are_overwritten_during_a_conversion_end_it(tmp_path, pool, monkeypatch):
    """Nothing of what they hold then is written, or the next run would take it for sound."""
    folder, random = tmp_path / "bitmaps", np.random.default_rng(0)
    folder.mkdir()
    for name in ("cat", "tree", "zigzag"):
        np.save(folder / f"{name}.npy", random.integers(1, 256, (300, 784), np.uint8))
        make_old(folder / f"{name}.npy")
    root = tmp_path / "data" / "quickdraw"
    source = OverwrittenSource(NumpyBitmapSource.open(folder), root / "1.0.0.incomplete")
    monkeypatch.setattr(filling, "_LEAST_PIECE_BYTES", 50_000)
    monkeypatch.setattr(filling, "_WRITE_BYTES", 1)
    with pytest.raises(DataError, match=r"\.npy: was changed while it was being read"):
        converter.convert(source, tmp_path / "data", ConvertConfig(per_class=300), pool=pool)
    assert not (root / "1.0.0").exists()
    layout = manifest.read_manifest(root / "1.0.0.incomplete", finished=False).layout
    filled = list(source.shards.glob(".quickdraw-*"))
    assert filled
    for path in filled:
        matrix = np.fromfile(path, np.uint8).reshape(-1, layout.stride)
        assert layout.images(matrix[matrix.any(axis=1)]).all()
