"""What `import trainer` offers, by the example in its own docstring."""

import inspect
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

import quickdraw_tfrecords as qt
import trainer
from quickdraw_tfrecords.base.errors import UsageError
from quickdraw_tfrecords.reading import drawings
from tests.trained import make_run


def test_the_example_does_what_it_says(data_dir, tmp_path, monkeypatch):
    (tmp_path / "data").symlink_to(data_dir)
    monkeypatch.chdir(tmp_path)
    images = drawings.read_at(qt.open_dataset("data"), "test", np.arange(7))
    _, *examples, _ = inspect.getdoc(trainer).split("\n\n")
    names = {"images": images}
    for example in examples:
        exec(textwrap.dedent(example), names)
    assert names["metrics"].keys() == {"loss", "top1", "top3"}
    assert len(names["losses"]) == 2
    assert names["probabilities"].shape == (7, 5)
    np.testing.assert_allclose(names["probabilities"].sum(axis=1), 1, rtol=1e-5)
    assert names["top5"] == 1
    assert Path("runs/1/report/index.html").exists()


def test_it_offers_these_and_imports_no_tensorflow():
    code = "import sys, trainer; print(*dir(trainer)); assert 'tensorflow' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Config", "open_run", "train"]


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory, data_dir) -> Path:
    return make_run(tmp_path_factory.mktemp("runs") / "one", data_dir).directory


def test_a_run_is_opened_by_path_or_string_and_predicts_both_shapes(run_dir, data_dir):
    images = drawings.read_at(qt.open_dataset(data_dir), "test", np.arange(7))
    found = trainer.open_run(str(run_dir)).predict(images)
    again = trainer.open_run(run_dir).predict(images[..., np.newaxis])
    np.testing.assert_array_equal(found, again)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((3, 28, 28)), "dtype is float64, must be uint8"),
        (np.zeros((3, 784), np.uint8), r"shape is \(3, 784\), must be \(n, 28, 28\) or"),
        (np.zeros((28, 28), np.uint8), r"shape is \(28, 28\), must be"),
        (np.zeros((3, 28, 28, 3), np.uint8), r"shape is \(3, 28, 28, 3\), must be"),
    ],
)
def test_images_of_another_kind_are_refused(run_dir, images, message):
    with pytest.raises(UsageError, match=f"images: {message}"):
        trainer.open_run(run_dir).predict(images)


def test_an_opened_run_says_what_it_is(run_dir):
    run = trainer.open_run(run_dir)
    assert repr(run) == f"<run {run_dir}: compact_cnn, 5 classes>"
    assert (run.config.model, run.side, len(run.class_names)) == ("compact_cnn", 28, 5)


def test_a_config_that_contradicts_itself_is_refused_before_anything_is_done(tmp_path):
    config = trainer.Config(data_dir="data", run_dir=tmp_path / "run", resume="must")
    with pytest.raises(UsageError, match=r"--resume=must, but .* has no checkpoint"):
        trainer.train(config)
    assert not (tmp_path / "run").exists()
