"""Tests of quickdraw_tfrecords.sources.image_folder."""

import json
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.bitmaps.pictures import to_bitmap
from quickdraw_tfrecords.sources.image_folder import ImageFolderSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig


def picture(seed: int, side: int = 28) -> np.ndarray:
    """uint8[side, side], blobs on black, whose border is black."""
    image = np.zeros((side, side), np.uint8)
    image[4:-4, 4:-4] = np.random.default_rng(seed).integers(0, 256, (side - 8, side - 8))
    return image


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Folders of 12 pictures each, of all the kinds that are read."""
    for number, name in enumerate(("zigzag", "cat", "my own")):
        (tmp_path / name).mkdir()
        for i in range(12):
            suffix = (".png", ".PNG", ".jpg", ".jpeg")[i % 4]
            page = Image.fromarray(picture(100 * number + i, side=28 if i % 4 < 2 else 90))
            page.save(tmp_path / name / f"{i:02}{suffix}")
    return tmp_path


@pytest.mark.parametrize("side", [28, 64])
def test_rows_are_the_pictures_by_name(folder, side):
    source = ImageFolderSource.open(folder, side=side)
    assert source.class_names == ("cat", "zigzag", "my own")
    assert source.counts == (12, 12, 12)
    rows = np.array([0, 2, 7, 11])
    for label, name in enumerate(source.class_names):
        paths = sorted((folder / name).iterdir())
        expected = [to_bitmap(Image.open(paths[row]), side).ravel() for row in rows]
        np.testing.assert_array_equal(source.read(label, rows), expected)


def test_bitmaps_saved_as_png_come_back_as_they_were(tmp_path):
    (tmp_path / "cat").mkdir()
    for i in range(5):
        Image.fromarray(picture(i)).save(tmp_path / "cat" / f"{i}.png")
    images = ImageFolderSource.open(tmp_path).read(0, np.arange(5))
    np.testing.assert_array_equal(images, [picture(i).ravel() for i in range(5)])


def test_a_conversion_holds_every_picture_once(folder, tmp_path, pool):
    source = ImageFolderSource.open(folder)
    settings = ConvertConfig(per_class=None, test_fraction=0.34, validation_fraction=0.3)
    directory = converter.convert(source, tmp_path / "data", settings, pool=pool)
    manifest = json.loads((directory / "manifest.json").read_text())
    assert manifest["request"]["drawings"] == [12, 12, 12]
    assert manifest["request"]["source"] == source.describe()


def test_other_files_are_passed_over(folder):
    (folder / "cat" / ".DS_Store").write_bytes(b"")
    (folder / "cat" / "notes.txt").write_text("of no class")
    (folder / "empty").mkdir()
    (folder / "README.md").write_text("of no class")
    source = ImageFolderSource.open(folder)
    assert source.class_names == ("cat", "zigzag", "my own")
    assert source.counts == (12, 12, 12)


@pytest.mark.parametrize("content", [b"", b"no picture", b"\x89PNG\r\n\x1a\n"])
def test_a_damaged_picture_is_named(folder, content):
    path = folder / "cat" / "04.png"
    path.write_bytes(content)
    source = ImageFolderSource.open(folder)
    with pytest.raises(DataError, match=r"cat/04.png: cannot be read as a picture"):
        source.read(0, np.arange(12))


@pytest.mark.parametrize("name", ["04.png", "06.jpg"])
def test_a_picture_cut_short_is_named(folder, name):
    path = folder / "cat" / name
    path.write_bytes(path.read_bytes()[:-300])
    with pytest.raises(DataError, match=rf"cat/{name}: cannot be read as a picture"):
        ImageFolderSource.open(folder).read(0, np.arange(12))


def test_what_is_sent_to_workers_is_small_and_reads_the_same(folder, pool):
    for i in range(3000):
        (folder / "cat" / f"{i:099}.png").write_bytes(b"")
    source = ImageFolderSource.open(folder)
    assert len(pickle.dumps(source)) < 2000
    rows = np.arange(12)
    np.testing.assert_array_equal(pool.submit(source.read, 1, rows).result(), source.read(1, rows))


def test_the_description_tells_one_from_another(folder):
    first = ImageFolderSource.open(folder).describe()
    assert ImageFolderSource.open(folder).describe() == first
    assert ImageFolderSource.open(folder, side=32).describe() != first
    a, b = folder / "cat" / "00.png", folder / "cat" / "04.png"
    shutil.move(a, folder / "kept")
    shutil.move(b, a)
    shutil.move(folder / "kept", b)  # the same files in another order
    assert ImageFolderSource.open(folder).describe() != first


def test_a_folder_without_classes_is_misuse(tmp_path):
    with pytest.raises(UsageError, match=r"--source_dir=.*/nowhere: no such directory"):
        ImageFolderSource.open(tmp_path / "nowhere")
    Image.fromarray(picture(0)).save(tmp_path / "cat.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match=r"must hold a folder for each class, with pictures"):
        ImageFolderSource.open(tmp_path)


def test_an_unknown_class_is_misuse(folder):
    with pytest.raises(UsageError, match=r"no class 'cta'.*Did you mean 'cat'"):
        ImageFolderSource.open(folder, ["cta"])


def _damage(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_bytes(b"no picture")


def test_broken_pictures_are_skipped_where_that_is_allowed(folder, pool, caplog):
    whole = ImageFolderSource.open(folder)
    _damage(folder, "cat/00.png", "cat/05.PNG", "zigzag/03.jpeg")
    source = ImageFolderSource.open(folder, pool=pool, max_bad=3)
    assert source.counts == (10, 11, 12)
    kept = [row for row in range(12) if row not in (0, 5)]
    np.testing.assert_array_equal(source.read(0, np.arange(10)), whole.read(0, np.array(kept)))
    assert caplog.text.count("skipped: ") == 3
    assert f"skipped: {folder}/cat/00.png: " in caplog.text


def test_more_broken_pictures_than_allowed_are_an_error(folder, pool):
    _damage(folder, "cat/00.png", "cat/05.PNG", "zigzag/03.jpeg")
    message = "cat/00.png: .*3 broken in all, --max_bad=2 allows 2.*--max_bad=3"
    with pytest.raises(DataError, match=message):
        ImageFolderSource.open(folder, pool=pool, max_bad=2)


def test_pictures_of_classes_that_are_not_wanted_may_be_broken(folder, pool):
    _damage(folder, "cat/00.png")
    source = ImageFolderSource.open(folder, ["zigzag"], pool=pool, max_bad=1)
    assert source.counts == (12,)
