"""Tests of quickdraw inspect."""

import dataclasses
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow_datasets as tfds
from PIL import Image

from quickdraw_tfrecords.base.class_names import quickdraw_class_names
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.commands import inspect
from quickdraw_tfrecords.format import manifest as manifests


@pytest.fixture(scope="module")
def directory(data_dir) -> Path:
    return data_dir / "quickdraw" / "1.0.0"


@pytest.fixture(scope="module")
def manifest(directory) -> manifests.Manifest:
    return manifests.read_manifest(directory)


def run_inspect(*arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "quickdraw_tfrecords.commands.inspect", *map(str, arguments)]
    root = Path(__file__).parents[3]
    return subprocess.run(command, cwd=root, capture_output=True, text=True)


def places(sheet: np.ndarray, image: np.ndarray) -> list[tuple[int, int]]:
    """Where an image stands on a sheet, as (row, column)."""
    windows = np.lib.stride_tricks.sliding_window_view(sheet, image.shape)
    begins = np.argwhere((windows[:, :, 0] == image[0]).all(axis=2)).tolist()
    return [(y, x) for y, x in begins if np.array_equal(windows[y, x], image)]


def test_the_command_says_what_there_is_and_writes_the_sheet(data_dir, tmp_path):
    png = tmp_path / "sheet"
    done = run_inspect(f"--data_dir={data_dir}", f"--png={png}", "--drawings_per_class=3")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    for line in (
        ["seed", "3"],
        ["record", "861", "bytes"],
        ["classes", "5"],
        ["train", "6", "720", "0.6"],
        ["validation", "1", "80", "0.1"],
        ["test", "2", "200", "0.2"],
        ["total", "9", "1,000", "0.8"],
    ):
        assert line in lines
    assert "not Google's" in done.stdout
    with Image.open(png) as image:
        assert image.format == "PNG"


def test_the_smallest_and_the_largest_class_are_named(manifest):
    request = {**manifest.request, "drawings": [200, 198, 200, 1203, 200]}
    text = inspect.describe(dataclasses.replace(manifest, request=request))
    assert f"{manifest.class_names[1]} (198)" in text
    assert f"{manifest.class_names[3]} (1,203)" in text


def test_what_was_dropped_is_said(manifest):
    assert "dropped" not in inspect.describe(manifest)
    dropped = {"blank": [0, 2, 0, 0, 0], "duplicates": [1000, 0, 0, 0, 234]}
    request = {**manifest.request, "drop": dropped}
    text = inspect.describe(dataclasses.replace(manifest, request=request))
    assert "dropped    2 blank, 1,234 duplicates" in text.splitlines()


@pytest.mark.parametrize(("split", "count"), [("train", 30), ("test", 7), ("validation", 16)])
def test_drawings_are_the_first_that_tfds_reads_of_each_class(directory, manifest, split, count):
    expected = {name: [] for name in manifest.class_names}
    config = tfds.ReadConfig(interleave_cycle_length=1)
    dataset = tfds.builder_from_directory(directory).as_dataset(split=split, read_config=config)
    for record in dataset.as_numpy_iterator():
        expected[manifest.class_names[record["label"]]].append(record["image"][..., 0])
    found = inspect.first_drawings(directory, manifest, split, count)
    assert list(found) == list(expected)
    for name, drawings in found.items():
        np.testing.assert_array_equal(drawings, expected[name][:count])


def test_a_class_with_too_few_drawings_shows_all(directory, manifest):
    found = inspect.first_drawings(directory, manifest, "validation", 50)
    assert [len(drawings) for drawings in found.values()] == [16] * 5


def test_no_more_shards_are_read_than_are_needed(directory, manifest, tmp_path):
    names = [shard.name for shard in manifest.splits["train"]]
    shutil.copy(directory / names[0], tmp_path)
    inspect.first_drawings(tmp_path, manifest, "train", 24)
    with pytest.raises(DataError, match=rf"{names[1]}: missing"):
        inspect.first_drawings(tmp_path, manifest, "train", 25)


@pytest.mark.parametrize("side", [28, 64])
def test_each_drawing_is_on_the_sheet_once_in_the_row_of_its_class(side):
    random = np.random.default_rng(1)
    drawings = {
        name: random.integers(0, 256, (count, side, side), np.uint8)
        for name, count in (("cat", 3), ("dog", 0), ("The Great Wall of China", 2), ("é", 3))
    }
    sheet = np.asarray(inspect.contact_sheet(drawings, side))
    previous = None
    for images in drawings.values():
        found = [places(sheet, 255 - image) for image in images]
        assert [len(where) for where in found] == [1] * len(images)
        rows, columns = zip(*(where[0] for where in found), strict=True) if found else ((), ())
        assert len(set(rows)) <= 1
        assert list(columns) == sorted(set(columns))
        assert previous is None or rows != previous
        previous = rows


def test_a_sheet_of_all_classes_is_about_square_and_every_name_is_written():
    drawings = {name: np.zeros((10, 28, 28), np.uint8) for name in quickdraw_class_names()}
    sheet = inspect.contact_sheet(drawings, 28)
    assert 0.6 < sheet.width / sheet.height < 1.6
    rows = np.asarray(sheet)[4:][: (sheet.height - 4) // 32 * 32].reshape(-1, 32, sheet.width)
    assert (rows < 128).any(axis=(1, 2)).all()
    assert (np.asarray(sheet)[:, -4:] == 255).all()


def test_an_unknown_split_is_misuse(data_dir):
    done = run_inspect(f"--data_dir={data_dir}", "--split=dev")
    assert done.returncode == 2
    assert done.stderr == "error: --split=dev: must be one of train, validation, test\n"


def test_no_data_set_is_one_line(tmp_path):
    done = run_inspect(f"--data_dir={tmp_path}")
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: {tmp_path}: has no manifest.json")
    assert done.stderr.count("\n") == 1
