"""Tests of quickdraw predict."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import quickdraw_tfrecords as qt
from quickdraw_tfrecords.base.errors import DataError
from quickdraw_tfrecords.bitmaps import rasterization
from quickdraw_tfrecords.reading import drawings
from tests.trained import make_run
from trainer.commands import predict
from trainer.run_directory.runs import TrainedRun
from trainer.serving import drawing_files
from trainer.serving.drawing_files import Drawing

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir) -> TrainedRun:
    return make_run(tmp_path_factory.mktemp("runs") / "one", data_dir)


@pytest.fixture(scope="module")
def bitmaps(data_dir) -> np.ndarray:
    return drawings.read_at(qt.open_dataset(data_dir), "test", np.arange(7))


def command(*arguments: object) -> subprocess.CompletedProcess:
    words = [sys.executable, "-m", "trainer.commands.predict", *map(str, arguments)]
    root = Path(__file__).parents[3]
    return subprocess.run(words, cwd=root, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.usefixtures("cairo")
def test_every_drawing_is_predicted_and_every_wrong_file_is_told(run, bitmaps, tmp_path):
    np.save(tmp_path / "rows.npy", bitmaps.reshape(7, -1))
    Image.fromarray(255 - bitmaps[3]).save(tmp_path / "picture.png")
    (tmp_path / "not.jpg").write_text("hello")
    lines = (GOLDEN / "drawings.ndjson").read_text().splitlines()[:2]
    (tmp_path / "cut.ndjson").write_text("\n".join([*lines, lines[0][:40]]))
    files = [tmp_path / name for name in ("not.jpg", "rows.npy", "no.npy", "cut.ndjson")]
    done = command(
        f"--run_dir={run.directory}", "--json", *files, "--top=3", tmp_path / "picture.png"
    )
    found = [json.loads(line) for line in done.stdout.splitlines()]
    places = [(Path(each["file"]).name, each["row"]) for each in found]
    expected_places = [
        *(("rows.npy", row) for row in range(7)),
        ("cut.ndjson", 0),
        ("cut.ndjson", 1),
    ]
    assert places == [*expected_places, ("picture.png", None)]
    drawn = np.load(GOLDEN / "drawings.npy")[:2].reshape(-1, 28, 28)
    images = np.concatenate([bitmaps, drawn, bitmaps[3:4]])
    logits = run.load_model().predict(images[..., None] / np.float32(255), verbose=0)
    for each, expected in zip(found, np.array(keras.ops.softmax(logits)), strict=True):
        order = np.argsort(-expected)[:3]
        assert [p["class"] for p in each["predictions"]] == [run.class_names[i] for i in order]
        values = [p["probability"] for p in each["predictions"]]
        np.testing.assert_allclose(values, expected[order], rtol=1e-4)
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert [Path(line.split(": ")[1]).name for line in errors] == [
        "not.jpg",
        "no.npy",
        "cut.ndjson",
    ]
    assert "line 3: not JSON" in errors[2]
    assert "Traceback" not in done.stderr
    assert done.returncode == 1


def test_no_files_are_misuse(tmp_path):
    done = command(f"--run_dir={tmp_path}")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "name the files to look at" in done.stderr


def test_a_picture_has_lines_of_its_own_and_a_row_has_one():
    best = [("The Mona Lisa", 0.9312), ("cat", 0.0004)]
    bitmap = np.zeros((28, 28), np.uint8)
    assert predict.to_text(Drawing("a.png", None, bitmap), best).splitlines() == [
        "a.png", "   93.1%  The Mona Lisa", "    0.0%  cat",
    ]  # fmt: skip
    text = predict.to_text(Drawing("a.npy", 12, bitmap), best)
    assert text == "a.npy[12]  The Mona Lisa 93.1%, cat 0.0%"


@pytest.mark.parametrize("shape", [(7, 784), (7, 28, 28), (7, 28, 28, 1), (28, 28), (0, 784)])
def test_bitmaps_of_every_usual_shape_are_read(bitmaps, tmp_path, shape):
    path = tmp_path / "drawings.npy"
    array = np.resize(bitmaps, shape)
    np.save(path, array)
    found = np.reshape(list(drawing_files.read_bitmaps(path, 28)), (-1, 28, 28))
    np.testing.assert_array_equal(found, array.reshape(-1, 28, 28))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((3, 784)), "dtype is float64, must be uint8"),
        (np.zeros((3, 4096), np.uint8), r"shape is \(3, 4096\), must be \(drawings, 784\)"),
        (np.zeros(784, np.uint8), r"shape is \(784,\)"),
        (np.array(3, np.uint8), r"shape is \(\)"),
        (np.array([{}], object), "not a whole .npy file"),
    ],
)
def test_an_array_of_another_kind_is_told(tmp_path, array, message):
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=rf"a\.npy: {message}"):
        drawing_files.read_bitmaps(tmp_path / "a.npy", 28)


@pytest.mark.parametrize("size", [0, 5, 60, 128, 128 + 783])
def test_an_array_cut_short_is_told(tmp_path, size):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3, 784), np.uint8))
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(DataError, match=r"a\.npy: not a (whole )?\.npy file"):
        drawing_files.read_bitmaps(path, 28)


def test_an_array_cut_short_while_it_is_read_is_told(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((3000, 784), np.uint8))
    bitmaps = drawing_files.read_bitmaps(path, 28)
    next(bitmaps)
    os.truncate(path, 128 + 1025 * 784 + 5)
    with pytest.raises(DataError, match=r"a\.npy: was changed while it was being read"):
        list(bitmaps)


@pytest.mark.parametrize("name", ["a.png", "a.npy", "a.ndjson"])
def test_a_fifo_is_told_and_the_next_file_is_read(bitmaps, tmp_path, name):
    os.mkfifo(tmp_path / name)
    np.save(tmp_path / "good.npy", bitmaps)
    lines: list[str] = []
    files = [str(tmp_path / name), str(tmp_path / "good.npy")]
    assert len(list(drawing_files.read_all(files, 28, lines.append))) == len(bitmaps)
    assert lines == [f"{tmp_path / name}: is not a regular file"]


@pytest.mark.parametrize("kind", ["EPS", "PCX", "TIFF", "BMP", "GIF"])
def test_only_documented_formats_are_pictures_whatever_they_are_called(tmp_path, kind):
    path = tmp_path / "a.png"
    Image.new("RGB", (90, 90)).save(path, kind)
    with pytest.raises(DataError, match="it is not a PNG or JPEG file"):
        drawing_files.read_picture(path, 28)


def test_a_line_without_an_end_is_told(tmp_path):
    path = tmp_path / "a.ndjson"
    path.write_bytes(b"[" * 5_000_000)
    with pytest.raises(DataError, match=r"a\.ndjson: line 1: it is longer than any drawing's"):
        next(drawing_files.read_strokes(path, 28))


def test_a_picture_that_is_none_is_told(tmp_path):
    path = tmp_path / "a.png"
    path.write_text("hello")
    with pytest.raises(DataError, match=r"a\.png: not a picture that .*, and not called"):
        drawing_files.read_picture(path, 28)
    Image.new("L", (90, 90), 255).save(path)
    with pytest.raises(DataError, match=r"a\.png: is blank"):
        drawing_files.read_picture(path, 28)
    noise = np.random.default_rng(1).integers(0, 256, (90, 90), np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:5000])
    with pytest.raises(DataError, match=r"a\.png: not a picture that can be read"):
        drawing_files.read_picture(path, 28)


@pytest.mark.usefixtures("cairo")
def test_raw_strokes_are_simplified_and_simplified_ones_are_not(tmp_path):
    simplified = rasterization.parse((GOLDEN / "drawings.ndjson").read_bytes().splitlines()[0])[
        "drawing"
    ]
    raw = [[[7 * x for x in xs], [7 * y for y in ys], [0] * len(xs)] for xs, ys in simplified]
    path = tmp_path / "a.ndjson"
    path.write_text("\n".join(json.dumps({"drawing": each}) for each in (simplified, raw)))
    first, second = drawing_files.read_strokes(path, 28)
    expected = np.load(GOLDEN / "drawings.npy")[0].reshape(28, 28)
    np.testing.assert_array_equal(first, expected)
    assert np.abs(second.astype(int) - expected).sum() < 0.2 * expected.sum()
