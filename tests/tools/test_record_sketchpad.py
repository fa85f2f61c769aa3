"""A moving picture is recorded of a run that guesses, and of what it recognizes only."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from quickdraw_tfrecords.base.errors import UsageError
from tests.trained import make_run
from tools import record_sketchpad
from trainer.run_directory.runs import TrainedRun
from trainer.serving.classifier import Classifier
from trainer.serving.sketchpad import app

HOUSE = [[[0, 0, 180, 180, 0], [90, 225, 225, 90, 90]], [[0, 92, 180], [90, 0, 90]]]


@pytest.fixture(scope="module")
def run(tmp_path_factory, data_dir) -> TrainedRun:
    return make_run(tmp_path_factory.mktemp("runs") / "one", data_dir)


@pytest.fixture(scope="module")
def classifier(run) -> Classifier:
    return Classifier.of(run)


def write_strokes(folder: Path, name: str, *, recognized: bool) -> None:
    line = json.dumps({"drawing": HOUSE, "recognized": recognized})
    (folder / f"{name}.ndjson").write_text(f"{line}\n")


@pytest.mark.slow
@pytest.mark.usefixtures("cairo")
def test_the_picture_shows_the_strokes_one_after_the_other(run, classifier, tmp_path):
    if not shutil.which("chromium"):
        pytest.skip("needs the browser Chromium")
    name = app.guess(classifier, HOUSE)["guesses"][0]["class"]
    write_strokes(tmp_path, name, recognized=True)
    command = [sys.executable, "-m", "tools.record_sketchpad", f"--run_dir={run.directory}"]
    command += [f"--strokes_dir={tmp_path}", f"--classes={name}", f"--webp={tmp_path}/a.webp"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    picture = Image.open(tmp_path / "a.webp")
    ink = []
    for number in range(picture.n_frames):
        picture.seek(number)
        ink.append(sum(picture.convert("L").histogram()[:60]))
    assert len(ink) > 4
    assert ink[-1] > 2 * ink[0]


@pytest.mark.usefixtures("cairo")
def test_what_is_not_recognized_is_not_shown(classifier, tmp_path):
    guesses = [each["class"] for each in app.guess(classifier, HOUSE)["guesses"]]
    write_strokes(tmp_path, guesses[0], recognized=False)
    write_strokes(tmp_path, guesses[1], recognized=True)
    for name in guesses[:2]:
        with pytest.raises(UsageError, match=f"{name}.ndjson: has no drawing that the run"):
            record_sketchpad.choose(classifier, tmp_path, name)
