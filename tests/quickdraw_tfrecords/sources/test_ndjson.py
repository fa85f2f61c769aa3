"""Tests of quickdraw_tfrecords.sources.ndjson."""

import json
import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base import workers
from quickdraw_tfrecords.base.errors import DataError, UsageError
from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.sources.ndjson import NdjsonSource
from quickdraw_tfrecords.writing import converter
from quickdraw_tfrecords.writing.config import ConvertConfig

pytestmark = pytest.mark.usefixtures("cairo")


def scribbles(count: int, seed: int = 0) -> list[list[list[list[int]]]]:
    random = np.random.default_rng(seed)
    return [
        [random.integers(0, 256, (2, random.integers(1, 9))).tolist() for _ in range(3)]
        for _ in range(count)
    ]


def line(drawing, *, recognized: bool = True) -> str:
    return json.dumps({"word": "cat", "recognized": recognized, "drawing": drawing})


CAT, ZIGZAG = scribbles(700, seed=1), scribbles(300, seed=2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A drawing in three was not recognized; one file ends without a line's end."""
    for name, drawings in (("zigzag", ZIGZAG), ("cat", CAT)):
        lines = [line(drawing, recognized=i % 3 != 1) for i, drawing in enumerate(drawings)]
        (tmp_path / f"{name}.ndjson").write_text("\n".join(lines) + "\n" * (name == "cat"))
    return tmp_path


def break_line(path: Path, number: int, text: str) -> None:
    lines = path.read_text().splitlines()
    lines[number - 1] = text
    path.write_text("\n".join(lines))


@pytest.mark.parametrize("side", [28, 64])
def test_rows_are_the_lines_drawn(folder, pool, side):
    source = NdjsonSource.open(folder, pool=pool, side=side)
    assert source.class_names == ("cat", "zigzag")
    assert source.counts == (700, 300)
    rows = np.arange(0, 700, 2)
    expected = rasterization.rasterize(CAT[::2], side)
    np.testing.assert_array_equal(source.read(0, rows), expected)
    np.testing.assert_array_equal(source.source_rows(0, rows), rows)
    np.testing.assert_array_equal(
        source.read(1, np.array([299])), rasterization.rasterize(ZIGZAG[299:], side)
    )


def test_drawings_that_were_not_recognized_can_be_left_out(folder, pool):
    source = NdjsonSource.open(folder, ["cat"], pool=pool, recognized=True)
    lines = np.array([i for i in range(700) if i % 3 != 1])
    assert source.counts == (len(lines),)
    rows = np.arange(100, 130)
    np.testing.assert_array_equal(source.source_rows(0, rows), lines[rows])
    expected = rasterization.rasterize([CAT[i] for i in lines[rows]])
    np.testing.assert_array_equal(source.read(0, rows), expected)


def test_raw_drawings_are_simplified(tmp_path, pool):
    random = np.random.default_rng(3)
    raw = [
        [[*random.normal(0, 90, (2, 60)).cumsum(1).round(2).tolist(), [*range(60)]]]
        for _ in range(40)
    ]
    (tmp_path / "cat.ndjson").write_text("\n".join(map(line, raw)))
    source = NdjsonSource.open(tmp_path, pool=pool, stroke_format="raw")
    np.testing.assert_array_equal(
        source.read(0, np.arange(40)), rasterization.rasterize(raw, raw=True)
    )
    with pytest.raises(DataError, match=r"line 1: coordinates from .*--stroke_format=raw.*40 brok"):
        NdjsonSource.open(tmp_path, pool=pool)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("{", "not JSON"),
        ('{"word": "cat"}', "key 'drawing'"),
        (line([]), "the drawing is empty"),
        (line([[[1, 2], [3]]]), "x has 2 numbers, y has 1"),
        (line([[[1, 300], [3, 4]]]), "coordinates from 0 to 300"),
    ],
)
def test_a_broken_line_is_named_and_counted(folder, pool, text, wrong):
    path = folder / "cat.ndjson"
    break_line(path, 500, text)
    break_line(path, 300, text)
    found = f"{re.escape(str(path))}: line 300: .*{re.escape(wrong)}.*; 2 broken in all"
    with pytest.raises(DataError, match=f"{found}, --max_bad=0 allows 0.*--max_bad=2"):
        NdjsonSource.open(folder, pool=pool)
    with pytest.raises(DataError, match=f"{found}, --max_bad=1 allows 1"):
        NdjsonSource.open(folder, pool=pool, max_bad=1)
    source = NdjsonSource.open(folder, pool=pool, max_bad=2)
    assert source.counts == (698, 300)
    np.testing.assert_array_equal(source.source_rows(0, np.array([299, 498])), [300, 500])
    expected = rasterization.rasterize([CAT[300], CAT[500]])
    np.testing.assert_array_equal(source.read(0, np.array([299, 498])), expected)
    assert source.describe()["files"]["cat.ndjson"]["broken"] == 2


def test_empty_lines_are_no_drawings(folder, pool):
    break_line(folder / "cat.ndjson", 300, "")
    (folder / "zigzag.ndjson").write_text((folder / "zigzag.ndjson").read_text() + "\n\n\r\n")
    assert NdjsonSource.open(folder, pool=pool).counts == (699, 300)


def test_recognized_needs_that_field(folder, pool):
    break_line(folder / "cat.ndjson", 7, json.dumps({"drawing": CAT[6]}))
    assert NdjsonSource.open(folder, pool=pool).counts == (700, 300)
    with pytest.raises(DataError, match="line 7: has no true or false 'recognized'"):
        NdjsonSource.open(folder, pool=pool, recognized=True)


def test_a_file_of_another_kind_does_not_fill_the_memory(folder, pool):
    with open(folder / "cat.ndjson", "ab") as file:
        file.truncate(1 << 26)  # zeros, without a line's end
    with pytest.raises(DataError, match=r"cat.ndjson: line 701 is not a drawing: it has no end"):
        NdjsonSource.open(folder, pool=pool)


def test_a_file_changed_after_opening_is_found(folder, pool):
    source = NdjsonSource.open(folder, pool=pool)
    break_line(folder / "cat.ndjson", 9, "{" * len(line(CAT[8])))
    with pytest.raises(DataError, match=r"cat.ndjson: line 9: not JSON.*changed meanwhile"):
        source.read(0, np.arange(20))
    (folder / "cat.ndjson").write_text("")
    with pytest.raises(DataError, match=r"cat.ndjson: line 20: .*changed meanwhile"):
        source.read(0, np.array([19]))


def test_the_description_tells_one_from_another(folder, pool, tmp_path):
    first = NdjsonSource.open(folder, pool=pool).describe()
    assert json.loads(json.dumps(first)) == NdjsonSource.open(folder, pool=pool).describe()
    assert NdjsonSource.open(folder, pool=pool, side=32).describe() != first
    assert NdjsonSource.open(folder, pool=pool, recognized=True).describe() != first
    break_line(folder / "cat.ndjson", 4, line(scribbles(1)[0]))
    assert NdjsonSource.open(folder, pool=pool).describe() != first


def test_what_is_sent_to_workers_is_small(folder, pool):
    assert len(pickle.dumps(NdjsonSource.open(folder, pool=pool))) < 2000


def test_a_folder_that_is_missing_or_empty_is_misuse(tmp_path, pool):
    with pytest.raises(UsageError, match=r"--source_dir=.*/nowhere: no such directory"):
        NdjsonSource.open(tmp_path / "nowhere", pool=pool)
    with pytest.raises(UsageError, match=r"--source_dir=.*: holds no .ndjson files"):
        NdjsonSource.open(tmp_path, pool=pool)


def test_a_conversion_of_another_side_is_read(folder, pool, tmp_path):
    source = NdjsonSource.open(folder, pool=pool, side=64)
    converter.convert(source, tmp_path / "data", ConvertConfig(per_class=300, seed=1), pool=pool)
    info = qt.open_dataset(tmp_path / "data")
    assert info.side == 64
    assert info.class_names == ("cat", "zigzag")
    wanted = {
        (label, image.tobytes())
        for label, drawings in enumerate((CAT, ZIGZAG))
        for image in rasterization.rasterize(drawings, 64)
    }
    seen = 0
    for split in ("train", "validation", "test"):
        for images, labels in qt.load(tmp_path / "data", split, batch_size=50, shuffle=False):
            assert images.shape[1:] == (64, 64, 1)
            for image, label in zip(images.numpy(), labels.numpy(), strict=True):
                assert (int(label), image.tobytes()) in wanted
                seen += 1
    assert seen == 600


def test_the_same_bytes_whatever_the_workers(folder, pool, tmp_path):
    settings, written = ConvertConfig(per_class=200, shards=4), []
    with workers.pool(1) as other:
        for number, executor in enumerate((pool, other)):
            source = NdjsonSource.open(folder, pool=executor, recognized=True)
            directory = converter.convert(source, tmp_path / f"{number}", settings, pool=executor)
            written.append({path.name: path.read_bytes() for path in directory.iterdir()})
    assert written[0] == written[1]


def convert(*flags: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "quickdraw_tfrecords", "--workers=1", *flags]
    return subprocess.run(command, capture_output=True, text=True)


def test_the_command_takes_its_flags(folder, tmp_path):
    flags = ["--source=strokes", f"--source_dir={folder}", f"--data_dir={tmp_path / 'data'}"]
    flags += ["--per_class=90", "--recognized", "--side=20", "--stroke_format=raw", "--max_bad=1"]
    break_line(folder / "cat.ndjson", 300, "[]")
    run = convert(*flags)
    assert run.returncode == 0, run.stderr
    assert "skipped:" in run.stderr
    manifest = json.loads((tmp_path / "data/quickdraw/1.0.0/manifest.json").read_text())
    source = manifest["request"]["source"]
    assert source["kind"] == "strokes"
    assert (source["side"], source["stroke_format"], source["recognized"]) == (20, "raw", True)
    assert source["files"]["cat.ndjson"]["broken"] == 1


@pytest.mark.parametrize(
    "flag", ["--side=64", "--stroke_format=raw", "--recognized", "--max_bad=3", "--tfds_name=a"]
)
def test_a_flag_of_another_source_is_misuse(tmp_path, flag):
    run = convert("--source=synthetic", f"--data_dir={tmp_path}", flag)
    assert run.returncode == 2
    assert f"error: {flag.split('=')[0]} is of --source=" in run.stderr
